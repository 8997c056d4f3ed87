// How requests begin and end: submission, readers, deadlines, cancels, stops, faults. On the fake
// device; the rig checks I2 and I3 after every turn.
#include <functional>
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
  rig.core().Drain(rig.now() + std::chrono::milliseconds(30));
  EXPECT_TRUE(absl::IsUnavailable(rig.core().Submit(MakeRequest({1, 2}, 1)).status()));
  for (int turn = 0; turn < 32; ++turn) rig.Turn();
  brief->Read();
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
  }
}

// Each beside its neighbour that is accepted.
TEST(LifecycleTest, InvalidRequestsAreRefusedAtTheDoor) {
  using Change = std::function<void(Request&)>;
  const auto stops = [](int32_t id) { return [id](Request& r) { r.stop_ids = {id}; }; };
  const auto masks = [](int32_t id) { return [id](Request& r) { r.masked_ids = {id}; }; };
  const auto biases = [](int32_t id) { return [id](Request& r) { r.logit_bias = {{id, 1}}; }; };
  const auto speaks = [](int32_t id) { return [id](Request& r) { r.prompt[1] = id; }; };
  const auto longs = [](size_t tokens) { return [=](Request& r) { r.prompt.assign(tokens, 1); }; };
  const auto many = [](int32_t n) { return [n](Request& r) { r.n = n; }; };
  const char kStops[] = "At most 64 stop token ids are allowed, each in 0..60.";
  const char kBiases[] = "logit_bias may name at most 300 ids of 0 .. 60.";
  const char kLogprobs[] = "At most 20 log-probabilities per token can be requested.";
  const char kOutputs[] = "n must be 1 .. 1024.";
  const char kUnknown[] = "whose token ids end at 60; leave it out.";
  const struct {
    const char* name;
    Change refused, accepted;
    const char* words;
  } rows[] = {
      {"no prompt", longs(0), longs(1), "The prompt is empty: it needs at least one token."},
      {"a long prompt", longs(256), longs(255),
       "This model's maximum context length is 256 tokens, but the prompt has 256; shorten it to "
       "at "
       "most 255 tokens."},
      {"a token past the vocabulary", speaks(61), speaks(60), kUnknown},
      {"a negative token", speaks(-1), speaks(0), kUnknown},
      {"no tokens", [](Request& r) { r.max_tokens = 0; }, [](Request& r) { r.max_tokens = 1; },
       "max_tokens must be at least 1."},
      {"no outputs", many(0), many(1), kOutputs},
      {"many outputs", many(1025), many(1024), kOutputs},
      {"a negative stop id", stops(-1), stops(0), kStops},
      {"a stop id past the vocabulary", stops(61), stops(60), kStops},
      {"many stop ids", [](Request& r) { r.stop_ids.assign(65, 1); },
       [](Request& r) { r.stop_ids.assign(64, 1); }, kStops},
      {"a negative masked id", masks(-1), masks(0), kStops},
      {"a masked id past the vocabulary", masks(61), masks(60), kStops},
      {"many masked ids", [](Request& r) { r.masked_ids.assign(65, 1); },
       [](Request& r) { r.masked_ids.assign(64, 1); }, kStops},
      {"a negative biased id", biases(-1), biases(0), kBiases},
      {"a biased id past the vocabulary", biases(61), biases(60), kBiases},
      {"many biases",
       [](Request& r) {
         r.logit_bias.assign(301, {1, 1});
       },
       [](Request& r) {
         r.logit_bias.assign(300, {1, 1});
       },
       kBiases},
      {"many log-probabilities", [](Request& r) { r.sampling.logprobs = 21; },
       [](Request& r) { r.sampling.logprobs = 20; }, kLogprobs},
      {"many of the prompt", [](Request& r) { r.prompt_logprobs = 21; },
       [](Request& r) { r.prompt_logprobs = 20; }, kLogprobs},
  };
  EngineRig rig({}, SmallConfig(), {0});
  const Stats& stats = rig.core().stats();
  uint64_t count = 0;
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    Request request = MakeRequest({1, 2, 3}, 4);
    row.refused(request);
    const absl::Status status = rig.core().Submit(request).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), ::testing::EndsWith(row.words));
    EXPECT_EQ(stats.refused.value(), ++count);
    request = MakeRequest({1, 2, 3}, 4);
    request.call_number = count;
    row.accepted(request);
    EXPECT_EQ(rig.core().Submit(std::move(request)).status(), absl::OkStatus());
    EXPECT_EQ(stats.accepted.value(), count);
  }
}

