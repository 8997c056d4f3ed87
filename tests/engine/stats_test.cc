// Stats: histograms and their bounds.
#include "engine/stats.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace baram {
namespace {

using ::testing::ElementsAre;

TEST(HistogramTest, ABucketEndsAtItsBoundIncluded) {
  const double bounds[] = {1, 2, 5};
  Histogram histogram(bounds);
  for (const double value : {0.5, 1.0, 1.5, 2.0, 5.0, 5.1}) histogram.Observe(value);
  for (int i = 0; i < 3; ++i) histogram.Observe(100);
  EXPECT_EQ(histogram.bucket(0), 2u);
  EXPECT_EQ(histogram.bucket(1), 2u);
  EXPECT_EQ(histogram.bucket(2), 1u);
  EXPECT_EQ(histogram.bucket(3), 4u);
  EXPECT_DOUBLE_EQ(histogram.sum(), 315.1);
}

TEST(StatsTest, TokenCountBoundsEndAtTheContext) {
  EXPECT_THAT(TokenCountBounds(1), ElementsAre(1));
  EXPECT_THAT(TokenCountBounds(100), ElementsAre(1, 2, 5, 10, 20, 50, 100));
  EXPECT_THAT(TokenCountBounds(199), ElementsAre(1, 2, 5, 10, 20, 50, 100));
  EXPECT_EQ(TokenCountBounds(8192).back(), 5000);
}

TEST(StatsTest, BoundsAreTheDocuments) {
  EXPECT_EQ(TtftBounds().size(), 22u);
  EXPECT_EQ(TokenTimeBounds().front(), 0.0005);
  EXPECT_EQ(TokenTimeBounds().back(), 80);
  EXPECT_EQ(RequestTimeBounds().front(), 0.3);
  EXPECT_EQ(RequestTimeBounds().back(), 7680);
}

TEST(StatsTest, CountersAndGauges) {
  Stats stats(128, 64);
  stats.steps.Add();
  stats.steps.Add(4);
  stats.running.Set(2.5);
  EXPECT_EQ(stats.steps.value(), 5u);
  EXPECT_EQ(stats.running.value(), 2.5);
  EXPECT_EQ(stats.prompt_length.bounds().back(), 100);
  EXPECT_EQ(stats.step_tokens.bounds().back(), 50);
}

}  // namespace
}  // namespace baram
