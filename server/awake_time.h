// AwakeTime: how long this process has run without standing still itself, as it does under SIGSTOP,
// in a frozen container and on a machine that sleeps. What waits meanwhile waits for no fault of
// its own.
#ifndef BARAM_SERVER_AWAKE_TIME_H_
#define BARAM_SERVER_AWAKE_TIME_H_

#include <chrono>
#include <mutex>

#include "engine/steady_time.h"

namespace baram::server {

// From any thread.
class AwakeTime {
 public:
  // Nobody looks for so long only if nothing runs: kubelet looks every 10 s, a watchdog more often.
  static constexpr double kStandstillS = 15;

  explicit AwakeTime(double standstill_s = kStandstillS) : standstill_s_(standstill_s) {}

  // Seconds since the start, or since the first look after a standstill: a time of `standstill_s`
  // in which nobody looked. To be called every now and then.
  double Look() {
    std::lock_guard lock(mutex_);
    const SteadyTime now = std::chrono::steady_clock::now();
    if (SecondsBetween(last_, now) > standstill_s_) since_ = now;
    last_ = now;
    return SecondsBetween(since_, now);
  }

 private:
  const double standstill_s_;
  std::mutex mutex_;
  SteadyTime last_ = std::chrono::steady_clock::now(), since_ = last_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_AWAKE_TIME_H_
