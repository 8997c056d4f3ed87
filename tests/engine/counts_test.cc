// The engine's counters and measurements, on the fake device.
#include <chrono>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/rig.h"

namespace baram::testing {
namespace {

void ExpectObserved(const char* name, const Histogram& histogram, uint64_t count, double sum) {
  uint64_t seen = 0;
  for (size_t i = 0; i <= histogram.bounds().size(); ++i) seen += histogram.bucket(i);
  EXPECT_EQ(seen, count) << name;
  EXPECT_NEAR(histogram.sum(), sum, 1e-9) << name;
}

// The second output ends after the first, which failed.
TEST(CountsTest, ARequestCountsAsItsWorstOutput) {
  const FakeOptions fake{.nonfinite_divisor = 20};
  Request request = MakeRequest({}, 10);
  request.n = 2;
  std::vector<FinishReason> ends;
  for (uint64_t seed = 1; ends != std::vector{FinishReason::kLength, FinishReason::kFailed};
       ++seed) {
    ASSERT_LT(seed, 1000u);
    request.prompt = RandomPrompt(seed, 6);
    ends.clear();
    for (const int32_t index : {0, 1}) {
      ends.push_back(Expect(request, index, {0}, 256, fake.nonfinite_divisor).reason);
    }
  }
  EngineRig rig(fake, SmallConfig(), {0});
  rig.Submit(request);
  ASSERT_TRUE(rig.Finish());
  const Stats& stats = rig.core().stats();
  EXPECT_EQ(stats.finished[static_cast<size_t>(FinishReason::kFailed)].value(), 1u);
  EXPECT_EQ(stats.finished[static_cast<size_t>(FinishReason::kLength)].value(), 0u);
}

// All were waiting for their readers, for however long, when one came back.
TEST(CountsTest, TimeSpentWaitingIsNoStandstill) {
  EngineRig rig({}, SmallConfig(), {0});
  EngineCore& core = rig.core();
  rig.Submit(MakeRequest({1, 2, 3}, 4));
  core.Intake(std::chrono::steady_clock::now());
  core.Park();
  EXPECT_EQ(core.stalled_s(), 0);
  const SteadyTime before = std::chrono::steady_clock::now();
  Batch* batch = core.PlanStep(before);
  ASSERT_NE(batch, nullptr);
  const double stalled_s = core.stalled_s();
  EXPECT_GT(stalled_s, 0) << "a step is in flight";
  EXPECT_LE(stalled_s, SecondsBetween(before, std::chrono::steady_clock::now()));
  batch->lost = true;
  core.CommitStep(batch, before);
}

// Also one that nothing took yet: the engine's thread may hang before it does.
TEST(CountsTest, AStandstillBeginsWithWhatArrives) {
  EngineRig rig({}, SmallConfig(), {0});
  EngineCore& core = rig.core();
  core.Park();
  rig.Submit(MakeRequest({1, 2, 3}, 4));
  for (int i = 0; i < 2; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    EXPECT_GE(core.stalled_s(), 0.002);
    core.Park();  // as if it had arrived just before
  }
  const SteadyTime now = std::chrono::steady_clock::now();
  core.Intake(now);
  core.Deliver(now);  // a turn that has nothing in flight
  const double stalled_s = core.stalled_s();
  EXPECT_LE(stalled_s, SecondsBetween(now, std::chrono::steady_clock::now()));
}

// While the next one is in flight.
TEST(CountsTest, EveryCommittedStepIsProgress) {
  EngineRig rig({.planning_depth = 2}, SmallConfig(), {0});
  EngineCore& core = rig.core();
  rig.Submit(MakeRequest(RandomPrompt(1, 40), 4));
  core.Intake(std::chrono::steady_clock::now());
  Batch* first = core.PlanStep(std::chrono::steady_clock::now());
  Batch* second = core.PlanStep(std::chrono::steady_clock::now());
  ASSERT_NE(second, nullptr);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const SteadyTime now = std::chrono::steady_clock::now();
  core.CommitStep(first, now);
  core.Deliver(now);
  const double stalled_s = core.stalled_s();
  EXPECT_LE(stalled_s, SecondsBetween(now, std::chrono::steady_clock::now()));
  second->lost = true;
  core.CommitStep(second, now);
}

// Distinguishes requests that more slots would help from those that only wait for their request's
// first output.
TEST(CountsTest, SaysWhyRequestsWait) {
  EngineConfig config = SmallConfig();
  config.max_num_seqs = 1;
  EngineRig rig({}, config, {0});
  Request many = MakeRequest(RandomPrompt(1, 20), 3);
  many.n = 3;
  rig.Submit(many);
  rig.Submit(MakeRequest(RandomPrompt(2, 5), 1));
  const Stats& stats = rig.core().stats();
  rig.Turn();  // 16 tokens of the prompt
  EXPECT_EQ(stats.running.value(), 1);
  EXPECT_EQ(stats.waiting.value(), 3);
  EXPECT_EQ(stats.deferred.value(), 2);
  rig.Turn();  // its remainder: all may run
  EXPECT_EQ(stats.waiting.value(), 3);
  EXPECT_EQ(stats.deferred.value(), 0);
  EXPECT_TRUE(rig.Finish());
}

TEST(CountsTest, SaysWhoWaitsForItsReader) {
  EngineConfig config = SmallConfig();
  config.max_num_seqs = 1;
  config.stream_tokens = 2;
  EngineRig rig({}, config, {0});
  rig.Submit(MakeRequest(RandomPrompt(1, 5), 10));
  const Stats& stats = rig.core().stats();
  for (int turn = 0; turn < 4; ++turn) rig.Turn();
  EXPECT_EQ(stats.paused.value(), 1);
  EXPECT_EQ(stats.deferred.value(), 0) << "it runs";
  rig.Submit(MakeRequest(RandomPrompt(2, 5), 10));
  rig.Turn();
  EXPECT_EQ(stats.waiting.value(), 1) << "it gave its slot away";
  EXPECT_EQ(stats.deferred.value(), 1);
  EXPECT_TRUE(rig.Finish());
}

TEST(CountsTest, CountsAPromptOnceAllOfItIsComputed) {
  EngineRig rig({}, SmallConfig(), {0});
  Client* client = rig.Submit(MakeRequest(RandomPrompt(1, 40), 1));
  rig.Turn();
  rig.Turn();
  client->outbox->Cancel();
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(rig.core().stats().prompt_tokens.value(), 0u);
}

// It may not use what the cache holds, so it is no miss.
TEST(CountsTest, AScoredPromptAsksNothingOfTheCache) {
  EngineRig rig({}, SmallConfig(), {0});
  Request request = MakeRequest(RandomPrompt(1, 24), 1);
  request.prompt_logprobs = 0;
  rig.Submit(std::move(request));
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(rig.core().stats().prompt_tokens.value(), 24u);
  EXPECT_EQ(rig.core().stats().prefix_queries.value(), 0u);
}

TEST(CountsTest, CountsWhatItDoes) {
  EngineRig rig({}, SmallConfig(), {0});
  for (int i = 0; i < 2; ++i) {
    rig.Submit(MakeRequest(RandomPrompt(1, 24), 5));
    ASSERT_TRUE(rig.Finish());
  }
  const Stats& stats = rig.core().stats();
  EXPECT_EQ(stats.accepted.value(), 2u);
  EXPECT_EQ(stats.prompt_tokens.value(), 48u);
  EXPECT_EQ(stats.cached_prompt_tokens.value(), 20u);
  EXPECT_EQ(stats.computed_prompt_tokens.value(), 28u);
  EXPECT_EQ(stats.prefix_queries.value(), 48u);
  EXPECT_EQ(stats.prefix_hits.value(), 20u);
  EXPECT_EQ(stats.generated_tokens.value(), 10u);
  EXPECT_EQ(stats.finished[static_cast<size_t>(FinishReason::kLength)].value(), 2u);
  EXPECT_EQ(stats.running.value(), 0);
  EXPECT_EQ(stats.waiting.value(), 0);
  EXPECT_EQ(stats.kv_pages_used.value(), 0);
  EXPECT_GT(stats.kv_pages_cached.value(), 0);
  const Timeline timeline = rig.clients()[0]->outbox->timeline();
  EXPECT_LE(timeline.arrival, timeline.admitted);
  EXPECT_LE(timeline.admitted, timeline.first_token);
  EXPECT_LT(timeline.first_token, timeline.finished);
}

// Including steps that are planned while another runs.
TEST(CountsTest, MeasuresStepsOnce) {
  for (const int32_t depth : {1, 2}) {
    EngineRig rig({.planning_depth = depth}, SmallConfig(), {0});
    rig.SetStepTime(0.1);
    rig.Submit(MakeRequest(RandomPrompt(1, 5), 100));
    ASSERT_TRUE(rig.Finish());
    const Stats& stats = rig.core().stats();
    const auto steps = static_cast<double>(stats.steps.value());
    EXPECT_NEAR(stats.step_time.sum() / steps, 0.1, 0.005) << "depth " << depth;
  }
}

// A turn takes 1 ms. The second output waits for the first one's slot, and is stopped before it has
// as many tokens.
TEST(CountsTest, MeasuresWhatItDoes) {
  EngineConfig config = SmallConfig();
  config.max_num_seqs = 1;
  EngineRig rig({}, config, {0});
  Request request = MakeRequest(RandomPrompt(1, 20), 3);
  request.n = 2;
  Client* client = rig.Submit(std::move(request));
  for (int turn = 0; turn < 6; ++turn) rig.Turn();  // tokens at 1, 2, 3 and 4, 5 ms
  client->outbox->StopAt(1);
  ASSERT_TRUE(rig.Finish());
  ASSERT_EQ(client->outputs[1].tokens.size(), 2u);
  const Stats& stats = rig.core().stats();
  ExpectObserved("queue_time", stats.queue_time, 1, 0);
  ExpectObserved("ttft", stats.ttft, 1, 0.001);
  ExpectObserved("inter_token", stats.inter_token, 3, 0.003);
  ExpectObserved("time_per_output_token", stats.time_per_output_token, 2, 0.002);
  ExpectObserved("prefill_time", stats.prefill_time, 1, 0.001);
  ExpectObserved("decode_time", stats.decode_time, 1, 0.004);  // to the last token
  ExpectObserved("inference_time", stats.inference_time, 1, 0.005);
  ExpectObserved("e2e", stats.e2e, 1, 0.006);
  ExpectObserved("prompt_length", stats.prompt_length, 1, 20);
  ExpectObserved("computed_prompt", stats.computed_prompt, 1, 20);
  ExpectObserved("generation_length", stats.generation_length, 2, 5);
  ExpectObserved("longest_output", stats.longest_output, 1, 3);
  ExpectObserved("asked_outputs", stats.asked_outputs, 1, 2);
  ExpectObserved("asked_tokens", stats.asked_tokens, 1, 3);
  // 20 prompt tokens, 4 of them computed again for the second output; 1 for each generated token
  // but the first.
  ExpectObserved("step_tokens", stats.step_tokens, 6, 27);
}

// A turn takes 1 ms. The second waits for the first one's slot, and the third is cancelled before
// it has one.
TEST(CountsTest, MeasuresWhoWaitsFromWhenItRuns) {
  EngineConfig config = SmallConfig();
  config.max_num_seqs = 1;
  EngineRig rig({}, config, {0});
  rig.Submit(MakeRequest(RandomPrompt(1, 5), 3));   // tokens at 0, 1, 2 ms
  rig.Submit(MakeRequest(RandomPrompt(2, 20), 1));  // admitted at 3 ms, its token at 4 ms
  Client* third = rig.Submit(MakeRequest(RandomPrompt(3, 5), 1));
  rig.Turn();
  third->outbox->Cancel();
  ASSERT_TRUE(rig.Finish());
  const Stats& stats = rig.core().stats();
  ExpectObserved("e2e", stats.e2e, 2, 0.002 + 0.004);
  ExpectObserved("queue_time", stats.queue_time, 2, 0.003);
  ExpectObserved("ttft", stats.ttft, 2, 0.004);
  ExpectObserved("prefill_time", stats.prefill_time, 2, 0.001);
  ExpectObserved("decode_time", stats.decode_time, 2, 0.002);
  ExpectObserved("longest_output", stats.longest_output, 2, 4);
  ExpectObserved("time_per_output_token", stats.time_per_output_token, 1, 0.001);
}

// What ended early says nothing about how long requests take, or are.
TEST(CountsTest, MeasuresOnlyWhatEndedByItself) {
  EngineRig rig({}, SmallConfig(), {0});
  Client* cancelled = rig.Submit(MakeRequest(RandomPrompt(1, 5), 9));
  Request both = MakeRequest(RandomPrompt(2, 5), 9);
  both.n = 2;
  Client* partly = rig.Submit(std::move(both));
  rig.Turn();
  rig.Turn();
  cancelled->outbox->Cancel();
  partly->outbox->StopAt(0);
  rig.Turn();
  partly->outbox->Cancel(FinishReason::kSlowReader);
  ASSERT_TRUE(rig.Finish());
  const Stats& stats = rig.core().stats();
  EXPECT_EQ(stats.finished[static_cast<size_t>(FinishReason::kCancelled)].value(), 1u);
  EXPECT_EQ(stats.finished[static_cast<size_t>(FinishReason::kSlowReader)].value(), 1u);
  const auto count = [](const Histogram& histogram) {
    uint64_t seen = 0;
    for (size_t i = 0; i <= histogram.bounds().size(); ++i) seen += histogram.bucket(i);
    return seen;
  };
  EXPECT_EQ(count(stats.ttft), 2u);
  EXPECT_EQ(count(stats.queue_time), 2u);
  EXPECT_EQ(count(stats.generation_length), 1u) << "of the output that stopped";
  for (const Histogram* histogram :
       {&stats.e2e, &stats.prefill_time, &stats.decode_time, &stats.inference_time,
        &stats.prompt_length, &stats.computed_prompt, &stats.asked_outputs, &stats.asked_tokens,
        &stats.longest_output}) {
    EXPECT_EQ(count(*histogram), 0u);
  }
}

// Its only token is in flight when it is preempted, so it ends without running again; with two
// outputs the second computes the prompt again.
TEST(CountsTest, CountsThePromptOfWhoIsPreemptedBeforeItsLastToken) {
  for (const int32_t n : {1, 2}) {
    EngineConfig config = SmallConfig();
    config.max_num_seqs = 1;
    EngineRig rig({.planning_depth = 2}, config, {0});
    Request brief = MakeRequest(RandomPrompt(1, 10), 1);
    brief.n = n;
    Client* client = rig.Submit(std::move(brief));
    rig.Turn();
    Request urgent = MakeRequest(RandomPrompt(2, 5), 3);
    urgent.priority = -1;
    rig.Submit(std::move(urgent));
    rig.Turn();
    EXPECT_EQ(rig.core().stats().preemptions.value(), 1u);
    client->Read();
    EXPECT_TRUE(client->outputs[0].done());
    ASSERT_TRUE(rig.Finish());
    EXPECT_EQ(rig.core().stats().prompt_tokens.value(), 15u);
    EXPECT_EQ(rig.core().stats().computed_prompt_tokens.value(), 15u);
  }
}

TEST(CountsTest, CountsTheTimeOfTheDevice) {
  for (const int32_t depth : {1, 2}) {
    EngineRig rig({.planning_depth = depth}, SmallConfig(), {0});
    for (int i = 0; i < 2; ++i) {
      rig.Submit(MakeRequest(RandomPrompt(1, 24), 5));
      ASSERT_TRUE(rig.Finish());
    }
    const Stats& stats = rig.core().stats();
    const auto steps = static_cast<double>(stats.steps.value());
    const auto busy_s = static_cast<double>(stats.device_busy_ns.value()) * 1e-9;
    const auto gap_s = static_cast<double>(stats.device_gap_ns.value()) * 1e-9;
    if (depth == 1) {
      EXPECT_GT(busy_s, 0);
      EXPECT_EQ(gap_s, 0);
      continue;
    }
    EXPECT_DOUBLE_EQ(busy_s, steps * FakeDevice::kStepTime.busy_s);
    // Before its first step each request waited for work, not for the host.
    EXPECT_DOUBLE_EQ(gap_s, (steps - 2) * FakeDevice::kStepTime.gap_s);
  }
}

}  // namespace
}  // namespace baram::testing
