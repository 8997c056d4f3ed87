// How short prompts pass a long one (engine/scheduler_passing.cc), on the fake device. The rig
// checks I2 and I3 after every turn.
#include <optional>

#include "gtest/gtest.h"
#include "tests/engine/rig.h"

namespace baram::testing {
namespace {

// A rig whose first client is a prompt of 400 tokens, of which a step has read 16.
class PassingTest : public ::testing::Test {
 protected:
  Client* Submit(int32_t tokens, int32_t priority = 0) {
    Request request = MakeRequest(RandomPrompt(++seed_, tokens), 3);
    request.priority = priority;
    return rig_->Submit(std::move(request));
  }
  void Begin(const EngineConfig& config = LongConfig(), int32_t pages = 0) {
    rig_.emplace(FakeOptions{}, config, windows_, pages);
    long_ = Submit(400);
    rig_->Turn();
    ASSERT_EQ(Read(long_), 16);
  }
  static EngineConfig LongConfig() {
    EngineConfig config = SmallConfig();
    config.max_model_len = 512;
    return config;
  }
  Request Urgent() {
    Request request = MakeRequest(RandomPrompt(++seed_, 4), 1);
    request.priority = -1;
    return request;
  }
  // Tokens of the prompt that were computed.
  int32_t Read(const Client* client) const { return rig_->sequence(*client).committed; }
  bool Waits(const Client* client) const {
    return rig_->sequence(*client).state == SequenceState::kWaiting;
  }
  void ExpectAllExact() {
    ASSERT_TRUE(rig_->Finish());
    for (const auto& client : rig_->clients()) ExpectExact(*rig_, *client, windows_);
  }

