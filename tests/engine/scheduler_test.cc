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
    EXPECT_EQ(rig.sequence(*decoding).output(), 1 + turn);
    EXPECT_EQ(rig.sequence(*prompt).committed, 15 * turn);
  }
  ASSERT_TRUE(rig.Finish());
  ExpectExact(rig, *prompt, {0});
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

TEST(SchedulerTest, LowerPriorityValuesRunFirstAndTiesByArrival) {
  EngineConfig config = SmallConfig();
  config.max_num_seqs = 1;
  EngineRig rig({}, config, {0});
  std::vector<Client*> clients;
  for (const int32_t priority : {0, 5, -1, 0}) {
    Request request = MakeRequest(RandomPrompt(priority + 10, 5), 2);
    request.priority = priority;
    clients.push_back(rig.Submit(std::move(request)));
  }
  ASSERT_TRUE(rig.Finish());
  const auto finished = [&](int i) { return clients[i]->outbox->timeline().finished; };
  EXPECT_LT(finished(2), finished(0));
  EXPECT_LT(finished(0), finished(3));
  EXPECT_LT(finished(3), finished(1));
}

// Also where the decodes' tokens are all that a step has: the one that gives way returns its own.
TEST(SchedulerTest, AMoreUrgentRequestTakesASlotFromALessUrgentOne) {
  for (const int32_t step_tokens : {2, 16}) {
    EngineConfig config = SmallConfig();
    config.max_num_seqs = 2;
    config.max_num_batched_tokens = step_tokens;
    EngineRig rig({}, config, {0});
    Client* first = rig.Submit(MakeRequest(RandomPrompt(1, 5), 30));
    Client* second = rig.Submit(MakeRequest(RandomPrompt(2, 5), 30));
    do {
      rig.Turn();
    } while (rig.sequence(*second).output() == 0);
    Request urgent = MakeRequest(RandomPrompt(3, 5), 5);
    urgent.priority = -1;
    Client* third = rig.Submit(std::move(urgent));
    rig.Turn();
    EXPECT_EQ(rig.sequence(*third).state, SequenceState::kRunning);
    EXPECT_EQ(rig.sequence(*second).state, SequenceState::kWaiting) << "the newer of the two";
    EXPECT_EQ(rig.sequence(*first).state, SequenceState::kRunning);
    ASSERT_TRUE(rig.Finish());
    for (Client* client : {first, second, third}) ExpectExact(rig, *client, {0});
  }
}

// All that the least urgent one holds would not be enough: it keeps it, until the most urgent can
// be admitted without.
TEST(SchedulerTest, NobodyGivesWayToAnAdmissionThatWouldFail) {
  for (const int32_t depth : {1, 2}) {
    EngineConfig config = SmallConfig();
    config.prefix_cache = false;
    EngineRig rig({.planning_depth = depth}, config, {0}, 20);
    Request ahead = MakeRequest(RandomPrompt(1, 33), 10);
    ahead.priority = -1;
    Client* b = rig.Submit(std::move(ahead));
    Client* c = rig.Submit(MakeRequest(RandomPrompt(2, 20), 8));
    do {
      rig.Turn();
    } while (rig.sequence(*b).blocks() < 10 || rig.sequence(*c).blocks() < 6);
    ASSERT_EQ(rig.core().pool().available(), 4);
    Request urgent = MakeRequest(RandomPrompt(3, 48), 1);
    urgent.priority = -1;
    Client* a = rig.Submit(std::move(urgent));
    rig.Turn();
    EXPECT_EQ(rig.sequence(*a).state, SequenceState::kWaiting);
    EXPECT_EQ(rig.sequence(*c).state, SequenceState::kRunning);
    ASSERT_TRUE(rig.Finish());
    EXPECT_EQ(rig.core().stats().preemptions.value(), 0);
    for (Client* client : {a, b, c}) ExpectExact(rig, *client, {0});
  }
}

