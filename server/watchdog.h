// Watchdog: notices faults of an engine that only a new process can mend, while a server runs and
// while it stops.
#ifndef BARAM_SERVER_WATCHDOG_H_
#define BARAM_SERVER_WATCHDOG_H_

#include <chrono>
#include <functional>
#include <future>
#include <thread>

#include "engine/engine.h"
#include "server/awake_time.h"

namespace baram::server {

// One thread at a time.
class Watchdog {
 public:
  // A part of a layer of a large model takes seconds on few cores.
  static constexpr double kStuckS = 60;
  // How often to look.
  static constexpr auto kInterval = std::chrono::milliseconds(500);

  // `engine` must outlive it. Starts the thread of Await, for which there may be none left then.
  explicit Watchdog(const Engine& engine, double stuck_s = kStuckS,
                    double standstill_s = AwakeTime::kStandstillS);
  ~Watchdog();

  // 0 while all is well, else the code with which the process must exit: kExitOs once the device is
  // lost, kExitInternal when nothing has moved for `stuck_s`, counted anew where the process itself
  // stood still, for `standstill_s` or more.
  int Look();

  // Once: runs `stop`, which drains the server, on a thread of its own, and keeps looking
  // meanwhile. As long as something moves, each look ends with a call of `look`, which tells others
  // what was seen; it runs on the caller's thread and must not block. Returns Look's answer once
  // `stop` is done and no step is in flight: joining the engine would wait for that step. Returns
  // kExitInternal as soon as nothing moves: then `stop` may still run, no thread can be joined, and
  // only _exit ends the process.
  int Await(std::function<void()> stop, const std::function<void()>& look);

 private:
  const Engine& engine_;
  const double stuck_s_;
  AwakeTime awake_;
  std::promise<std::function<void()>> stop_;  // empty: there is nothing to do
  std::future<void> stopped_;
  std::thread thread_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_WATCHDOG_H_
