// AwakeTime: how long this process has run without being suspended, as it is under SIGSTOP, in a
// frozen container or on a sleeping machine. What was delayed meanwhile is not to blame for the
// delay.
#ifndef BARAM_SERVER_AWAKE_TIME_H_
#define BARAM_SERVER_AWAKE_TIME_H_

#include <algorithm>
#include <chrono>
#include <mutex>

#include "engine/engine.h"
#include "engine/steady_time.h"

namespace baram::server {

// Thread-safe.
class AwakeTime {
 public:
  // Looks are this far apart only if nothing runs: kubelet looks every 10 s, a watchdog more often.
  static constexpr double kStandstillS = 15;

  explicit AwakeTime(double standstill_s = kStandstillS) : standstill_s_(standstill_s) {}

  // Seconds since the start, or since the first look after a suspension: a gap of more than
  // `standstill_s` between looks. Must be called regularly.
  double Look() {
    std::lock_guard lock(mutex_);
    const SteadyTime now = std::chrono::steady_clock::now();
    if (SecondsBetween(last_, now) > standstill_s_) since_ = now;
    last_ = now;
    return SecondsBetween(since_, now);
  }

  // For how long the engine has had work and started no part of a layer, at most Look().
  double StalledS(const Engine& engine) {
    // In this order: the process may be suspended between the two.
    const double stalled_s = engine.stalled_s();
    return std::min(stalled_s, Look());
  }

 private:
  const double standstill_s_;
  std::mutex mutex_;
  SteadyTime last_ = std::chrono::steady_clock::now(), since_ = last_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_AWAKE_TIME_H_
