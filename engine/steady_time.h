// SteadyTime: a time point of the steady clock; its ticks, for atomics; seconds between two.
#ifndef BARAM_ENGINE_STEADY_TIME_H_
#define BARAM_ENGINE_STEADY_TIME_H_

#include <chrono>
#include <cstdint>

namespace baram {

using SteadyTime = std::chrono::steady_clock::time_point;

// Ticks of the clock; 0 is SteadyTime{}.
inline int64_t Ticks(SteadyTime time) { return time.time_since_epoch().count(); }
inline SteadyTime FromTicks(int64_t ticks) { return SteadyTime(SteadyTime::duration(ticks)); }

inline SteadyTime After(SteadyTime time, double seconds) {
  return time +
         std::chrono::duration_cast<SteadyTime::duration>(std::chrono::duration<double>(seconds));
}

inline SteadyTime FromNow(double seconds) {
  return After(std::chrono::steady_clock::now(), seconds);
}

// Negative if `to` is earlier.
inline double SecondsBetween(SteadyTime from, SteadyTime to) {
  return std::chrono::duration<double>(to - from).count();
}

inline double SecondsSince(SteadyTime from) {
  return SecondsBetween(from, std::chrono::steady_clock::now());
}

}  // namespace baram

#endif  // BARAM_ENGINE_STEADY_TIME_H_
