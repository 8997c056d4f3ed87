// The time of a launch on a device, from series of launches that are waited for once, at the end.
#ifndef BARAM_BENCH_LAUNCH_TIME_H_
#define BARAM_BENCH_LAUNCH_TIME_H_

#include <cstdint>
#include <functional>

namespace baram::bench {

// Seconds of that many launches, back to back, including waiting for the last.
using SecondsTogether = std::function<double(int64_t launches)>;

// Seconds of one launch, from the difference of two series, of `launches` and of twice as many: the
// wait, some 20 to 60 us for any number of launches, cancels out. At least half of the second
// series' mean, in case the first was disturbed. One sample: take the median of several.
double SecondsOfLaunch(int64_t launches, const SecondsTogether& together);

// The median of an odd number of such samples, after one to warm up.
double MedianSecondsOfLaunch(int samples, int64_t launches, const SecondsTogether& together);

}  // namespace baram::bench

#endif  // BARAM_BENCH_LAUNCH_TIME_H_
