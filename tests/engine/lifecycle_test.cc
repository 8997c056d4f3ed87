// How requests end: readers that stay away, deadlines, cancels, stops, faults, drains. On the fake
// device; the rig checks I2 and I3 after every turn.
#include <tuple>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/rig.h"

namespace baram::testing {
namespace {

TEST(LifecycleTest, AFullRingPausesItsSequenceAlone) {
  EngineConfig config = SmallConfig();
  config.stream_tokens = 4;
  EngineRig rig({}, config, {0});
  Client* slow = rig.Submit(MakeRequest(RandomPrompt(1, 5), 20));
  Client* quick = rig.Submit(MakeRequest(RandomPrompt(2, 5), 20));
  for (int turn = 0; turn < 25; ++turn) {
    rig.Turn();
    quick->Read();
  }
  EXPECT_TRUE(quick->done());
  EXPECT_TRUE(rig.sequence(*slow).paused);
  EXPECT_EQ(rig.sequence(*slow).output_tokens(), 4);
  EXPECT_EQ(rig.core().stats().paused.value(), 1);
  ASSERT_TRUE(rig.Finish());
  ExpectExact(rig, *slow, {0});
}

TEST(LifecycleTest, AReaderThatStaysAwayIsEnded) {
  EngineConfig config = SmallConfig();
  config.stream_tokens = 4;
  config.longest_pause_s = 30;
  EngineRig rig({}, config, {0});
  Client* slow = rig.Submit(MakeRequest(RandomPrompt(1, 5), 20));
  for (int turn = 0; turn < 8; ++turn) rig.Turn();
  rig.Advance(29.9);
  rig.Turn();
  EXPECT_TRUE(rig.sequence(*slow).paused);
  rig.Advance(0.2);
  rig.Turn();
  EXPECT_EQ(rig.owned_pages(), 0);
  slow->Read();
  EXPECT_EQ(slow->outputs[0].finish().reason, FinishReason::kSlowReader);
  EXPECT_EQ(slow->outputs[0].tokens.size(), 4u);
}

// Even if it had read something, but too little to resume: that restarts the time limit.
TEST(LifecycleTest, AReaderThatStaysAwayAfterAPreemptionIsEnded) {
  EngineConfig config = SmallConfig();
  config.max_num_seqs = 1;
  config.stream_tokens = 8;
  EngineRig rig({}, config, {0});
  Client* slow = rig.Submit(MakeRequest(RandomPrompt(1, 5), 30));
  for (int turn = 0; turn < 12; ++turn) rig.Turn();
  Client* other = rig.Submit(MakeRequest(RandomPrompt(2, 5), 2));
  for (int turn = 0; turn < 4; ++turn) rig.Turn();
  other->Read();
  ASSERT_TRUE(other->done());
  rig.Advance(20);
  slow->Read(1);
  rig.Turn();
  rig.Advance(29.9);
  rig.Turn();
  EXPECT_EQ(rig.sequence(*slow).state, SequenceState::kWaiting);
  rig.Advance(0.2);
  rig.Turn();
  slow->Read();
  EXPECT_EQ(slow->outputs[0].finish().reason, FinishReason::kSlowReader);
}

TEST(LifecycleTest, DeadlinesEndQueuedAndRunningRequests) {
  EngineConfig config = SmallConfig();
  config.max_num_seqs = 1;
  EngineRig rig({}, config, {0});
  Request request = MakeRequest(RandomPrompt(1, 5), 100);
  request.deadline = rig.now() + std::chrono::milliseconds(20);
  Client* running = rig.Submit(request);
  Client* queued = rig.Submit(request);
  for (int turn = 0; turn < 22; ++turn) rig.Turn();
  for (Client* client : {running, queued}) {
    client->Read();
    ASSERT_TRUE(client->done());
    EXPECT_EQ(client->outputs[0].finish().reason, FinishReason::kDeadline);
  }
  EXPECT_EQ(running->outputs[0].tokens.size(), 20u);
  EXPECT_EQ(rig.owned_pages(), 0);
}

// Whenever a request ends, the scheduler computes anew when the next time limit is due.
TEST(LifecycleTest, WhatWasCancelledEndsAsCancelledAfterItsDeadlineToo) {
  EngineRig rig({}, SmallConfig(), {0});
  Request request = MakeRequest(RandomPrompt(1, 5), 100);
  request.deadline = rig.now() + std::chrono::milliseconds(20);
  Client* client = rig.Submit(std::move(request));
  rig.Turn();
  client->outbox->Cancel();
  rig.Advance(1);
  rig.Turn();
  client->Read();
  EXPECT_EQ(client->outputs[0].finish().reason, FinishReason::kCancelled);
}

TEST(LifecycleTest, OtherEndsPostponeNoTimeLimit) {
  EngineConfig config = SmallConfig();
  config.stream_tokens = 4;
  config.longest_pause_s = 30;
  for (const bool cancel : {true, false}) {
    EngineRig rig({}, config, {0});
    const auto submit = [&](int milliseconds) {
      Request request = MakeRequest(RandomPrompt(1, 5), 100);
      if (milliseconds > 0) request.deadline = rig.now() + std::chrono::milliseconds(milliseconds);
      return rig.Submit(std::move(request));
    };
    Client* slow = submit(0);
    Client* last = submit(20);
    Client* first = submit(cancel ? 0 : 10);
    const auto turns = [&](int count) {
      for (int turn = 0; turn < count; ++turn) {
        rig.Turn();
        for (Client* client : {first, last}) client->Read();
      }
    };
    turns(10);
    if (cancel) first->outbox->Cancel();
    turns(1);
    ASSERT_TRUE(first->done());
    turns(9);
    EXPECT_FALSE(last->done());
    turns(1);
    ASSERT_TRUE(last->done());
    EXPECT_EQ(last->outputs[0].finish().reason, FinishReason::kDeadline);
    rig.Advance(30);
    rig.Turn();
    slow->Read();
    ASSERT_TRUE(slow->done());
    EXPECT_EQ(slow->outputs[0].finish().reason, FinishReason::kSlowReader);
  }
}

// A state of a request, and how a new one gets there.
struct State {
  const char* name;
  int32_t prompt_tokens, outputs;
  void (*reach)(EngineRig& rig, const Client& client);
  friend void PrintTo(const State& state, std::ostream* out) { *out << state.name; }
};

void Turns(EngineRig& rig, int turns) {
  for (int turn = 0; turn < turns; ++turn) rig.Turn();
}

const State kStates[] = {
    {"Queued", 30, 1, [](EngineRig&, const Client&) {}},
    {"Prefilling", 60, 1,
     [](EngineRig& rig, const Client& client) {
       Turns(rig, 1);
       EXPECT_LT(rig.sequence(client).planned, 60);
     }},
    {"Decoding", 4, 1,
     [](EngineRig& rig, const Client& client) {
       Turns(rig, 4);
       EXPECT_GT(rig.sequence(client).output_tokens(), 0);
     }},
    {"Preempted", 30, 1,
     [](EngineRig& rig, const Client& client) {
       Turns(rig, 3);
       for (int i = 0; i < 2; ++i) {
         Request urgent = MakeRequest(RandomPrompt(7 + i, 4), 100);
         urgent.priority = -1;
         rig.Submit(std::move(urgent));
       }
       Turns(rig, 3);
       EXPECT_EQ(rig.sequence(client).state, SequenceState::kWaiting);
       EXPECT_EQ(rig.sequence(client).preemptions, 1);
     }},
    {"Paused", 4, 1,
     [](EngineRig& rig, const Client& client) {
       Turns(rig, 20);
       EXPECT_TRUE(rig.sequence(client).paused);
     }},
    {"WaitingWithTheLeadersPages", 20, 4,
     [](EngineRig& rig, const Client& client) {
       Turns(rig, 4);
       EXPECT_EQ(rig.sequence(client, 3).state, SequenceState::kWaiting);
       EXPECT_GT(rig.sequence(client, 3).blocks(), 0);
     }},
};

class CancelTest : public ::testing::TestWithParam<std::tuple<State, int32_t>> {};

// From every state that a request can be in, with one or two steps in flight.
TEST_P(CancelTest, FreesThePagesWithinOneTurn) {
  const auto& [state, depth] = GetParam();
  EngineConfig config = SmallConfig();
  config.max_num_seqs = 2;
  config.stream_tokens = 8;
  EngineRig rig({.planning_depth = depth}, config, {0});
  Request request = MakeRequest(RandomPrompt(1, state.prompt_tokens), 50);
  request.n = state.outputs;
  Client* client = rig.Submit(std::move(request));
  state.reach(rig, *client);
  client->outbox->Cancel();
  rig.Turn();
  client->Read();
  ASSERT_TRUE(client->done());
  for (const Received& output : client->outputs) {
    EXPECT_EQ(output.finish().reason, FinishReason::kCancelled);
  }
  int32_t others = 0;
  for (const auto& live : rig.core().scheduler().requests()) {
    for (const Sequence& sequence : live->outputs) {
      if (live->request.id == client->request.id) {
        EXPECT_EQ(sequence.blocks(), 0);
      } else {
        others += sequence.blocks();
      }
    }
  }
  EXPECT_EQ(rig.owned_pages(), others);
}

INSTANTIATE_TEST_SUITE_P(States, CancelTest,
                         ::testing::Combine(::testing::ValuesIn(kStates), ::testing::Values(1, 2)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "Depth" +
                                  std::to_string(std::get<1>(info.param));
                         });

TEST(LifecycleTest, AStopIdIsTheLastToken) {
  for (const int32_t depth : {1, 2}) {
    EngineRig rig({.planning_depth = depth}, SmallConfig(), {0});
    Request request = MakeRequest(RandomPrompt(1, 10), 30);
    const std::vector<int32_t> ids = Expect(request, 0, {0}, 256).ids;
    request.stop_ids = {ids[5]};
    const ExpectedOutput expected = Expect(request, 0, {0}, 256);
    ASSERT_GE(expected.ids.size(), 2u);
    Client* client = rig.Submit(request);
    request.sampling.min_tokens = static_cast<int32_t>(expected.ids.size()) + 3;
    Client* later = rig.Submit(request);
    ASSERT_TRUE(rig.Finish());
    EXPECT_EQ(client->outputs[0].Ids(), expected.ids);
    EXPECT_EQ(client->outputs[0].finish().reason, FinishReason::kStop);
    EXPECT_EQ(client->outputs[0].finish().stop_id, ids[5]);
    EXPECT_EQ(client->outputs[0].finish().tokens, std::ssize(expected.ids));
    EXPECT_GT(later->outputs[0].tokens.size(), expected.ids.size() + 2);
    ExpectExact(rig, *later, {0});
  }
}

// It is drawn although others are masked: the second token may not end an output of at least two.
TEST(LifecycleTest, AStopIdEndsNothingBeforeTheLeastTokens) {
  EngineRig rig({}, SmallConfig(), {0});
  Request request = MakeRequest(RandomPrompt(1, 5), 6);
  const std::vector<int32_t> ids = Expect(request, 0, {0}, 256).ids;
  request.stop_ids = {ids[1]};
  request.masked_ids = {kTinyVocab - 1};
  request.sampling.min_tokens = 2;
  ASSERT_EQ(std::ranges::count(ids, ids[1]) + std::ranges::count(ids, kTinyVocab - 1), 1);
  Client* client = rig.Submit(std::move(request));
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(client->outputs[0].Ids(), ids);
  EXPECT_EQ(client->outputs[0].finish().reason, FinishReason::kLength);
}

// Its reader found a stop string while a step was in flight.
TEST(LifecycleTest, ATokenDrawnAfterAStopIsDropped) {
  EngineRig rig({}, SmallConfig(), {0});
  Client* client = rig.Submit(MakeRequest(RandomPrompt(1, 5), 30));
  rig.Turn();
  StepRunner runner(rig.model());
  Batch* batch = rig.core().PlanStep(rig.now());
  ASSERT_NE(batch, nullptr);
  client->outbox->StopAt(0);
  rig.core().CommitStep(runner.Run(batch), rig.now());
  rig.core().Deliver(rig.now());
  client->Read();
  EXPECT_EQ(client->outputs[0].tokens.size(), 1u);
  ASSERT_TRUE(client->done());
  EXPECT_EQ(client->outputs[0].finish().reason, FinishReason::kStop);
  EXPECT_EQ(client->outputs[0].finish().tokens, 1);
}

TEST(LifecycleTest, TheContextEndsAnOutput) {
  EngineConfig config = SmallConfig();
  config.max_model_len = 32;
  EngineRig rig({}, config, {0});
  Client* client = rig.Submit(MakeRequest(RandomPrompt(1, 20), 1000));
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(client->outputs[0].tokens.size(), 12u);
  EXPECT_EQ(client->outputs[0].finish().reason, FinishReason::kLength);
}

TEST(LifecycleTest, NonFiniteLogitsFailTheirOutputAlone) {
  const FakeOptions fake{.nonfinite_divisor = 40};
  EngineRig rig(fake, SmallConfig(), {0});
  for (int i = 0; i < 20; ++i) rig.Submit(MakeRequest(RandomPrompt(i, 6), 10));
  ASSERT_TRUE(rig.Finish());
  int32_t failed = 0;
  for (const auto& client : rig.clients()) {
    const ExpectedOutput expected = Expect(client->request, 0, {0}, 256, fake.nonfinite_divisor);
    const baram::Finish& finish = client->outputs[0].finish();
    EXPECT_EQ(finish.reason, expected.reason);
    EXPECT_EQ(client->outputs[0].Ids(), expected.ids);
    if (finish.reason != FinishReason::kFailed) continue;
    ++failed;
    EXPECT_EQ(finish.message, "internal: non-finite logits");
    EXPECT_FALSE(finish.unavailable);
  }
  EXPECT_GT(failed, 0);
  EXPECT_LT(failed, 20);
  EXPECT_EQ(rig.core().stats().nonfinite_rows.value(), static_cast<uint64_t>(failed));
}

// Its first chunks were published before the last one failed.
TEST(LifecycleTest, ThePagesOfNonFiniteLogitsAreNoPrefixOfOthers) {
  const FakeOptions fake{.nonfinite_divisor = 3};
  Request request = MakeRequest(RandomPrompt(0, 40), 1);
  for (uint64_t seed = 1; Expect(request, 0, {0}, 256, 3).reason != FinishReason::kFailed; ++seed) {
    request.prompt = RandomPrompt(seed, 40);
  }
  EngineRig rig(fake, SmallConfig(), {0});
  for (int i = 0; i < 2; ++i) {
    Client* client = rig.Submit(request);
    ASSERT_TRUE(rig.Finish());
    EXPECT_EQ(client->outputs[0].finish().reason, FinishReason::kFailed);
    EXPECT_EQ(client->outbox->cached_tokens(), 0);
  }
}

TEST(LifecycleTest, ALostDeviceFailsEverythingAndAcceptsNothing) {
  for (const int32_t depth : {1, 2}) {
    EngineRig rig({.planning_depth = depth, .lost_at = 6}, SmallConfig(), {0});
    for (int i = 0; i < 12; ++i) rig.Submit(MakeRequest(RandomPrompt(i, 6), 50));
    ASSERT_TRUE(rig.Finish());
    EXPECT_FALSE(rig.core().alive());
    for (const auto& client : rig.clients()) {
      EXPECT_EQ(client->outputs[0].finish().reason, FinishReason::kFailed);
      EXPECT_TRUE(client->outputs[0].finish().unavailable);
    }
    EXPECT_TRUE(absl::IsUnavailable(rig.core().Submit(MakeRequest({1, 2}, 1)).status()));
  }
}

TEST(LifecycleTest, DrainingRefusesAndEndsWhatIsLeftAtTheLimit) {
  EngineRig rig({}, SmallConfig(), {0});
  Client* brief = rig.Submit(MakeRequest(RandomPrompt(1, 4), 5));
  Client* lasting = rig.Submit(MakeRequest(RandomPrompt(2, 4), 200));
  const SteadyTime limit = rig.now() + std::chrono::milliseconds(30);
  rig.core().Drain(limit);
  EXPECT_TRUE(absl::IsUnavailable(rig.core().Submit(MakeRequest({1, 2}, 1)).status()));
  while (rig.now() < limit) rig.Turn();
  brief->Read();
  lasting->Read();
  EXPECT_FALSE(lasting->done());
  EXPECT_EQ(rig.core().next_event(), limit);
  rig.Turn();
  lasting->Read();
  ASSERT_TRUE(lasting->done());
  EXPECT_EQ(brief->outputs[0].finish().reason, FinishReason::kLength);
  EXPECT_EQ(lasting->outputs[0].finish().reason, FinishReason::kDrained);
  EXPECT_TRUE(rig.core().idle());
  EXPECT_EQ(rig.core().next_event(), SteadyTime::max()) << "it has nothing to wake up for";
}

// A later drain request must not keep a server alive that was told to stop.
TEST(LifecycleTest, ASecondDrainMayOnlyComeSooner) {
  EngineRig rig({}, SmallConfig(), {0});
  Client* lasting = rig.Submit(MakeRequest(RandomPrompt(2, 4), 200));
  rig.core().Drain(rig.now() + std::chrono::seconds(60));
  rig.core().Drain(rig.now() + std::chrono::milliseconds(30));
  rig.core().Drain(rig.now() + std::chrono::seconds(3600));
  for (int turn = 0; turn < 32; ++turn) rig.Turn();
  lasting->Read();
  ASSERT_TRUE(lasting->done());
  EXPECT_EQ(lasting->outputs[0].finish().reason, FinishReason::kDrained);
}

// Accepted during the step that lost the device, or just before the engine is destroyed.
TEST(LifecycleTest, WhoIsStillInTheInboxIsEndedToo) {
  for (const bool lost : {true, false}) {
    EngineRig rig({}, SmallConfig(), {0});
    EngineCore& core = rig.core();
    rig.Submit(MakeRequest(RandomPrompt(1, 5), 9));
    core.Intake(rig.now());
    Batch* batch = core.PlanStep(rig.now());
    ASSERT_NE(batch, nullptr);
    rig.Submit(MakeRequest(RandomPrompt(2, 5), 9));
    batch->lost = lost;
    if (!lost) core.Stop(rig.now());
    core.CommitStep(batch, rig.now());
    core.Deliver(rig.now());
    for (const auto& client : rig.clients()) {
      client->Read();
      ASSERT_TRUE(client->done());
      EXPECT_EQ(client->outputs[0].finish().reason,
                lost ? FinishReason::kFailed : FinishReason::kDrained);
    }
    EXPECT_TRUE(core.idle());
    EXPECT_TRUE(absl::IsUnavailable(core.Submit(MakeRequest({1, 2}, 1)).status()));
  }
}

}  // namespace
}  // namespace baram::testing
