// A launch's time computed from series of launches: waiting time is excluded, and a single
// disturbance shifts it neither up nor down.
#include "bench/launch_time.h"

#include <gtest/gtest.h>

#include <vector>

namespace baram::bench {
namespace {

constexpr double kLaunch = 10e-6;
constexpr double kWait = 50e-6;

double Undisturbed(int64_t launches) { return kWait + kLaunch * static_cast<double>(launches); }

TEST(LaunchTime, LeavesOutTheWait) {
  std::vector<int64_t> series;
  const double seconds = SecondsOfLaunch(8, [&](int64_t launches) {
    series.push_back(launches);
    return Undisturbed(launches);
  });
  EXPECT_NEAR(seconds, kLaunch, 1e-12);
  EXPECT_EQ(series, (std::vector<int64_t>{8, 16}));
}

TEST(LaunchTime, IsAtLeastHalfOfWhatTheSecondSeriesSays) {
  const double seconds =
      SecondsOfLaunch(8, [](int64_t launches) { return launches == 8 ? 1.0 : 160e-6; });
  EXPECT_NEAR(seconds, 5e-6, 1e-12);
}

// One series is disturbed, one happens to be short: each affects only one difference.
TEST(LaunchTime, IsTheMedianOfDifferences) {
  for (const double disturbed : {-40e-6, 70e-6}) {
    for (int at = 0; at < 12; ++at) {
      int series = 0;
      const double seconds = MedianSecondsOfLaunch(5, 8, [&](int64_t launches) {
        return Undisturbed(launches) + (series++ == at ? disturbed : 0);
      });
      EXPECT_EQ(series, 12) << "one more pair warms up";
      EXPECT_NEAR(seconds, kLaunch, 1e-12) << disturbed << " in series " << at;
    }
  }
}

}  // namespace
}  // namespace baram::bench