TEST(LifecycleTest, TheQueueIsBoundedByRequests) {
  EngineConfig config = SmallConfig();
  config.max_queued_requests = 2;
  EngineRig rig({}, config, {0});
  uint64_t calls = 0;
  const auto submit = [&](const char* id) {
    Request request = MakeRequest({1, 2, 3}, 4);
    request.id = id;
    request.own_id = true;
    request.call_number = ++calls;
    return rig.core().Submit(std::move(request)).status();
  };
  EXPECT_TRUE(submit("x").ok());
  EXPECT_TRUE(absl::IsAlreadyExists(submit("x")));
  EXPECT_TRUE(submit("y").ok());
  EXPECT_TRUE(absl::IsResourceExhausted(submit("z")));
  EXPECT_EQ(rig.core().stats().refused.value(), 2u);
  EXPECT_EQ(rig.core().stats().accepted.value(), 2u);
  EXPECT_TRUE(rig.core().Abort("x"));
  EXPECT_FALSE(rig.core().Abort("z"));
  ASSERT_TRUE(rig.Finish());
  EXPECT_TRUE(submit("x").ok()) << "the id is free again, and so is the queue";
}

// See RELIABILITY.md, limits and their defaults.
TEST(LifecycleTest, TheQueuesLimitsAreTheDocuments) {
  const EngineConfig config;
  EXPECT_EQ(config.max_queued_requests, 1024);
  EXPECT_EQ(config.max_queued_tokens, 4'000'000);
  EXPECT_EQ(config.min_priority, 0);
  EXPECT_EQ(config.stream_tokens, 1024);
  EXPECT_EQ(config.longest_pause_s, 30);
}

TEST(LifecycleTest, TheQueueIsBoundedByTokensToo) {
  EngineConfig config = SmallConfig();
  config.max_queued_tokens = 50;
  EngineRig rig({}, config, {0});
  rig.Submit(MakeRequest(RandomPrompt(1, 60), 1));
  Request request = MakeRequest({1}, 1);
  request.id = "second";
  EXPECT_TRUE(absl::IsResourceExhausted(rig.core().Submit(request).status()));
  rig.Turn();  // admitted: no longer queued
  EXPECT_TRUE(rig.core().Submit(request).ok());
}

// A batch job steps back and fills three quarters; where calls may push in, so do all others.
TEST(LifecycleTest, TheQueueHasRoomLeftForTheUrgent) {
  struct Case {
    int32_t min_priority, steps_back, urgent;
  };
  for (const Case& c : {Case{0, 5, 0}, Case{-10, 0, -10}, Case{-10, 0, -1}, Case{-10, 5, -1}}) {
    for (const bool by_tokens : {false, true}) {
      EngineConfig config = SmallConfig();
      config.min_priority = c.min_priority;
      if (by_tokens) {
        config.max_queued_tokens = 8;
      } else {
        config.max_queued_requests = 8;
      }
      EngineRig rig({}, config, {0});
      int64_t ids = 0;
      const auto accepted = [&](int32_t priority) {
        Request request = MakeRequest({1}, 1);
        request.id = std::to_string(ids++);
        request.priority = priority;
        return rig.core().Submit(std::move(request)).ok();
      };
      for (int i = 0; i < 6; ++i) EXPECT_TRUE(accepted(c.steps_back));
      EXPECT_FALSE(accepted(c.steps_back));
      for (int i = 0; i < 2; ++i) EXPECT_TRUE(accepted(c.urgent));
      EXPECT_FALSE(accepted(c.urgent));
      ASSERT_TRUE(rig.Finish());
    }
  }
}

// Also of the least queue.
TEST(LifecycleTest, CallsOfOneKindHaveTheWholeQueue) {
  for (const auto& [priority, bound, accepted] :
       {std::tuple(0, 8, 8), {-1, 8, 8}, {5, 8, 6}, {5, 3, 2}, {5, 1, 1}}) {
    EngineConfig config;
    EXPECT_EQ(QueueBound(config, bound, priority), accepted) << priority;
  }
}

