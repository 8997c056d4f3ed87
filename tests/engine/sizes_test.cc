// SizeEngine: defaults from the machine and the model, and what does not fit.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/rig.h"

namespace baram::testing {
namespace {

using ::testing::HasSubstr;

TEST(SizesTest, PagesOfASequence) {
  const KvPlan plan = PlanKv(TinySpec({0, 6}), 4);
  ASSERT_EQ(plan.groups.size(), 2u);
  // A window of 6 spans 3 pages at most, and a step in flight may begin one more.
  EXPECT_EQ(PagesForSequence(plan, 8, 1), 4);
  EXPECT_EQ(PagesForSequence(plan, 100, 1), 25 + 4);
  EXPECT_EQ(PagesForSequence(plan, 100, 2), 25 + 5);
}

TEST(SizesTest, TheContextShrinksToWhatTheCacheHolds) {
  const FakeDevice device({.page_tokens = 4});
  const ModelSpec spec = TinySpec({0}, /*max_positions=*/4096);
  EngineConfig config;
  const auto whole = SizeEngine(config, spec, {}, device);
  ASSERT_TRUE(whole.ok());
  EXPECT_EQ(whole->info.max_model_len, 4096);
  EXPECT_EQ(whole->info.max_num_seqs, 32);
  config.kv_cache_bytes = 100 * whole->info.page_bytes;
  const auto shrunk = SizeEngine(config, spec, {}, device);
  ASSERT_TRUE(shrunk.ok());
  EXPECT_EQ(shrunk->info.pages, 100);
  EXPECT_EQ(shrunk->info.max_model_len, 400);
  EXPECT_EQ(shrunk->info.trained_model_len, 4096);
  EXPECT_EQ(shrunk->slots.max_pages_per_slot, 100);
}

TEST(SizesTest, AStepHoldsATokenOfEverySequence) {
  EngineConfig config;
  config.max_num_seqs = 40;
  config.max_num_batched_tokens = 3;
  const auto sizes = SizeEngine(config, TinySpec({0}), {}, FakeDevice({}));
  ASSERT_TRUE(sizes.ok());
  EXPECT_EQ(sizes->info.max_num_batched_tokens, 40);
}

TEST(SizesTest, WhatDoesNotFitSaysWhatToChange) {
  const FakeDevice small({.memory_bytes = 1 << 20});
  EngineConfig config;
  config.kv_cache_bytes = 1 << 30;
  const absl::Status status = SizeEngine(config, TinySpec({0}), {}, small).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("lower the KV cache bytes"));
  EXPECT_TRUE(absl::IsFailedPrecondition(
      SizeEngine({}, TinySpec({0}), {}, FakeDevice({.memory_bytes = 4096})).status()));
  config = {};
  config.page_tokens = 12;
  EXPECT_TRUE(
      absl::IsInvalidArgument(SizeEngine(config, TinySpec({0}), {}, FakeDevice({})).status()));
}

}  // namespace
}  // namespace baram::testing
