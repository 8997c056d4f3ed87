// What is accepted: valid requests, as many as may wait, ids that are free. On the fake device.
#include <functional>

#include "engine/blame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/rig.h"

namespace baram::testing {
namespace {

// Each beside its neighbour that is accepted.
TEST(SubmitTest, InvalidRequestsAreRefusedAtTheDoor) {
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
       "at most 255 tokens."},
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

TEST(SubmitTest, TheQueueIsBoundedByRequests) {
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
  const absl::Status refused = submit("z");
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_EQ(BlamedSetting(refused), "max-queued-requests");
  EXPECT_EQ(rig.core().stats().refused.value(), 2u);
  EXPECT_EQ(rig.core().stats().accepted.value(), 2u);
  EXPECT_TRUE(rig.core().Abort("x"));
  EXPECT_FALSE(rig.core().Abort("z"));
  ASSERT_TRUE(rig.Finish());
  EXPECT_TRUE(submit("x").ok()) << "the id is free again, and so is the queue";
}

// See RELIABILITY.md, limits and their defaults.
TEST(SubmitTest, TheQueuesLimitsAreTheDocuments) {
  const EngineConfig config;
  EXPECT_EQ(config.max_queued_requests, 1024);
  EXPECT_EQ(config.max_queued_tokens, 4'000'000);
  EXPECT_EQ(config.min_priority, 0);
  EXPECT_EQ(config.stream_tokens, 1024);
  EXPECT_EQ(config.longest_pause_s, 30);
}

TEST(SubmitTest, TheQueueIsBoundedByTokensToo) {
  EngineConfig config = SmallConfig();
  config.max_queued_tokens = 50;
  EngineRig rig({}, config, {0});
  rig.Submit(MakeRequest(RandomPrompt(1, 60), 1));
  Request request = MakeRequest({1}, 1);
  request.id = "second";
  const absl::Status refused = rig.core().Submit(request).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_EQ(BlamedSetting(refused), "max-queued-tokens");
  rig.Turn();  // admitted: no longer queued
  EXPECT_TRUE(rig.core().Submit(request).ok());
}

// A batch job steps back and fills three quarters; where calls may push in, so do all others.
TEST(SubmitTest, TheQueueHasRoomLeftForTheUrgent) {
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
TEST(SubmitTest, CallsOfOneKindHaveTheWholeQueue) {
  for (const auto& [priority, bound, accepted] :
       {std::tuple(0, 8, 8), {-1, 8, 8}, {5, 8, 6}, {5, 3, 2}, {5, 1, 1}}) {
    EngineConfig config;
    EXPECT_EQ(QueueBound(config, bound, priority), accepted) << priority;
  }
}

// The parts of a client's call with several prompts end together, and remain distinguishable.
TEST(SubmitTest, PartsShareTheirId) {
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
TEST(SubmitTest, WhoIsPreemptedIsQueuedAgain) {
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

TEST(SubmitTest, PromptScoresCountInTheQueue) {
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