// The parts of a client's call with several prompts end together, and remain distinguishable.
TEST(LifecycleTest, PartsShareTheirId) {
  EngineRig rig({}, SmallConfig(), {0});
  const auto submit = [&](const std::string& id, int32_t part, uint64_t call_number = 7,
                          bool own_id = true) {
    Request request = MakeRequest({1, 2, 3}, 4);
    request.id = id;
    request.call_number = call_number;
    request.part = part;
    request.own_id = own_id;
    return rig.core().Submit(std::move(request));
  };
  const auto first = submit("a", 0), second = submit("a", 1), other = submit("a-1", 0);
  ASSERT_TRUE(first.ok() && second.ok() && other.ok());
  EXPECT_TRUE(absl::IsAlreadyExists(submit("a", 1).status()));
  EXPECT_TRUE(absl::IsAlreadyExists(submit("a", 2, 0).status())) << "a request of somebody else";
  EXPECT_TRUE(absl::IsAlreadyExists(submit("a", 2, 8).status()));
  for (const uint64_t call : {6, 8}) {
    EXPECT_TRUE(absl::IsAlreadyExists(submit("a", 0, call, /*own_id=*/false).status()))
        << "it may share an id, but not this one";
  }
  EXPECT_TRUE(rig.core().Abort("a"));
  EXPECT_TRUE((*first)->cancelled());
  EXPECT_TRUE((*second)->cancelled());
  EXPECT_FALSE((*other)->cancelled());
  const auto shared = submit("b", 0, 1, /*own_id=*/false);
  const auto beside = submit("b", 0, 2, /*own_id=*/false);
  ASSERT_TRUE(shared.ok() && beside.ok());
  EXPECT_TRUE(absl::IsAlreadyExists(submit("b", 0, 3).status()));
  EXPECT_TRUE(rig.core().Abort("b"));
  EXPECT_TRUE((*shared)->cancelled());
  EXPECT_TRUE((*beside)->cancelled());
  ASSERT_TRUE(rig.Finish());
  EXPECT_FALSE(rig.core().Abort("a"));
}

// Each takes the only slot from the previous one. Its five tokens are queued with it.
TEST(LifecycleTest, WhoIsPreemptedIsQueuedAgain) {
  for (const auto& [depth, most_requests, most_tokens] :
       {std::tuple(1, 3, 1000), {2, 3, 1000}, {1, 1000, 15}, {2, 1000, 15}}) {
    EngineConfig config = SmallConfig();
    config.max_num_seqs = 1;
    config.max_queued_requests = most_requests;
    config.max_queued_tokens = most_tokens;
    EngineRig rig({.planning_depth = depth}, config, {0});
    Request urgent = MakeRequest(RandomPrompt(1, 5), 20);
    for (int i = 0; i < 4; ++i) {
      urgent.priority = -i;
      rig.Submit(urgent);
      for (int turn = 0; turn < 3; ++turn) rig.Turn();
      ASSERT_EQ(rig.sequence(*rig.clients().back()).state, SequenceState::kRunning);
    }
    urgent.id = "one too many";
    EXPECT_TRUE(absl::IsResourceExhausted(rig.core().Submit(urgent).status()));
    ASSERT_TRUE(rig.Finish());
    for (int i = 0; i < 3; ++i) rig.Submit(urgent);
    EXPECT_TRUE(absl::IsResourceExhausted(rig.core().Submit(urgent).status()))
        << "who came back and ended is counted once";
    ASSERT_TRUE(rig.Finish());
  }
}

TEST(LifecycleTest, PromptScoresCountInTheQueue) {
  EngineConfig config = SmallConfig();
  config.max_queued_tokens = 50;
  EngineRig rig({}, config, {0});
  Request scored = MakeRequest(RandomPrompt(1, 20), 1);
  scored.prompt_logprobs = 1;  // 20 tokens, with two log-probabilities each
  rig.Submit(scored);
  Request request = MakeRequest({1}, 1);
  request.id = "second";
  EXPECT_TRUE(absl::IsResourceExhausted(rig.core().Submit(request).status()));
  rig.Turn();
  EXPECT_TRUE(rig.core().Submit(request).ok());
}

}  // namespace
}  // namespace baram::testing
