// The time of a launch on a device, from series of launches that are waited for once, at their end.
#ifndef BARAM_BENCH_LAUNCH_TIME_H_
#define BARAM_BENCH_LAUNCH_TIME_H_

#include <cstdint>
#include <functional>

namespace baram::bench {

// The seconds of so many launches, one after the other, and of waiting for the last.
using SecondsTogether = std::function<double(int64_t launches)>;

// Seconds of one launch, from the difference of two series, of `launches` and of twice as many: the
// wait, some 20 to 60 us for any number of launches, is not in the difference. At least half of
// what the second series says, in case the first was disturbed. One sample: take the median of
// several.
double SecondsOfLaunch(int64_t launches, const SecondsTogether& together);

// The median of an odd number of samples of it, after one that warms up.
double MedianSecondsOfLaunch(int samples, int64_t launches, const SecondsTogether& together);

}  // namespace baram::bench

#endif  // BARAM_BENCH_LAUNCH_TIME_H_
