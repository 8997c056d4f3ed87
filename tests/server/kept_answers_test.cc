// KeptAnswers: which answers are cut off when they keep too much together.
#include "server/kept_answers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace baram::server {
namespace {

using ::testing::ElementsAre;

class KeptAnswersTest : public ::testing::Test {
 protected:
  std::unique_ptr<KeptAnswers::One> Keep(const std::string& name, int64_t bytes) {
    auto one = std::make_unique<KeptAnswers::One>(all_);
    one->OnCut([this, name] { cut_off_.push_back(name); });
    one->Add(bytes);
    return one;
  }

  KeptAnswers all_{1000};
  std::vector<std::string> cut_off_;
};

TEST_F(KeptAnswersTest, TheLargestIsCutOff) {
  const auto small = Keep("small", 100), large = Keep("large", 500), middle = Keep("middle", 300);
  small->Add(100);
  EXPECT_THAT(cut_off_, ElementsAre());
  small->Add(1);
  EXPECT_THAT(cut_off_, ElementsAre("large"));
  EXPECT_TRUE(large->cut());
  EXPECT_FALSE(small->cut());
  EXPECT_EQ(all_.bytes(), 501);
}

TEST_F(KeptAnswersTest, WhatIsCutOffCountsNoLonger) {
  const auto large = Keep("large", 800), small = Keep("small", 300);
  large->Add(5000);
  large->Add(-100);
  small->Add(600);
  EXPECT_THAT(cut_off_, ElementsAre("large"));
  EXPECT_EQ(all_.bytes(), 900);
}

TEST_F(KeptAnswersTest, WhatIsGoneCountsNoLonger) {
  Keep("first", 900).reset();
  const auto second = Keep("second", 900);
  second->Add(-900);
  const auto third = Keep("third", 1000);
  EXPECT_THAT(cut_off_, ElementsAre());
}

TEST_F(KeptAnswersTest, AsManyAsMustBeAreCutOff) {
  const auto first = Keep("first", 400), second = Keep("second", 300), third = Keep("third", 200);
  const auto fourth = Keep("fourth", 1001);
  EXPECT_THAT(cut_off_, ElementsAre("fourth"));
  const auto fifth = Keep("fifth", 350);
  EXPECT_THAT(cut_off_, ElementsAre("fourth", "first"));
}

// Whatever was counted by whichever thread is released, also by those that are cut off meanwhile.
TEST(KeptAnswersThreadsTest, NothingStaysCounted) {
  KeptAnswers all(9'000);  // less than one comes to
  std::atomic<int> cut = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&all, &cut] {
      for (int i = 0; i < 300; ++i) {
        KeptAnswers::One one(all), other(all);
        one.OnCut([&cut] { ++cut; });
        for (int k = 0; k < 100; ++k) {
          one.Add(100);
          other.Add(k % 2 == 0 ? 90 : -90);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(all.bytes(), 0);
  EXPECT_EQ(cut.load(), 4 * 300);
}

}  // namespace
}  // namespace baram::server
