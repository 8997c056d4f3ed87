// Watchdog: detects engine faults that only a restart can fix, while a server runs and while it
// stops.
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
  static constexpr double kStalledS = 60;
  // The polling interval.
  static constexpr auto kInterval = std::chrono::milliseconds(500);

  // `engine` must outlive it. Starts Await's thread now, since later the system might refuse.
  explicit Watchdog(const Engine& engine, double stalled_s = kStalledS,
                    double standstill_s = AwakeTime::kStandstillS);
  ~Watchdog();

  // 0 while all is well, else the code with which the process must exit: kExitOs once the device is
  // lost, kExitInternal if nothing has moved for `stalled_s`, counted from the last time the
  // process itself was suspended for `standstill_s` or more.
  int Look();

  // Call once: runs `stop`, which drains the server, on its own thread, and keeps watching
  // meanwhile. While there is progress, each check ends with a call of `look`, which reports the
  // state to others; it runs on the caller's thread and must not block. Returns Look's result once
  // `stop` is done and no step is in flight: joining the engine would wait for that step. Returns
  // kExitInternal as soon as nothing moves: `stop` may then still run, no thread can be joined, and
  // only _exit ends the process.
  int Await(std::function<void()> stop, const std::function<void()>& look);

 private:
  const Engine& engine_;
  const double stalled_s_;
  AwakeTime awake_;
  std::promise<std::function<void()>> stop_;  // empty: nothing to do
  std::future<void> stopped_;
  std::thread thread_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_WATCHDOG_H_
