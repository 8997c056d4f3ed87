// Which sequence gets slots and pages, in which order, and which is preempted; on the fake device.
// The rig checks I2 and I3 after every turn.
#include "engine/scheduler.h"
#include "gtest/gtest.h"
#include "tests/engine/rig.h"

namespace baram::testing {
namespace {

TEST(PreemptionTest, LowerPriorityValuesRunFirstAndTiesByArrival) {
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

// Even if decodes use up the step's tokens: the preempted one returns its own.
TEST(PreemptionTest, AMoreUrgentRequestTakesASlotFromALessUrgentOne) {
  for (const int32_t step_tokens : {2, 16}) {
    EngineConfig config = SmallConfig();
    config.max_num_seqs = 2;
    config.max_num_batched_tokens = step_tokens;
    EngineRig rig({}, config, {0});
    Client* first = rig.Submit(MakeRequest(RandomPrompt(1, 5), 30));
    Client* second = rig.Submit(MakeRequest(RandomPrompt(2, 5), 30));
    do {
      rig.Turn();
    } while (rig.sequence(*second).output_tokens() == 0);
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

// Also if those they preempt have a step in flight: devices run steps in order.
TEST(PreemptionTest, UrgentRequestsTakeTheirSlotsInOneStep) {
  for (const int32_t depth : {1, 2}) {
    EngineRig rig({.planning_depth = depth}, SmallConfig(), {0});
    std::vector<Client*> runners, urgent;
    for (int i = 0; i < 8; ++i) runners.push_back(rig.Submit(MakeRequest(RandomPrompt(i, 2), 60)));
    do {
      rig.Turn();
    } while (rig.sequence(*runners.back()).output_tokens() == 0);
    for (int i = 0; i < 6; ++i) {
      Request request = MakeRequest(RandomPrompt(10 + i, 2), 4);
      request.priority = -1;
      urgent.push_back(rig.Submit(std::move(request)));
    }
    rig.Turn();
    for (Client* client : urgent) {
      EXPECT_EQ(rig.sequence(*client).state, SequenceState::kRunning) << "depth " << depth;
    }
    EXPECT_EQ(rig.core().stats().preemptions.value(), 6);
    ASSERT_TRUE(rig.Finish());
    for (const std::unique_ptr<Client>& client : rig.clients()) ExpectExact(rig, *client, {0});
  }
}

// Its holder was cancelled with a row in flight.
TEST(PreemptionTest, NobodyGivesWayForASlotThatComesFreeAnyway) {
  EngineConfig config = SmallConfig();
  config.max_num_seqs = 2;
  EngineRig rig({.planning_depth = 2}, config, {0});
  Client* first = rig.Submit(MakeRequest(RandomPrompt(1, 5), 30));
  Client* second = rig.Submit(MakeRequest(RandomPrompt(2, 5), 30));
  do {
    rig.Turn();
  } while (rig.sequence(*second).output_tokens() == 0);
  first->outbox->Cancel();
  Request request = MakeRequest(RandomPrompt(3, 5), 5);
  request.priority = -1;
  Client* urgent = rig.Submit(std::move(request));
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(rig.core().stats().preemptions.value(), 0);
  for (Client* client : {second, urgent}) ExpectExact(rig, *client, {0});
}

// All that the least urgent one holds would not be enough: it keeps it, until the most urgent can
// be admitted without it.
TEST(PreemptionTest, NobodyGivesWayToAnAdmissionThatWouldFail) {
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

// Pages shared by two of them come free when both are preempted, and are needed: a third runs on.
TEST(PreemptionTest, SharedPagesCountOnceAllTheirHoldersGiveWay) {
  EngineRig rig({}, SmallConfig(), {0}, 24);
  Request ahead = MakeRequest(RandomPrompt(3, 4), 12);
  ahead.priority = -1;
  Client* b = rig.Submit(std::move(ahead));
  Request shared = MakeRequest(RandomPrompt(1, 60), 8);
  shared.n = 2;
  Client* both = rig.Submit(std::move(shared));
  do {
    rig.Turn();
  } while (rig.sequence(*both, 1).output_tokens() == 0);
  Request urgent = MakeRequest(RandomPrompt(2, 60), 1);
  urgent.priority = -1;
  Client* a = rig.Submit(std::move(urgent));
  rig.Turn();
  EXPECT_EQ(rig.sequence(*a).state, SequenceState::kRunning);
  EXPECT_EQ(rig.sequence(*b).state, SequenceState::kRunning);
  ASSERT_TRUE(rig.Finish());
  for (Client* client : {a, b, both}) ExpectExact(rig, *client, {0});
}

TEST(PreemptionTest, PagesAreTakenFromTheNewestAndNeverFromTheOldest) {
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

// In small chunks each has few pages for long. Either fits, with what the other has, but not both.
TEST(PreemptionTest, NobodyIsAdmittedIntoThePagesOfAPromptThatIsBeingRead) {
  for (const int32_t depth : {1, 2}) {
    for (const auto& [windows, pages] :
         {std::pair(std::vector<int32_t>{0}, 30), {std::vector<int32_t>{0, 8}, 36}}) {
      EngineConfig config = SmallConfig();
      config.max_chunk_tokens = 5;
      config.prefix_cache = false;
      EngineRig rig({.planning_depth = depth}, config, windows, pages);
      for (int i = 0; i < 2; ++i) rig.Submit(MakeRequest(RandomPrompt(i, 80), 4));
      ASSERT_TRUE(rig.Finish());
      EXPECT_EQ(rig.core().stats().preemptions.value(), 0);
      for (const std::unique_ptr<Client>& client : rig.clients()) {
        ExpectExact(rig, *client, windows);
      }
    }
  }
}

// A window that is full takes no more pages than it gives back.
TEST(PreemptionTest, PromptsAreReadTogetherWhereTheirWindowsFit) {
  EngineConfig config = SmallConfig();
  config.max_chunk_tokens = 5;
  config.prefix_cache = false;
  EngineRig rig({}, config, {6}, 17);
  std::vector<Client*> first;
  for (int i = 0; i < 3; ++i) first.push_back(rig.Submit(MakeRequest(RandomPrompt(i, 80), 4)));
  for (int turn = 0; turn < 4; ++turn) rig.Turn();
  Client* fourth = rig.Submit(MakeRequest(RandomPrompt(4, 80), 4));
  rig.Turn();
  for (Client* client : first) EXPECT_LT(rig.sequence(*client).planned, 80);
  EXPECT_EQ(rig.sequence(*fourth).state, SequenceState::kRunning);
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(rig.core().stats().preemptions.value(), 0);
  for (const std::unique_ptr<Client>& client : rig.clients()) ExpectExact(rig, *client, {6});
}

// The urgent one ends before the other needs the pages: nothing is taken from that one too soon.
TEST(PreemptionTest, WhatALessUrgentPromptLacksHoldsUpNobody) {
  EngineConfig config = SmallConfig();
  config.max_chunk_tokens = 5;
  config.prefix_cache = false;
  EngineRig rig({}, config, {0}, 30);
  Client* prompt = rig.Submit(MakeRequest(RandomPrompt(1, 80), 4));
  rig.Turn();
  Request request = MakeRequest(RandomPrompt(2, 40), 2);
  request.priority = -1;
  Client* urgent = rig.Submit(std::move(request));
  rig.Turn();
  EXPECT_EQ(rig.sequence(*urgent).planned, 5);
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(rig.core().stats().preemptions.value(), 0);
  for (Client* client : {prompt, urgent}) ExpectExact(rig, *client, {0});
}

TEST(PreemptionTest, NobodyIsAdmittedPastAPreemptedSequence) {
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

// Preempted repeatedly, it still returns into a quarter of the pool: sixteen running ones, at eight
// pages each, would take all of it.
TEST(PreemptionTest, WhatAPreemptedSequenceMustLeaveFreeIsAShareOfThePool) {
  EngineConfig config = SmallConfig();
  config.max_num_seqs = 17;
  config.max_num_batched_tokens = 64;
  config.prefix_cache = false;
  EngineRig rig({}, config, {0}, 128);
  for (int i = 0; i < 16; ++i) rig.Submit(MakeRequest(RandomPrompt(i, 4), 200));
  Client* victim = rig.Submit(MakeRequest(RandomPrompt(17, 4), 40));
  do {
    rig.Turn();
  } while (rig.sequence(*victim).output_tokens() == 0);
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

// "Running out of pages loses and repeats nothing" (RELIABILITY.md): a pool for 8 sequences, and 64
// that grow eightfold.
TEST(PreemptionTest, ExhaustionLosesNothingAndDoesNotThrash) {
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

TEST(PreemptionTest, APausedSequenceYieldsItsPagesEvenIfItIsTheOldest) {
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

// A slow reader takes an occasional token, and another request uses its slot meanwhile.
TEST(PreemptionTest, APreemptedStreamComesBackToHalfARing) {
  EngineConfig config = SmallConfig();
  config.max_num_seqs = 1;
  config.stream_tokens = 7;
  EngineRig rig({}, config, {0});
  Client* slow = rig.Submit(MakeRequest(RandomPrompt(1, 20), 30));
  for (int turn = 0; turn < 12; ++turn) rig.Turn();
  ASSERT_TRUE(rig.sequence(*slow).paused);
  rig.Submit(MakeRequest(RandomPrompt(2, 20), 4));
  for (int turn = 0; turn < 8; ++turn) rig.Turn();
  EXPECT_EQ(rig.sequence(*slow).preemptions, 1);
  for (int taken = 1; taken <= 4; ++taken) {
    rig.Advance(20);  // seconds; not enough to end it, unless it reads nothing
    slow->Read(1);
    rig.Turn();
    ASSERT_EQ(rig.sequence(*slow).state,
              taken < 4 ? SequenceState::kWaiting : SequenceState::kRunning);
  }
  ASSERT_TRUE(rig.Finish());
  ExpectExact(rig, *slow, {0});
}

TEST(PreemptionTest, APreemptedStreamThatCanEndInItsRingWaitsForNoReader) {
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

// P runs and is paused, W and X were paused and preempted for B, which runs after them. When W
// comes back P's pages would not be enough, and P keeps them: B still gets its turn.
TEST(PreemptionTest, WhoRunsBehindAFailedAdmissionStillHasItsTurn) {
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

// A follower waits with its leader's pages, ahead in rank of a running sequence that can't proceed:
// that one is preempted, and none fails.
TEST(PreemptionTest, TheLastInRankGivesWayWhenNothingCanRun) {
  EngineConfig config = SmallConfig();
  config.max_chunk_tokens = 1;
  EngineRig rig({}, config, {0}, 10);
  Request shared = MakeRequest(RandomPrompt(1, 20), 1);
  shared.n = 2;
  Client* first = rig.Submit(std::move(shared));
  Client* behind = rig.Submit(MakeRequest(RandomPrompt(2, 1), 30));
  for (int turn = 0; turn < 24; ++turn) rig.Turn();
  ASSERT_EQ(rig.sequence(*first, 1).state, SequenceState::kWaiting);
  ASSERT_EQ(rig.sequence(*first, 1).blocks(), 4);
  ASSERT_EQ(rig.core().pool().available(), 0);
  rig.Turn();
  EXPECT_EQ(rig.sequence(*behind).preemptions, 1);
  ASSERT_TRUE(rig.Finish());
  ExpectExact(rig, *first, {0});
  ExpectExact(rig, *behind, {0});
}

}  // namespace
}  // namespace baram::testing