// What two of them share comes free when both give way, and is needed: somebody else runs on.
TEST(SchedulerTest, SharedPagesCountOnceAllTheirHoldersGiveWay) {
  EngineRig rig({}, SmallConfig(), {0}, 24);
  Request ahead = MakeRequest(RandomPrompt(3, 4), 12);
  ahead.priority = -1;
  Client* b = rig.Submit(std::move(ahead));
  Request shared = MakeRequest(RandomPrompt(1, 60), 8);
  shared.n = 2;
  Client* both = rig.Submit(std::move(shared));
  do {
    rig.Turn();
  } while (rig.sequence(*both, 1).output() == 0);
  Request urgent = MakeRequest(RandomPrompt(2, 60), 1);
  urgent.priority = -1;
  Client* a = rig.Submit(std::move(urgent));
  rig.Turn();
  EXPECT_EQ(rig.sequence(*a).state, SequenceState::kRunning);
  EXPECT_EQ(rig.sequence(*b).state, SequenceState::kRunning);
  ASSERT_TRUE(rig.Finish());
  for (Client* client : {a, b, both}) ExpectExact(rig, *client, {0});
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

TEST(SchedulerTest, NorThoseOfAPromptAheadOfThem) {
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

TEST(SchedulerTest, PagesAreTakenFromTheNewestAndNeverFromTheOldest) {
  EngineConfig config = SmallConfig();
  config.prefix_cache = false;
  // 12 pages of 4 tokens; three sequences that grow to 8 pages each.
  EngineRig rig({}, config, {0}, 12);
  std::vector<Client*> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(rig.Submit(MakeRequest(RandomPrompt(i, 4), 28)));
  std::vector<int32_t> preemptions(3, 0);
  while (!clients[0]->done()) {
    rig.Turn();
    for (int i = 0; i < 3; ++i) {
      if (rig.core().idle()) break;
      clients[i]->Read();
      if (!clients[i]->done()) preemptions[i] = rig.sequence(*clients[i]).preemptions;
    }
  }
  EXPECT_EQ(preemptions[0], 0);
  EXPECT_GE(preemptions[2], 1);
  ASSERT_TRUE(rig.Finish());
  for (Client* client : clients) ExpectExact(rig, *client, {0});
}

TEST(SchedulerTest, NobodyIsAdmittedPastAPreemptedSequence) {
  for (const int32_t depth : {1, 2}) {
    EngineConfig config = SmallConfig();
    config.prefix_cache = false;
    EngineRig rig({.planning_depth = depth}, config, {0}, 15);
    Client* first = rig.Submit(MakeRequest(RandomPrompt(1, 12), 40));
    Client* victim = rig.Submit(MakeRequest(RandomPrompt(2, 40), 10));
    for (int turn = 0; turn < 4; ++turn) rig.Turn();
    Client* newcomer = rig.Submit(MakeRequest(RandomPrompt(3, 4), 4));
    do {
      rig.Turn();
      ASSERT_EQ(rig.sequence(*newcomer).state, SequenceState::kWaiting);
    } while (rig.sequence(*victim).preemptions == 0);
    EXPECT_GT(rig.core().pool().available(), 8);
    ASSERT_TRUE(rig.Finish());
    for (Client* client : {first, victim, newcomer}) ExpectExact(rig, *client, {0});
  }
}

// Preempted again and again, it still comes back into a quarter of the pool: sixteen that run,
// eight pages for each, would be all there is.
TEST(SchedulerTest, WhatAPreemptedSequenceMustLeaveFreeIsAShareOfThePool) {
  EngineConfig config = SmallConfig();
  config.max_num_seqs = 17;
  config.max_num_batched_tokens = 64;
  config.prefix_cache = false;
  EngineRig rig({}, config, {0}, 128);
  for (int i = 0; i < 16; ++i) rig.Submit(MakeRequest(RandomPrompt(i, 4), 200));
  Client* victim = rig.Submit(MakeRequest(RandomPrompt(17, 4), 40));
  do {
    rig.Turn();
  } while (rig.sequence(*victim).output() == 0);
  for (int i = 0; i < 3; ++i) {
    Request urgent = MakeRequest(RandomPrompt(20 + i, 4), 1);
    urgent.priority = -1;
    rig.Submit(std::move(urgent));
    rig.Turn();
    EXPECT_EQ(rig.sequence(*victim).preemptions, i + 1);
    rig.Turn();
    EXPECT_EQ(rig.sequence(*victim).state, SequenceState::kRunning);
  }
}

// Reliability promise P9: a pool for 8, 64 that grow eightfold.
TEST(SchedulerTest, ExhaustionLosesNothingAndDoesNotThrash) {
  EngineConfig config = SmallConfig();
  config.max_num_seqs = 64;
  config.max_num_batched_tokens = 64;
  config.prefix_cache = false;
  EngineRig rig({}, config, {0}, 8 * 16);
  std::vector<Client*> clients;
  for (int i = 0; i < 64; ++i) clients.push_back(rig.Submit(MakeRequest(RandomPrompt(i, 8), 56)));
  int32_t worst = 0, turns = 0;
  while (!rig.core().idle()) {
    ASSERT_LT(++turns, 100000);
    rig.Turn();
    for (const auto& live : rig.core().scheduler().requests()) {
      worst = std::max(worst, live->outputs[0].preemptions);
    }
    for (Client* client : clients) client->Read();
  }
  EXPECT_GE(worst, 1);
  EXPECT_LE(worst, 8);
  for (Client* client : clients) {
    client->Read();
    ExpectExact(rig, *client, {0});
  }
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

// Pages that are cached for a request count once: it needs three more, and there is one.
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
      rig.Turn();  // the leader's prompt is done
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

// They compute the last page of the prompt again, and it takes its place in the index once.
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

TEST(SchedulerTest, APausedSequenceYieldsItsPagesEvenIfItIsTheOldest) {
  EngineConfig config = SmallConfig();
  config.stream_tokens = 2;
  EngineRig rig({}, config, {0}, 10);
  Client* slow = rig.Submit(MakeRequest(RandomPrompt(1, 20), 12));
  for (int turn = 0; turn < 6; ++turn) rig.Turn();
  ASSERT_TRUE(rig.sequence(*slow).paused);
  Client* other = rig.Submit(MakeRequest(RandomPrompt(2, 20), 12));
  for (int turn = 0; turn < 20; ++turn) {
    rig.Turn();
    other->Read();
  }
  EXPECT_TRUE(other->done());
  EXPECT_EQ(rig.sequence(*slow).preemptions, 1);
  ASSERT_TRUE(rig.Finish());
  ExpectExact(rig, *slow, {0});
  ExpectExact(rig, *other, {0});
}

// A slow reader takes a token now and then, and another request has its slot meanwhile.
TEST(SchedulerTest, APreemptedStreamComesBackToHalfARing) {
  EngineConfig config = SmallConfig();
  config.max_num_seqs = 1;
  config.stream_tokens = 8;
  EngineRig rig({}, config, {0});
  Client* slow = rig.Submit(MakeRequest(RandomPrompt(1, 20), 30));
  for (int turn = 0; turn < 12; ++turn) rig.Turn();
  ASSERT_TRUE(rig.sequence(*slow).paused);
  rig.Submit(MakeRequest(RandomPrompt(2, 20), 4));
  for (int turn = 0; turn < 8; ++turn) rig.Turn();
  EXPECT_EQ(rig.sequence(*slow).preemptions, 1);
  for (int taken = 1; taken <= 4; ++taken) {
    rig.Advance(20);  // seconds: fewer than end it, unless it takes nothing
    slow->Read(1);
    rig.Turn();
    ASSERT_EQ(rig.sequence(*slow).state,
              taken < 4 ? SequenceState::kWaiting : SequenceState::kRunning);
  }
  ASSERT_TRUE(rig.Finish());
  ExpectExact(rig, *slow, {0});
}

TEST(SchedulerTest, APreemptedStreamThatCanEndInItsRingWaitsForNoReader) {
  EngineConfig config = SmallConfig();
  config.max_num_seqs = 1;
  EngineRig rig({}, config, {0});
  Client* unread = rig.Submit(MakeRequest(RandomPrompt(1, 5), 30));
  for (int turn = 0; turn < 20; ++turn) rig.Turn();
  Request urgent = MakeRequest(RandomPrompt(2, 5), 2);
  urgent.priority = -1;
  rig.Submit(std::move(urgent));
  for (int turn = 0; turn < 40; ++turn) rig.Turn();
  EXPECT_TRUE(rig.core().idle());
  unread->Read();
  ExpectExact(rig, *unread, {0});
}

// P runs and is paused, W and X were paused and preempted for B, which runs behind them. When W
// comes back P's pages would not be enough, and P keeps them: B's turn comes all the same.
TEST(SchedulerTest, WhoRunsBehindAFailedAdmissionStillHasItsTurn) {
  EngineConfig config = SmallConfig();
  config.stream_tokens = 2;
  config.prefix_cache = false;
  EngineRig rig({}, config, {0}, 20);
  Client* p = rig.Submit(MakeRequest(RandomPrompt(1, 8), 20));
  Client* w = rig.Submit(MakeRequest(RandomPrompt(2, 20), 20));
  Client* x = rig.Submit(MakeRequest(RandomPrompt(3, 20), 20));
  for (int turn = 0; turn < 8; ++turn) rig.Turn();
  Client* b = rig.Submit(MakeRequest(RandomPrompt(4, 24), 60));
  while (!b->done() && (rig.core().stats().waiting.value() < 2 || rig.sequence(*b).blocks() < 13)) {
    rig.Turn();
    b->Read();
  }
  ASSERT_EQ(rig.sequence(*p).state, SequenceState::kRunning);
  ASSERT_EQ(rig.sequence(*w).state, SequenceState::kWaiting);
  ASSERT_EQ(rig.sequence(*x).state, SequenceState::kWaiting);
  w->Read();
  x->Read();
  const int32_t planned = rig.sequence(*b).planned;
  rig.Turn();
  EXPECT_EQ(rig.sequence(*p).state, SequenceState::kRunning);
  EXPECT_EQ(rig.sequence(*w).state, SequenceState::kWaiting);
  EXPECT_EQ(rig.sequence(*b).planned, planned + 1);
  ASSERT_TRUE(rig.Finish());
  for (Client* client : {p, w, x, b}) ExpectExact(rig, *client, {0});
}

// A follower waits with its leader's pages, ahead in rank of a runner that can't go on: that one
// gives way, and nobody fails.
TEST(SchedulerTest, TheLastInRankGivesWayWhenNothingCanRun) {
  EngineConfig config = SmallConfig();
  config.max_chunk_tokens = 5;
  EngineRig rig({}, config, {0}, 10);
  Request shared = MakeRequest(RandomPrompt(1, 20), 1);
  shared.n = 2;
  Client* first = rig.Submit(std::move(shared));
  Client* behind = rig.Submit(MakeRequest(RandomPrompt(2, 20), 10));
  for (int turn = 0; turn < 8; ++turn) rig.Turn();
  ASSERT_EQ(rig.sequence(*first, 1).state, SequenceState::kWaiting);
  ASSERT_EQ(rig.sequence(*first, 1).blocks(), 4);
  ASSERT_EQ(rig.core().pool().available(), 0);
  rig.Turn();
  EXPECT_EQ(rig.sequence(*behind).preemptions, 1);
  ASSERT_TRUE(rig.Finish());
  ExpectExact(rig, *first, {0});
  ExpectExact(rig, *behind, {0});
}

// The leader is preempted while its first token is in flight, and comes back to find all of its
// prompt in the cache: the followers' windows need the page before.
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
  EXPECT_EQ(rig.sequence(*client).output(), 1) << "what was in flight still counts";
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
  ASSERT_TRUE(scheduler.Plan(now, batch));
  EXPECT_EQ(batch.tokens(), 8) << "as many as there are pages for";
  scheduler.Commit(now, batch);
  EXPECT_FALSE(scheduler.Plan(now, batch));
  ASSERT_EQ(scheduler.endings().size(), 1u);
  EXPECT_EQ(scheduler.endings()[0].finish.reason, FinishReason::kFailed);
  EXPECT_THAT(scheduler.endings()[0].finish.message, HasSubstr("KV cache"));
  scheduler.CheckInvariants();
  EXPECT_EQ(pool.AcquireSalt("another"), 0) << "its salt is let go";
}

}  // namespace
}  // namespace baram::testing