  const std::vector<int32_t> windows_ = {0};
  std::optional<EngineRig> rig_;
  Client* long_ = nullptr;
  uint64_t seed_ = 0;
};

TEST_F(PassingTest, ShortPromptsPassALongOneWithHalfOfTheStep) {
  Begin();
  const Client* first = Submit(12);
  const Client* second = Submit(12);
  rig_->Turn();
  EXPECT_EQ(Read(long_), 16 + 8);
  EXPECT_EQ(Read(first), 8);
  EXPECT_TRUE(Waits(second));
  rig_->Turn();
  EXPECT_EQ(Read(long_), 16 + 8 + 8);
  EXPECT_EQ(Read(first), 12);
  EXPECT_EQ(Read(second), 4) << "in order of rank";
  rig_->Turn();
  EXPECT_EQ(Read(second), 4 + 7) << "half of what the decode leaves";
  ExpectAllExact();
}

// Otherwise one of half the length would block all shorter ones until it is read.
TEST_F(PassingTest, WhoPassesIsPassedByThoseThatAreShorterStill) {
  Begin();
  const Client* medium = Submit(190);
  const Client* like = Submit(100);  // more than half of the medium one
  const Client* shorter = Submit(3);
  rig_->Turn();
  EXPECT_EQ(Read(long_), 16 + 8);
  EXPECT_EQ(Read(medium), 5);
  EXPECT_TRUE(Waits(like));
  EXPECT_EQ(Read(shorter), 3);
  rig_->Turn();
  EXPECT_EQ(Read(long_), 16 + 8 + 8) << "half of 15, rounded up";
  EXPECT_EQ(Read(medium), 5 + 7);
  ExpectAllExact();
}

TEST_F(PassingTest, NoTokensAreLeftToWhoLacksScores) {
  EngineConfig config = LongConfig();
  config.max_logit_rows = 4;
  rig_.emplace(FakeOptions{}, config, windows_);
  const auto scored = [&](int32_t tokens) {
    Request request = MakeRequest(RandomPrompt(++seed_, tokens), 3);
    request.prompt_logprobs = 0;
    return rig_->Submit(std::move(request));
  };
  scored(100);
  long_ = Submit(400);
  scored(4);
  rig_->Turn();
  EXPECT_EQ(Read(long_), 16 - 4) << "the first takes all scores";
  ExpectAllExact();
}

TEST_F(PassingTest, NoTokensAreLeftToWhoWaitsForItsLeader) {
  Begin();
  Request request = MakeRequest(RandomPrompt(9, 4), 3);
  request.n = 2;
  const Client* pair = rig_->Submit(std::move(request));
  rig_->Turn();
  EXPECT_EQ(Read(pair), 4);
  EXPECT_EQ(Read(long_), 16 + 12);
  ExpectAllExact();
}

// Its last token is in flight.
TEST_F(PassingTest, NoTokensAreLeftToWhoDrawsNoMore) {
  rig_.emplace(FakeOptions{.planning_depth = 2}, LongConfig(), windows_);
  long_ = Submit(400);
  rig_->Turn();
  const Client* shorter = rig_->Submit(MakeRequest(RandomPrompt(9, 4), 1));
  rig_->Turn();
  ASSERT_EQ(rig_->sequence(*shorter).draws_in_flight, 1);
  ASSERT_EQ(rig_->sequence(*long_).planned, 16 + 12);
  rig_->Turn();
  EXPECT_EQ(rig_->sequence(*long_).planned, 16 + 12 + 16);
  ExpectAllExact();
}

TEST_F(PassingTest, APromptThatFitsTheStepLeavesNothing) {
  rig_.emplace(FakeOptions{}, LongConfig(), windows_);
  const Client* fits = Submit(16);
  const Client* shorter = Submit(4);
  rig_->Turn();
  EXPECT_EQ(Read(fits), 16);
  EXPECT_TRUE(Waits(shorter));
  ExpectAllExact();
}

// A more urgent request has no pages until another ends, and nobody is admitted past it.
TEST_F(PassingTest, NoTokensAreLeftWhenNobodyIsAdmitted) {
  constexpr int32_t kPages = 130;
  rig_.emplace(FakeOptions{}, LongConfig(), windows_, kPages);
  const auto urgent = [&](int32_t tokens, int32_t output) {
    Request request = MakeRequest(RandomPrompt(++seed_, tokens), output);
    request.priority = -1;
    return rig_->Submit(std::move(request));
  };
  const Client* decoding = urgent(80, 60);
  do {
    rig_->Turn();
  } while (rig_->sequence(*decoding).output_tokens() == 0);
  long_ = Submit(400);
  rig_->Turn();
  ASSERT_EQ(Read(long_), 15);
  const Client* large = urgent(440, 1);
  const Client* shorter = Submit(4);
  rig_->Turn();
  EXPECT_TRUE(Waits(large));
  EXPECT_TRUE(Waits(shorter));
  EXPECT_EQ(Read(long_), 15 + 15);
  ExpectAllExact();
}

// The long one still takes 96 pages, and one stays free for each that runs.
TEST_F(PassingTest, EachThatPassesLeavesAPageFreeForTheNext) {
  constexpr int32_t kPages = 103;
  Begin(LongConfig(), kPages);
  const Client* first = Submit(4);
  const Client* second = Submit(4);
  rig_->Turn();
  EXPECT_EQ(Read(first), 4);
  EXPECT_TRUE(Waits(second));
  EXPECT_EQ(Read(long_), 16 + 12) << "no tokens are kept for who cannot run";
  ExpectAllExact();
}

TEST_F(PassingTest, WhoPassesOneThatPassesLeavesTheNextItsSlotToo) {
  EngineConfig config = LongConfig();
  config.max_num_seqs = 4;
  Begin(config);
  const Client* next = Submit(400);
  const Client* medium = Submit(190);
  const Client* first = Submit(3);
  const Client* second = Submit(3);
  rig_->Turn();
  EXPECT_TRUE(Waits(next));
  EXPECT_EQ(Read(long_), 16 + 8);
  EXPECT_EQ(Read(medium), 5) << "only for those that can run";
  EXPECT_EQ(Read(first), 3);
  EXPECT_TRUE(Waits(second));
  ExpectAllExact();
}

TEST_F(PassingTest, WhoFindsScoresLeftPassesALongPromptThatIsScored) {
  EngineConfig config = LongConfig();
  config.mixed_step_tokens = 8;
  config.max_logit_rows = 16;
  rig_.emplace(FakeOptions{}, config, windows_);
  Submit(4);  // decodes in the next step
  rig_->Turn();
  const auto scored = [&](int32_t tokens) {
    Request request = MakeRequest(RandomPrompt(++seed_, tokens), 3);
    request.prompt_logprobs = 0;
    return rig_->Submit(std::move(request));
  };
  long_ = scored(400);
  const Client* shorter = scored(3);
  rig_->Turn();
  EXPECT_EQ(Read(long_), 5);
  EXPECT_EQ(Read(shorter), 3);
  ExpectAllExact();
}

// It recomputes what was scored before.
TEST_F(PassingTest, APreemptedPromptNeedsNoScoresAgainToPass) {
  EngineConfig config = LongConfig();
  config.max_num_seqs = 3;
  config.max_logit_rows = 4;
  config.prefix_cache = false;
  Begin(config);
  const auto scored = [&](int32_t tokens, int32_t priority) {
    Request request = MakeRequest(RandomPrompt(++seed_, tokens), 3);
    request.priority = priority;
    request.prompt_logprobs = 0;
    return rig_->Submit(std::move(request));
  };
  const Client* victim = scored(20, 0);
  for (int turn = 0; turn < 2; ++turn) rig_->Turn();
  ASSERT_EQ(Read(victim), 8);
  scored(100, -1);  // takes all scores from now on
  rig_->Submit(Urgent());
  rig_->Turn();
  ASSERT_EQ(rig_->sequence(*victim).preemptions, 1);
  const int32_t read = Read(long_);
  rig_->Turn();
  EXPECT_EQ(Read(victim), 6);
  EXPECT_EQ(Read(long_), read + 6);
  ExpectAllExact();
}

// It has scores for two tokens of its share.
TEST_F(PassingTest, WhatAPasserLeavesOfTheShareIsNotForTheLessUrgent) {
  EngineConfig config = LongConfig();
  config.max_logit_rows = 2;
  Begin(config);
  Request request = MakeRequest(RandomPrompt(9, 100), 3);
  request.prompt_logprobs = 0;
  const Client* scored = rig_->Submit(std::move(request));
  const Client* idle = Submit(4, 1);
  rig_->Turn();
  EXPECT_EQ(Read(scored), 2);
  EXPECT_EQ(Read(long_), 16 + 14) << "all that the scores leave";
  EXPECT_TRUE(Waits(idle));
  ExpectAllExact();
}

TEST_F(PassingTest, ALongPromptGetsWhatShortOnesLeave) {
  Begin();
  const Client* shorter = Submit(3);
  rig_->Turn();
  EXPECT_EQ(Read(shorter), 3);
  EXPECT_EQ(Read(long_), 16 + 13);
  ExpectAllExact();
}

TEST_F(PassingTest, PromptsOfLikeLengthRunOneAfterTheOther) {
  Begin();
  const Client* like = Submit(193);  // more than half of the 384 that are left
  const Client* half = Submit(192);
  rig_->Turn();
  EXPECT_TRUE(Waits(like));
  EXPECT_EQ(Read(half), 8) << "it passes both";
  rig_->Turn();
  EXPECT_EQ(Read(half), 16) << "still half as long: 184 and 376";
  ExpectAllExact();
}

// It is as long as the others, but the cache has most of it.
TEST_F(PassingTest, TheCachedPartOfAPromptDoesNotCount) {
  rig_.emplace(FakeOptions{}, LongConfig(), windows_);
  const std::vector<int32_t> chat = RandomPrompt(99, 300);
  rig_->Submit(MakeRequest(chat, 3));
  ASSERT_TRUE(rig_->Finish());
  long_ = Submit(400);
  rig_->Turn();
  const Client* again = rig_->Submit(MakeRequest(chat, 3));
  rig_->Turn();
  EXPECT_EQ(Read(again), 300);
  EXPECT_EQ(Read(long_), 16 + 12);
  ExpectAllExact();
}

TEST_F(PassingTest, PrioritiesAreStrict) {
  Begin();
  const Client* idle = Submit(4, 1);
  rig_->Turn();
  EXPECT_EQ(Read(long_), 16 + 16);
  EXPECT_TRUE(Waits(idle));
  ExpectAllExact();
}

TEST_F(PassingTest, NobodyPassesWithoutAShare) {
  EngineConfig config = LongConfig();
  config.short_prompt_share = 0;
  Begin(config);
  const Client* shorter = Submit(4);
  rig_->Turn();
  EXPECT_EQ(Read(long_), 16 + 16);
  EXPECT_TRUE(Waits(shorter));
  ExpectAllExact();
}

// The next long prompt finds a slot and its pages when the first is done.
TEST_F(PassingTest, WhoPassesLeavesTheNextItsSlot) {
  EngineConfig config = LongConfig();
  config.max_num_seqs = 3;
  Begin(config);
  const Client* next = Submit(400);
  const Client* first = Submit(4);
  const Client* second = Submit(4);
  rig_->Turn();
  EXPECT_EQ(Read(first), 4);
  EXPECT_TRUE(Waits(second));
  EXPECT_EQ(Read(long_), 16 + 12) << "only for those that can run";
  EXPECT_TRUE(Waits(next));
  ExpectAllExact();
}

TEST_F(PassingTest, WhoPassesLeavesTheNextItsPages) {
  constexpr int32_t kPages = 101 + 101 + 8;  // two long prompts with a token each, and some
  Begin(LongConfig(), kPages);
  const Client* next = Submit(400);
  const Client* shorter = Submit(4 * 10);
  rig_->Turn();
  EXPECT_TRUE(Waits(shorter)) << "ten pages are not left";
  EXPECT_EQ(Read(long_), 16 + 16) << "no tokens are kept for who cannot run";
  const Client* shortest = Submit(4);
  rig_->Turn();
  EXPECT_TRUE(Waits(shortest)) << "in order among themselves";
  EXPECT_TRUE(Waits(next));
  ExpectAllExact();
}

// A prompt that passed, and is no longer short beside what the long one has left, waits for it.
TEST_F(PassingTest, WhoIsNoLongerShorterLeavesTheShareToOthers) {
  EngineConfig config = LongConfig();
  config.short_prompt_share = 0.25;
  Begin(config);
  const Client* half = Submit(190);
  do {
    rig_->Turn();
  } while (2 * (190 - Read(half)) <= 400 - Read(long_));
  const int32_t read = Read(half);
  EXPECT_GT(read, 0);
  const Client* shorter = Submit(4);
  rig_->Turn();
  EXPECT_EQ(Read(half), read);
  EXPECT_EQ(Read(shorter), 4);
  ExpectAllExact();
}

// What it computed before is in the cache, and does not count.
TEST_F(PassingTest, APreemptedSequencePassesAgainWithWhatIsCached) {
  EngineConfig config = LongConfig();
  config.max_num_seqs = 3;
  Begin(config);
  const Client* victim = Submit(180);
  for (int turn = 0; turn < 6; ++turn) rig_->Turn();
  ASSERT_EQ(Read(victim), 6 * 8);
  for (int i = 0; i < 2; ++i) rig_->Submit(Urgent());
  rig_->Turn();
  ASSERT_EQ(rig_->sequence(*victim).preemptions, 1);
  rig_->Turn();
  EXPECT_EQ(Read(victim), 7 * 8);
  ExpectAllExact();
}

TEST_F(PassingTest, NobodyPassesAPreemptedSequence) {
  EngineConfig config = LongConfig();
  config.max_num_seqs = 3;
  config.prefix_cache = false;
  Begin(config);
  const Client* victim = Submit(180);
  for (int turn = 0; turn < 6; ++turn) rig_->Turn();
  ASSERT_GT(Read(victim), 0) << "it passed";
  for (int i = 0; i < 2; ++i) rig_->Submit(Urgent());  // one takes the free slot, one the victim's
  rig_->Turn();
  ASSERT_EQ(rig_->sequence(*victim).preemptions, 1);
  const Client* newcomer = Submit(4);
  for (int turn = 0; turn < 4; ++turn) {
    rig_->Turn();
    EXPECT_TRUE(Waits(newcomer));
    EXPECT_TRUE(Waits(victim)) << "more than half of what the long one has left";
  }
  ExpectAllExact();
}

}  // namespace
}  // namespace baram::testing
