// Which sequence starts, and with which cached prefix (engine/scheduler_admission.cc), on the fake
// device. The rig checks I2 and I3 after every turn.
#include "gtest/gtest.h"
#include "tests/engine/rig.h"

namespace baram::testing {
namespace {

// Not only once nothing else can run, and whatever their ranks are.
TEST(AdmissionTest, APausedSequenceGivesWayWhileOthersRun) {
  EngineConfig config = SmallConfig();
  config.stream_tokens = 2;
  EngineRig rig({}, config, {0}, 12);
  Client* slow = rig.Submit(MakeRequest(RandomPrompt(1, 20), 12));
  for (int turn = 0; turn < 6; ++turn) rig.Turn();
  ASSERT_TRUE(rig.sequence(*slow).paused);
  Client* decoding = rig.Submit(MakeRequest(RandomPrompt(2, 4), 20));
  rig.Turn();
  decoding->Read();
  ASSERT_EQ(rig.sequence(*decoding).output_tokens(), 1);
  Client* other = rig.Submit(MakeRequest(RandomPrompt(3, 20), 4));
  rig.Turn();
  EXPECT_EQ(rig.sequence(*other).state, SequenceState::kRunning);
  EXPECT_EQ(rig.sequence(*slow).preemptions, 1);
  EXPECT_EQ(rig.sequence(*decoding).output_tokens(), 2);
  ASSERT_TRUE(rig.Finish());
  for (Client* client : {slow, decoding, other}) ExpectExact(rig, *client, {0});
}

TEST(AdmissionTest, WhatAFollowerDrewIsFoundAgain) {
  EngineRig rig({}, SmallConfig(), {0});
  std::vector<int32_t> prompt = RandomPrompt(1, 8);
  Request request = MakeRequest(prompt, 9);
  request.n = 2;
  Client* client = rig.Submit(std::move(request));
  ASSERT_TRUE(rig.Finish());
  const std::vector<int32_t> drawn = client->outputs[1].Ids();
  ASSERT_NE(drawn[0], client->outputs[0].Ids()[0]);
  prompt.insert(prompt.end(), drawn.begin(), drawn.end());
  Client* next = rig.Submit(MakeRequest(prompt, 1));
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(next->outbox->cached_tokens(), 8 + 8);
  ExpectExact(rig, *next, {0});
}

}  // namespace
}  // namespace baram::testing
