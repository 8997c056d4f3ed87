// What a launch on a device takes that is waited for once, behind all of them.
#ifndef BARAM_BENCH_LAUNCH_TIME_H_
#define BARAM_BENCH_LAUNCH_TIME_H_

#include <cstdint>
#include <functional>

namespace baram::bench {

// The seconds of so many launches, one after the other, and of waiting for the last.
using SecondsTogether = std::function<double(int64_t launches)>;

// Seconds of one launch, from `launches` and then twice as many: to wait takes some 20 to 60 us,
// as long for any number of launches, and is not in the difference. At least half of what the
// second series says, for where the first was disturbed. One sample: the median of several counts.
double SecondsOfLaunch(int64_t launches, const SecondsTogether& together);

// The median of an odd number of samples of it, after one that warms up.
double MedianSecondsOfLaunch(int samples, int64_t launches, const SecondsTogether& together);

}  // namespace baram::bench

#endif  // BARAM_BENCH_LAUNCH_TIME_H_
