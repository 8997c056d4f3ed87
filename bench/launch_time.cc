// A launch's time: the difference of two consecutive series.
#include "bench/launch_time.h"

#include <algorithm>
#include <vector>

#include "kernels/check.h"

namespace baram::bench {

double SecondsOfLaunch(int64_t launches, const SecondsTogether& together) {
  const double once = together(launches);
  const double twice = together(2 * launches);
  return std::max(twice - once, twice / 4) / static_cast<double>(launches);
}

double MedianSecondsOfLaunch(int samples, int64_t launches, const SecondsTogether& together) {
  Check(samples % 2 == 1, "a median is one of the samples");
  SecondsOfLaunch(launches, together);
  std::vector<double> seconds(samples);
  for (double& one : seconds) one = SecondsOfLaunch(launches, together);
  const auto median = seconds.begin() + samples / 2;
  std::ranges::nth_element(seconds, median);
  return *median;
}

}  // namespace baram::bench
