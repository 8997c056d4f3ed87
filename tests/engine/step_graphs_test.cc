// Graphs of decode steps on the fake device: the buckets, when a step is captured and when it is
// replayed, and that nothing but speed depends on it.
#include "engine/step_graphs.h"

#include <array>

#include "engine/sizes.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/rig.h"

namespace baram::testing {
namespace {

using ::testing::ElementsAre;

TEST(StepBucketsTest, AreFewAndNear) {
  EXPECT_THAT(StepBuckets(1), ElementsAre(1));
  EXPECT_THAT(StepBuckets(6), ElementsAre(1, 2, 4, 6));
  EXPECT_THAT(StepBuckets(20), ElementsAre(1, 2, 4, 8, 16, 20));
  EXPECT_THAT(StepBuckets(100),
              ElementsAre(1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 100));
  EXPECT_EQ(StepBuckets(256).size(), 27u);
  EXPECT_EQ(StepBuckets(1024).size(), 43u);
}

TEST(StepBucketsTest, HoldEveryStepAndPadLittle) {
  for (const int32_t most : {1, 3, 64, 65, 300, 1000}) {
    const std::vector<int32_t> buckets = StepBuckets(most);
    EXPECT_TRUE(std::ranges::is_sorted(buckets, std::less_equal<>()) || buckets.size() == 1);
    ASSERT_EQ(buckets.back(), most);
    for (int32_t rows = 1; rows <= most; ++rows) {
      const int32_t padded = *std::ranges::lower_bound(buckets, rows);
      if (rows <= 64) {
        EXPECT_LT(padded - rows, 8) << rows;
      } else {
        EXPECT_LT(8 * (padded - rows), rows) << rows;
      }
    }
  }
}

FakeOptions WithGraphs() {
  FakeOptions fake;
  fake.planning_depth = 2;
  fake.graphs = true;
  return fake;
}

// Runs `count` requests at once, comparing all outputs with the model's definition.
void RunTogether(EngineRig& rig, int32_t count, int32_t output) {
  std::vector<Client*> clients;
  for (int32_t i = 0; i < count; ++i) {
    clients.push_back(rig.Submit(MakeRequest(RandomPrompt(i, 3), output + i)));
  }
  ASSERT_TRUE(rig.Finish());
  for (const Client* client : clients) ExpectExact(rig, *client, {0, 6});
}

TEST(StepGraphsTest, ABucketRunsOnceIsCapturedOnceAndThenRunsAgain) {
  EngineRig rig(WithGraphs(), SmallConfig(), {0, 6});
  const StepGraphs& graphs = rig.runner().graphs();
  EXPECT_EQ(graphs.captures(), 0) << "nothing is captured at start";
  // Its prompt of three tokens is not a decode step, nor does it have to be captured.
  RunTogether(rig, 1, 2);
  EXPECT_EQ(graphs.captures(), 0);
  RunTogether(rig, 1, 2);
  EXPECT_EQ(graphs.captures(), 1);
  EXPECT_EQ(graphs.replays(), 1);
  RunTogether(rig, 1, 10);
  EXPECT_EQ(graphs.captures(), 1);
  EXPECT_EQ(graphs.replays(), 10);
}

TEST(StepGraphsTest, BatchesThatShrinkUseSmallerBuckets) {
  EngineRig rig(WithGraphs(), SmallConfig(), {0, 6});
  RunTogether(rig, 8, 12);
  const StepGraphs& graphs = rig.runner().graphs();
  EXPECT_GE(graphs.captures(), 2);
  EXPECT_LE(graphs.captures(), 4) << "1, 2, 4 and 8";
  const int64_t captures = graphs.captures();
  RunTogether(rig, 8, 12);
  EXPECT_LE(graphs.captures(), 4);
  EXPECT_GE(graphs.captures(), captures);
}

TEST(StepGraphsTest, ARefusedCaptureCostsNothingButSpeed) {
  FakeOptions fake = WithGraphs();
  fake.fail_captures = -1;
  EngineRig rig(fake, SmallConfig(), {0, 6});
  RunTogether(rig, 8, 12);
  EXPECT_EQ(rig.runner().graphs().captures(), 0);
  EXPECT_EQ(rig.runner().graphs().replays(), 0);
  EXPECT_GE(rig.runner().graphs().refusals(), 1);
}

TEST(StepGraphsTest, ARefusedCaptureIsTriedOnceMore) {
  FakeOptions fake = WithGraphs();
  fake.fail_captures = 1;
  EngineRig rig(fake, SmallConfig(), {0, 6});
  const StepGraphs& graphs = rig.runner().graphs();
  RunTogether(rig, 1, 3);  // two one-row steps: the first runs, capturing the second is refused
  EXPECT_EQ(graphs.captures(), 0);
  EXPECT_EQ(graphs.refusals(), 0);
  RunTogether(rig, 1, 10);
  EXPECT_EQ(graphs.captures(), 1);
  EXPECT_EQ(graphs.replays(), 9);

  fake.fail_captures = 2;
  EngineRig refused(fake, SmallConfig(), {0, 6});
  RunTogether(refused, 1, 10);
  EXPECT_EQ(refused.runner().graphs().captures(), 0) << "not a third time";
  EXPECT_EQ(refused.runner().graphs().refusals(), 1);
}

TEST(StepGraphsTest, NoDeviceWithoutGraphsIsAskedForThem) {
  EngineConfig config = SmallConfig();
  config.enforce_eager = true;
  EngineRig eager(WithGraphs(), config, {0, 6});
  RunTogether(eager, 8, 12);
  EXPECT_EQ(eager.runner().graphs().captures(), 0);
  EngineRig without({.planning_depth = 2}, SmallConfig(), {0, 6});  // checks that none is padded
  RunTogether(without, 8, 12);
  EXPECT_EQ(without.runner().graphs().captures(), 0);
}

TEST(StepGraphsTest, ScoresAndChunksAreNoDecodes) {
  // A one-token row that is scored looks like a decode by its counts.
  Request request = MakeRequest(RandomPrompt(1, 9), 1);
  request.prompt_logprobs = 0;
  EngineConfig config = SmallConfig();
  config.max_chunk_tokens = 1;
  EngineRig rig(WithGraphs(), config, {0, 6});
  Client* client = rig.Submit(std::move(request));
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(client->scores.size(), 8u);
  EXPECT_EQ(rig.runner().graphs().captures(), 0);
}

TEST(StepRunnerTest, WarmsUpTheUsualStepsOfAnAsynchronousDevice) {
  const auto steps = [](int32_t depth, int32_t most_tokens, int32_t pages,
                        const std::vector<int32_t>& windows = {0}) {
    int32_t attends = 0;
    FakeOptions fake;
    fake.planning_depth = depth;
    fake.in_attend = [&attends] { ++attends; };
    EngineConfig config = SmallConfig();
    config.max_num_batched_tokens = most_tokens;
    const EngineRig rig(fake, config, windows, pages);
    return attends;
  };
  EXPECT_EQ(steps(1, 24, 0), 1);
  EXPECT_EQ(steps(2, 24, 0), 7) << "1, 2, 4, 8, 16 and 24 tokens, and rows of 1, 2, 4 and 8";
  EXPECT_EQ(steps(2, 16, 0), 6);
  EXPECT_EQ(steps(2, 24, 4), 4) << "more rows have no pages";
  EXPECT_EQ(steps(2, 24, 0, {0, 0, 0, 0, 0}), 5 + 6 * 2) << "then the first layer and the last";
  EXPECT_EQ(steps(2, 24, 0, {6, 0, 6, 0}), 4 + 6 * 3) << "the first of each kind and the last";
  EXPECT_EQ(steps(1, 24, 0, {0, 0, 0}), 3);
}

TEST(StepRunnerTest, DrawsAStepBeforeItWaitsForTheStepBefore) {
  int32_t drawn = 0;
  std::vector<int32_t> drawn_at_wait;
  FakeOptions fake;
  fake.planning_depth = 2;
  fake.in_sample = [&] { ++drawn; };
  fake.in_wait = [&] { drawn_at_wait.push_back(drawn); };
  EngineRig rig(fake, SmallConfig(), {0, 6});
  drawn = 0;  // the warm-up is over
  drawn_at_wait.clear();
  Client* client = rig.Submit(MakeRequest(RandomPrompt(1, 3), 5));
  ASSERT_TRUE(rig.Finish());
  ExpectExact(rig, *client, {0, 6});
  EXPECT_THAT(drawn_at_wait, ElementsAre(2, 3, 4, 5, 5)) << "nothing follows the last";
}

TEST(StepRunnerTest, WhatFollowsALostStepIsLostAndDoesNotReachTheDevice) {
  for (const int32_t depth : {1, 2}) {
    int64_t waits = 0;
    EngineRig rig({.planning_depth = depth, .lost_at = 2, .in_wait = [&] { ++waits; }},
                  SmallConfig(), {0});
    StepRunner runner(rig.model());
    std::array<Batch, 2> batches;
    for (Batch& batch : batches) {
      batch.Reserve(rig.model().slots, rig.info().page_tokens);
      batch.Clear();
      Batch* const finished = runner.Run(&batch);
      EXPECT_EQ(depth > 1 ? runner.Flush() : finished, &batch);
      EXPECT_TRUE(batch.lost);
      EXPECT_EQ(waits, 2) << "the warm-up's, and the step that was lost";
    }
  }
}

TEST(StepGraphsTest, TheirMemoryIsCountedBeforehand) {
  const ModelSpec spec = TinySpec({0, 6});
  EngineConfig config;
  config.max_num_seqs = 64;
  config.max_num_batched_tokens = 64;
  constexpr int64_t kGrain = 64 << 10;
  // The least memory into which the engine fits.
  const auto least = [&](bool enforce_eager) {
    config.enforce_eager = enforce_eager;
    FakeOptions fake = WithGraphs();
    fake.memory_bytes = kGrain;
    while (!SizeEngine(config, spec, FakeDevice(fake)).ok()) fake.memory_bytes += kGrain;
    return fake.memory_bytes;
  };
  const FakeDevice device(WithGraphs());
  const int64_t graphs = StepGraphBytes(spec, device, StepBuckets(64));
  EXPECT_EQ(StepGraphBytes(spec, device, {}), 0);
  EXPECT_GT(graphs, std::ssize(StepBuckets(64)) * kGrain);
  EXPECT_GE(least(false), least(true) + graphs - kGrain);
}

}  // namespace
}  // namespace baram::testing
