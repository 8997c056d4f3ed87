// The scheduler's promises one by one, on the fake device. The rig checks I2 and I3 after every
// turn.
#include "engine/scheduler.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/rig.h"

namespace baram::testing {
namespace {

using ::testing::HasSubstr;

TEST(SchedulerTest, PromptsAreChunkedWithinTheBudget) {
  EngineRig rig({}, SmallConfig(), {0});
  Client* client = rig.Submit(MakeRequest(RandomPrompt(1, 40), 3));
  for (const int32_t committed : {16, 32, 40, 41}) {
    rig.Turn();
    EXPECT_EQ(rig.sequence(*client).committed, committed);
  }
  ASSERT_TRUE(rig.Finish());
  ExpectExact(rig, *client, {0});
}

TEST(SchedulerTest, ALongPromptNeverDelaysADecode) {
  EngineRig rig({}, SmallConfig(), {0});
  Client* decoding = rig.Submit(MakeRequest(RandomPrompt(1, 4), 40));
  rig.Turn();
  Client* prompt = rig.Submit(MakeRequest(RandomPrompt(2, 200), 3));
  for (int32_t turn = 1; turn <= 13; ++turn) {
    rig.Turn();
    EXPECT_EQ(rig.sequence(*decoding).output_tokens(), 1 + turn);
    EXPECT_EQ(rig.sequence(*prompt).committed, 15 * turn);
  }
  ASSERT_TRUE(rig.Finish());
  ExpectExact(rig, *prompt, {0});
}

TEST(SchedulerTest, PromptsTakeShortStepsBesideDecodes) {
  EngineConfig config = SmallConfig();
  config.mixed_step_tokens = 5;
  EngineRig rig({}, config, {0});
  Client* decoding = rig.Submit(MakeRequest(RandomPrompt(1, 12), 3));
  rig.Turn();
  EXPECT_EQ(rig.sequence(*decoding).committed, 12) << "nothing is held up by that";
  Client* first = rig.Submit(MakeRequest(RandomPrompt(2, 8), 1));
  Client* second = rig.Submit(MakeRequest(RandomPrompt(3, 40), 3));
  rig.Turn();
  EXPECT_EQ(rig.sequence(*first).committed, 5);
  EXPECT_EQ(rig.sequence(*second).committed, 0);
  rig.Turn();
  EXPECT_EQ(rig.sequence(*second).committed, 2) << "what the first prompt leaves";
  rig.Turn();
  EXPECT_EQ(rig.sequence(*second).committed, 2 + 16) << "nobody decodes any more";
  ASSERT_TRUE(rig.Finish());
  ExpectExact(rig, *second, {0});
}

TEST(SchedulerTest, ChunksAreCappedWhenAsked) {
  EngineConfig config = SmallConfig();
  config.max_chunk_tokens = 5;
  EngineRig rig({}, config, {0});
  Client* first = rig.Submit(MakeRequest(RandomPrompt(1, 40), 3));
  Client* second = rig.Submit(MakeRequest(RandomPrompt(2, 40), 3));
  rig.Turn();
  EXPECT_EQ(rig.sequence(*first).committed, 5);
  EXPECT_EQ(rig.sequence(*second).committed, 5);
}

// What a window left behind is rarely reusable: a long prompt evicts it rather than the prefixes of
// others.
TEST(SchedulerTest, ALongPromptPassesIdlePrefixesByWhereWindowsSlide) {
  const std::vector<int32_t> windows = {0, 8, 8, 8};
  EngineRig rig({}, SmallConfig(), windows, 100);
  const std::vector<int32_t> chat = RandomPrompt(1, 24);
  rig.Submit(MakeRequest(chat, 2));
  ASSERT_TRUE(rig.Finish());
  rig.Submit(MakeRequest(RandomPrompt(2, 200), 2));
  ASSERT_TRUE(rig.Finish());
  Client* again = rig.Submit(MakeRequest(chat, 2));
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(again->outbox->cached_tokens(), 20);
  for (const std::unique_ptr<Client>& client : rig.clients()) ExpectExact(rig, *client, windows);
}

// Its reply has slid past the window that a match of the prompt needs.
TEST(SchedulerTest, APromptThatComesAgainIsFoundWhereWindowsSlide) {
  const std::vector<int32_t> windows = {0, 8, 8, 8};
  EngineRig rig({}, SmallConfig(), windows, 100);
  int32_t cached = 0;
  const auto finish = [&](uint64_t seed, int32_t tokens, int32_t reply) {
    Client* client = rig.Submit(MakeRequest(RandomPrompt(seed, tokens), reply));
    ASSERT_TRUE(rig.Finish());
    cached = client->outbox->cached_tokens();
  };
  for (const uint64_t idle : {8, 9}) finish(idle, 60, 2);
  finish(1, 40, 20);
  finish(7, 40, 2);
  finish(1, 40, 20);
  EXPECT_EQ(cached, 36);
  for (const std::unique_ptr<Client>& client : rig.clients()) ExpectExact(rig, *client, windows);
}

// The common beginning of several prompts is kept like any other prefix, wherever the windows are.
TEST(SchedulerTest, ACommonBeginningStaysWhereWindowsSlide) {
  const std::vector<int32_t> windows = {0, 8, 8, 8};
  EngineRig rig({}, SmallConfig(), windows, 100);
  const auto with = [](uint64_t seed) {
    std::vector<int32_t> prompt = RandomPrompt(1, 24);
    const std::vector<int32_t> rest = RandomPrompt(seed, 40);
    prompt.insert(prompt.end(), rest.begin(), rest.end());
    return prompt;
  };
  const auto finish = [&](std::vector<int32_t> prompt) {
    rig.Submit(MakeRequest(std::move(prompt), 2));
    ASSERT_TRUE(rig.Finish());
  };
  finish(RandomPrompt(8, 60));  // the oldest
  for (const uint64_t seed : {2, 3}) finish(with(seed));
  finish(RandomPrompt(9, 40));
  Client* third = rig.Submit(MakeRequest(with(4), 2));
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(third->outbox->cached_tokens(), 24);
  for (const std::unique_ptr<Client>& client : rig.clients()) ExpectExact(rig, *client, windows);
}

TEST(SchedulerTest, StalledReadersDoNotKeepTheTokensOfAStep) {
  EngineConfig config = SmallConfig();
  config.max_num_seqs = config.max_num_batched_tokens = 2;
  config.stream_tokens = 2;
  EngineRig rig({}, config, {0});
  std::vector<Client*> stalled;
  for (int i = 0; i < 2; ++i) stalled.push_back(rig.Submit(MakeRequest(RandomPrompt(i, 5), 30)));
  do {
    rig.Turn();
  } while (rig.core().stats().paused.value() < 2);
  Client* other = rig.Submit(MakeRequest(RandomPrompt(2, 5), 8));
  for (int turn = 0; turn < 20; ++turn) {
    rig.Turn();
    other->Read();
  }
  EXPECT_TRUE(other->done());
  ASSERT_TRUE(rig.Finish());
  for (Client* client : {stalled[0], stalled[1], other}) ExpectExact(rig, *client, {0});
}

TEST(SchedulerTest, StalledReadersLeaveTheirTokensToAPromptAhead) {
  EngineConfig config = SmallConfig();
  config.max_num_seqs = config.max_num_batched_tokens = 4;
  config.stream_tokens = 2;
  EngineRig rig({}, config, {0});
  for (int i = 0; i < 3; ++i) rig.Submit(MakeRequest(RandomPrompt(i, 5), 30));
  do {
    rig.Turn();
  } while (rig.core().stats().paused.value() < 3);
  Request urgent = MakeRequest(RandomPrompt(3, 40), 1);
  urgent.priority = -1;
  Client* prompt = rig.Submit(std::move(urgent));
  rig.Turn();
  EXPECT_EQ(rig.sequence(*prompt).planned, 4);
  ASSERT_TRUE(rig.Finish());
}

TEST(SchedulerTest, WindowsGiveTheirPagesBack) {
  const std::vector<int32_t> windows = {6};
  EngineRig rig({}, SmallConfig(), windows);
  Client* client = rig.Submit(MakeRequest(RandomPrompt(1, 50), 100));
  int32_t most = 0;
  while (!client->done()) {
    rig.Turn();
    client->Read();
    most = std::max(most, rig.owned_pages());
  }
  // A window of 6 in pages of 4 touches 3, a chunk of 16 another 4 and a part.
  EXPECT_LE(most, 8);
  ExpectExact(rig, *client, windows);
}

TEST(SchedulerTest, ACachedPrefixIsReadUpToTheLastTokenOfThePrompt) {
  for (const std::vector<int32_t>& windows :
       std::vector<std::vector<int32_t>>{{0}, {6}, {0, 6}, {1, 0, 9}}) {
    EngineRig rig({}, SmallConfig(), windows);
    // Pages of 4: a prompt of 24 leaves its last page to compute, one of 25 its last token.
    for (const int32_t prompt : {24, 25}) {
      Client* cold = rig.Submit(MakeRequest(RandomPrompt(prompt, prompt), 1));
      ASSERT_TRUE(rig.Finish());
      Client* warm = rig.Submit(MakeRequest(RandomPrompt(prompt, prompt), 30));
      ASSERT_TRUE(rig.Finish());
      EXPECT_EQ(cold->outbox->cached_tokens(), 0);
      EXPECT_EQ(warm->outbox->cached_tokens(), prompt == 24 ? 20 : 24) << windows.size();
      ExpectExact(rig, *warm, windows);
    }
  }
}

// Pages cached for a request count once: it needs three more, and there is one.
TEST(SchedulerTest, ACachedPrefixMakesNoRoomForTheRest) {
  EngineRig rig({}, SmallConfig(), {0}, 10);
  std::vector<int32_t> prompt = RandomPrompt(1, 24);
  rig.Submit(MakeRequest(prompt, 1));
  ASSERT_TRUE(rig.Finish());
  Client* first = rig.Submit(MakeRequest(RandomPrompt(2, 9), 3));
  rig.Turn();
  ASSERT_EQ(rig.sequence(*first).blocks(), 3);
  const std::vector<int32_t> rest = RandomPrompt(3, 12);
  prompt.insert(prompt.end(), rest.begin(), rest.end());
  Client* second = rig.Submit(MakeRequest(prompt, 1));
  rig.Turn();
  EXPECT_EQ(rig.sequence(*second).state, SequenceState::kWaiting);
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(second->outbox->cached_tokens(), 24);
  for (Client* client : {first, second}) ExpectExact(rig, *client, {0});
}

TEST(SchedulerTest, SaltsAndUnwillingReadersDoNotHit) {
  EngineRig rig({}, SmallConfig(), {0});
  rig.Submit(MakeRequest(RandomPrompt(1, 24), 1));
  ASSERT_TRUE(rig.Finish());
  Request salted = MakeRequest(RandomPrompt(1, 24), 1);
  salted.cache_salt = "tenant";
  Request unwilling = MakeRequest(RandomPrompt(1, 24), 1);
  unwilling.read_prefix_cache = false;
  Client* first = rig.Submit(std::move(salted));
  Client* second = rig.Submit(std::move(unwilling));
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(first->outbox->cached_tokens(), 0);
  EXPECT_EQ(second->outbox->cached_tokens(), 0);
}

TEST(SchedulerTest, OutputsOfARequestShareThePromptsPages) {
  for (const bool prefix_cache : {true, false}) {
    for (const std::vector<int32_t>& windows : std::vector<std::vector<int32_t>>{{0}, {0, 6}}) {
      EngineConfig config = SmallConfig();
      config.prefix_cache = prefix_cache;
      EngineRig rig({}, config, windows);
      Request request = MakeRequest(RandomPrompt(1, 34), 6);
      request.n = 4;
      Client* client = rig.Submit(std::move(request));
      for (int turn = 0; turn < 2; ++turn) {
        rig.Turn();
        EXPECT_EQ(rig.sequence(*client, 1).state, SequenceState::kWaiting);
      }
      rig.Turn();  // the leader's prompt is complete
      rig.Turn();
      const Sequence& leader = rig.sequence(*client, 0);
      for (int32_t i = 1; i < 4; ++i) {
        const Sequence& follower = rig.sequence(*client, i);
        EXPECT_EQ(follower.tables[0].pages[7], leader.tables[0].pages[7]);
        EXPECT_NE(follower.tables[0].pages[8], leader.tables[0].pages[8]);
      }
      ASSERT_TRUE(rig.Finish());
      ExpectExact(rig, *client, windows);
    }
  }
}

// They compute the prompt's last page again, and it enters the index once.
TEST(SchedulerTest, FollowersPublishWhereTheirTokensLie) {
  EngineRig rig({}, SmallConfig(), {0});
  std::vector<int32_t> prompt = RandomPrompt(1, 8);
  Request request = MakeRequest(prompt, 1);
  request.n = 2;
  rig.Submit(std::move(request));
  ASSERT_TRUE(rig.Finish());
  prompt.insert(prompt.end(), prompt.begin() + 4, prompt.end());  // that page twice
  prompt.push_back(1);
  Client* client = rig.Submit(MakeRequest(prompt, 4));
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(client->outbox->cached_tokens(), 8);
  ExpectExact(rig, *client, {0});
}

TEST(SchedulerTest, AnotherOutputLeadsWhenTheLeaderEndsEarly) {
  EngineRig rig({}, SmallConfig(), {0});
  Request request = MakeRequest(RandomPrompt(1, 40), 4);
  request.n = 3;
  Client* client = rig.Submit(std::move(request));
  rig.Turn();
  client->outbox->StopAt(0);
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(client->outputs[0].finish().reason, FinishReason::kStop);
  EXPECT_TRUE(client->outputs[0].tokens.empty());
  for (const int32_t i : {1, 2}) {
    EXPECT_EQ(client->outputs[i].Ids(), Expect(client->request, i, {0}, 256).ids);
  }
}

TEST(SchedulerTest, PromptScoresComeInCappedChunksWithoutTheCache) {
  EngineConfig config = SmallConfig();
  config.max_logit_rows = 5;
  EngineRig rig({}, config, {0});
  rig.Submit(MakeRequest(RandomPrompt(1, 24), 1));
  ASSERT_TRUE(rig.Finish());
  Request request = MakeRequest(RandomPrompt(1, 24), 2);
  request.prompt_logprobs = 1;
  Client* client = rig.Submit(std::move(request));
  for (const int32_t committed : {5, 10, 15, 20, 24}) {
    rig.Turn();
    EXPECT_EQ(rig.sequence(*client).committed, committed);
  }
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(client->outbox->cached_tokens(), 0);
  EXPECT_EQ(client->scores.size(), 23u);
  Request other = MakeRequest(RandomPrompt(2, 24), 1);
  other.prompt_logprobs = 0;
  rig.Submit(std::move(other));
  ASSERT_TRUE(rig.Finish());
  Client* reader = rig.Submit(MakeRequest(RandomPrompt(2, 24), 1));
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(reader->outbox->cached_tokens(), 20) << "its pages were published";
}

// One after the other takes all scores of a step: the others leave the slots to those that can use
// them.
TEST(SchedulerTest, PromptsThatWaitForScoresHoldNoSlot) {
  for (const int32_t depth : {1, 2}) {
    EngineConfig config = SmallConfig();
    config.max_logit_rows = 4;
    EngineRig rig({.planning_depth = depth}, config, {0});
    std::vector<Client*> scored;
    for (int i = 0; i < 8; ++i) {
      Request request = MakeRequest(RandomPrompt(i, 40), 4);
      request.prompt_logprobs = 0;
      scored.push_back(rig.Submit(std::move(request)));
    }
    Client* plain = rig.Submit(MakeRequest(RandomPrompt(9, 5), 4));
    rig.Turn();
    EXPECT_EQ(rig.sequence(*plain).planned, 5);
    EXPECT_EQ(rig.sequence(*scored[0]).planned, 4);
    EXPECT_EQ(rig.sequence(*scored[1]).state, SequenceState::kWaiting);
    ASSERT_TRUE(rig.Finish());
    EXPECT_LE(rig.core().stats().steps.value(), 8 * 10 + 4) << "all scores are used";
    for (size_t i = 1; i < scored.size(); ++i) {
      EXPECT_LT(scored[i - 1]->outbox->timeline().first_token,
                scored[i]->outbox->timeline().first_token);
    }
    for (const std::unique_ptr<Client>& client : rig.clients()) ExpectExact(rig, *client, {0});
    for (const Client* client : scored) EXPECT_EQ(client->scores.size(), 39u);
  }
}

TEST(SchedulerTest, PromptScoresAreSentOnceAcrossAPreemption) {
  for (const bool prefix_cache : {true, false}) {
    EngineConfig config = SmallConfig();
    config.max_num_seqs = 1;
    config.max_logit_rows = 7;
    config.prefix_cache = prefix_cache;
    EngineRig rig({}, config, {0});
    Request request = MakeRequest(RandomPrompt(1, 40), 4);
    request.prompt_logprobs = 1;
    Client* client = rig.Submit(std::move(request));
    rig.Turn();
    rig.Turn();
    Request urgent = MakeRequest(RandomPrompt(2, 8), 2);
    urgent.priority = -1;
    rig.Submit(std::move(urgent));
    rig.Turn();
    EXPECT_EQ(rig.sequence(*client).preemptions, 1);
    ASSERT_TRUE(rig.Finish());
    const std::vector<float> expected = ExpectScores(client->request, {0});
    ASSERT_EQ(client->scores.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(client->scores[i].logprob, expected[i]);
    }
    ExpectExact(rig, *client, {0});
  }
}

// The leader is preempted while its first token is in flight, and returns to find its whole prompt
// in the cache: the followers' windows need the previous page.
TEST(SchedulerTest, FollowersGetTheirWindowsAfterTheLeadersPreemption) {
  const std::vector<int32_t> windows = {0, 6};
  EngineConfig config = SmallConfig();
  config.max_num_seqs = 1;
  config.max_num_batched_tokens = 64;
  EngineRig rig({.planning_depth = 2}, config, windows);
  rig.Submit(MakeRequest(RandomPrompt(1, 24), 8));
  ASSERT_TRUE(rig.Finish());
  Request request = MakeRequest(RandomPrompt(1, 24), 5);
  request.n = 2;
  Client* client = rig.Submit(std::move(request));
  rig.Turn();
  Request urgent = MakeRequest(RandomPrompt(2, 5), 3);
  urgent.priority = -1;
  rig.Submit(std::move(urgent));
  rig.Turn();
  EXPECT_EQ(rig.sequence(*client).preemptions, 1);
  EXPECT_EQ(rig.sequence(*client).output_tokens(), 1) << "what was in flight still counts";
  ASSERT_TRUE(rig.Finish());
  ExpectExact(rig, *client, windows);
}

// The engine sizes its context so that this can't happen; the scheduler must not hang if it does
// (I8).
TEST(SchedulerTest, WhatCanNeverFitIsFailedWithAReason) {
  PagePool pool({.pages = 2, .page_tokens = 4, .windows = {0}, .max_blocks = 16});
  Stats stats(64, 16);
  Scheduler scheduler({.max_model_len = 64,
                       .max_num_seqs = 2,
                       .max_num_batched_tokens = 16,
                       .mixed_step_tokens = 16,
                       .max_logit_rows = 4,
                       .prefix_cache = false},
                      pool, stats);
  Request request = MakeRequest(RandomPrompt(1, 20), 4);
  auto outbox = std::make_shared<Outbox>(request, 4, std::make_shared<Wakeup>());
  const SteadyTime now(std::chrono::seconds(1));
  scheduler.Add(std::make_unique<LiveRequest>(request, outbox), now);
  Batch batch;
  batch.Reserve({.slots = 2,
                 .groups = 1,
                 .max_pages_per_slot = 64,
                 .max_step_tokens = 16,
                 .max_step_outputs = 6},
                4);
  ASSERT_TRUE(scheduler.Plan(batch, now));
  EXPECT_EQ(batch.tokens(), 8) << "as many as there are pages for";
  scheduler.Commit(batch, now);
  EXPECT_FALSE(scheduler.Plan(batch, now));
  ASSERT_EQ(scheduler.endings().size(), 1u);
  EXPECT_EQ(scheduler.endings()[0].finish.reason, FinishReason::kFailed);
  EXPECT_THAT(scheduler.endings()[0].finish.message, HasSubstr("KV cache"));
  scheduler.CheckInvariants();
  EXPECT_EQ(pool.AcquireSalt("another"), 0) << "its salt is let go";
}

}  // namespace
}  // namespace baram::testing
