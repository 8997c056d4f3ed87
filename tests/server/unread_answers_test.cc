// UnreadAnswers: which answers are cut off when clients do not read them.
#include "server/unread_answers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace baram::server {
namespace {

using ::testing::ElementsAre;

class UnreadAnswersTest : public ::testing::Test {
 protected:
  std::unique_ptr<UnreadAnswers::One> Hold(const std::string& name, int64_t kib,
                                           int64_t metadata = 300) {
    return std::make_unique<UnreadAnswers::One>(all_, kib << 10, metadata,
                                                [this, name] { cut_off_.push_back(name); });
  }

  UnreadAnswers all_{1 << 20};
  std::vector<std::string> cut_off_;
};

TEST_F(UnreadAnswersTest, TheOldestLargeOneIsCutOff) {
  const auto small = Hold("small", 64), first = Hold("first", 400), second = Hold("second", 400);
  EXPECT_THAT(cut_off_, ElementsAre());
  const auto third = Hold("third", 400);
  EXPECT_THAT(cut_off_, ElementsAre("first"));
}

TEST_F(UnreadAnswersTest, SmallOnesAreCutOffIfThereIsNoLargeOne) {
  std::vector<std::unique_ptr<UnreadAnswers::One>> held;
  for (int i = 0; i < 18; ++i) held.push_back(Hold(std::to_string(i), 60));
  EXPECT_THAT(cut_off_, ElementsAre("0"));
}

TEST_F(UnreadAnswersTest, TheOneThatHasJustComeIsKept) {
  std::vector<std::unique_ptr<UnreadAnswers::One>> held;
  for (int i = 0; i < 17; ++i) held.push_back(Hold(std::to_string(i), 60));
  held.push_back(Hold("large", 100));
  EXPECT_THAT(cut_off_, ElementsAre("0", "1"));
}

// However small, and whichever size the oldest has.
TEST_F(UnreadAnswersTest, OfTooManyTheOldestIsCutOff) {
  std::vector<std::unique_ptr<UnreadAnswers::One>> held;
  held.push_back(Hold("small", 0));
  held.push_back(Hold("large", 65));
  while (held.size() < UnreadAnswers::kMaxCalls) held.push_back(Hold("other", 0));
  EXPECT_THAT(cut_off_, ElementsAre());
  held.push_back(Hold("one more", 0));
  EXPECT_THAT(cut_off_, ElementsAre("small"));
  held.push_back(Hold("another", 65));
  EXPECT_THAT(cut_off_, ElementsAre("small", "large"));
  held.erase(held.begin() + 2);  // read, so there is room for one
  held.push_back(Hold("last", 0));
  EXPECT_THAT(cut_off_, ElementsAre("small", "large"));
}

TEST_F(UnreadAnswersTest, MuchMetadataCountsAsSeveralCalls) {
  std::vector<std::unique_ptr<UnreadAnswers::One>> held;
  while (held.size() < 1024) held.push_back(Hold(std::to_string(held.size()), 0, 15 << 10));
  EXPECT_THAT(cut_off_, ElementsAre());
  held.push_back(Hold("one more", 0, 0));
  EXPECT_THAT(cut_off_, ElementsAre("0"));
  held.push_back(Hold("huge", 0, 1 << 30));
  EXPECT_EQ(cut_off_.size(), held.size() - 1);
}

TEST_F(UnreadAnswersTest, WhatWasReadCountsNoLonger) {
  auto first = Hold("first", 600);
  first.reset();
  const auto second = Hold("second", 600);
  EXPECT_THAT(cut_off_, ElementsAre());
}

TEST_F(UnreadAnswersTest, ASingleOneMayBeLarger) {
  const auto one = Hold("one", 4096);
  EXPECT_THAT(cut_off_, ElementsAre());
}

}  // namespace
}  // namespace baram::server
