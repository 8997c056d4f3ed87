// SteadyTime: a moment of the steady clock, and the number that an atomic holds of it.
#ifndef BARAM_ENGINE_MODEL_STEADY_TIME_H_
#define BARAM_ENGINE_MODEL_STEADY_TIME_H_

#include <chrono>
#include <cstdint>

namespace baram {

using SteadyTime = std::chrono::steady_clock::time_point;

// In ticks of the clock; 0 is SteadyTime{}.
inline int64_t Ticks(SteadyTime time) { return time.time_since_epoch().count(); }
inline SteadyTime FromTicks(int64_t ticks) { return SteadyTime(SteadyTime::duration(ticks)); }

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_STEADY_TIME_H_
