// Stats: histograms and their bounds.
#include "engine/stats.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace baram {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

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

// Dashboards made for vLLM compute percentiles from these bounds.
TEST(StatsTest, BoundsOfTimesAreTheDocuments) {
  EXPECT_THAT(TtftBounds(), ElementsAre(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5,
                                        0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560));
  EXPECT_THAT(TokenTimeBounds(),
              ElementsAre(0.0005, 0.001, 0.002, 0.004, 0.008, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15,
                          0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80));
  EXPECT_THAT(RequestTimeBounds(), ElementsAre(0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40,
                                               50, 60, 120, 240, 480, 960, 1920, 7680));
}

// Each histogram has the bounds of what it counts.
TEST(StatsTest, HistogramsHaveTheirBounds) {
  const Stats stats(/*max_model_len=*/100, /*max_step_tokens=*/20);
  EXPECT_THAT(stats.ttft.bounds(), ElementsAreArray(TtftBounds()));
  for (const Histogram* histogram :
       {&stats.inter_token, &stats.time_per_output_token, &stats.step_time}) {
    EXPECT_THAT(histogram->bounds(), ElementsAreArray(TokenTimeBounds()));
  }
  for (const Histogram* histogram : {&stats.e2e, &stats.queue_time, &stats.prefill_time,
                                     &stats.decode_time, &stats.inference_time}) {
    EXPECT_THAT(histogram->bounds(), ElementsAreArray(RequestTimeBounds()));
  }
  for (const Histogram* histogram :
       {&stats.prompt_length, &stats.generation_length, &stats.asked_tokens, &stats.longest_output,
        &stats.computed_prompt}) {
    EXPECT_THAT(histogram->bounds(), ElementsAre(1, 2, 5, 10, 20, 50, 100));
  }
  EXPECT_THAT(stats.step_tokens.bounds(), ElementsAre(1, 2, 5, 10, 20));
  EXPECT_THAT(stats.asked_outputs.bounds(), ElementsAre(1, 2, 5, 10, 20));
}

TEST(StatsTest, CountersAndGauges) {
  Stats stats(128, 64);
  stats.steps.Add();
  stats.steps.Add(4);
  stats.running.Set(2.5);
  EXPECT_EQ(stats.steps.value(), 5u);
  EXPECT_EQ(stats.running.value(), 2.5);
}

}  // namespace
}  // namespace baram
