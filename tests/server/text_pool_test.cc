// TextPool: what its queue refuses, and what it does not.
#include "server/text_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>

namespace baram::server {
namespace {

constexpr auto kNever = std::chrono::steady_clock::time_point::max();

// Keeps a thread of the pool busy with a job that has left the queue.
class Busy {
 public:
  explicit Busy(TextPool& pool) {
    EXPECT_TRUE(pool.Run(0, kNever, [this] {
      begun_.set_value();
      held_.get_future().wait();
    }));
    begun_.get_future().wait();
  }
  void End() { held_.set_value(); }

 private:
  std::promise<void> begun_, held_;
};

TEST(TextPoolTest, OutputTakesNobodysPlace) {
  TextPool pool(/*threads=*/1, /*max_queued=*/2);
  Busy busy(pool);

  int ran = 0;  // modified only by the one thread
  const auto job = [&ran] { ++ran; };
  for (int i = 0; i < 3; ++i) pool.RunOutput(job);
  std::promise<void> done;
  EXPECT_TRUE(pool.Run(0, kNever, job));
  EXPECT_TRUE(pool.Run(0, kNever, [&] {
    job();
    done.set_value();
  }));
  EXPECT_FALSE(pool.Run(0, kNever, job));
  busy.End();
  done.get_future().wait();
  EXPECT_EQ(ran, 5);
  EXPECT_TRUE(pool.Run(0, kNever, job)) << "their places are free again";
  pool.Close();
  EXPECT_EQ(ran, 6);
}

TEST(TextPoolTest, OutputWaitsForNoText) {
  TextPool pool(/*threads=*/1, /*max_queued=*/8);
  Busy busy(pool);
  std::string order;  // modified only by the one thread
  ASSERT_TRUE(pool.Run(0, kNever, [&] { order += "a text, "; }));
  pool.RunOutput([&] { order += "an output, "; });
  pool.RunOutput([&] { order += "another, "; });
  busy.End();
  pool.Close();
  EXPECT_EQ(order, "an output, another, a text, ");
}

TEST(TextPoolTest, IsIdleOnceItsJobsHaveRun) {
  TextPool pool(/*threads=*/1, /*max_queued=*/8);
  EXPECT_TRUE(pool.idle());
  Busy busy(pool);
  EXPECT_FALSE(pool.idle()) << "it runs";
  // Destroying a job's captures may use the pool.
  std::promise<bool> asked;
  std::shared_ptr<int> owned(new int(0), [&](const int* number) {
    delete number;
    asked.set_value(pool.idle());
  });
  pool.RunOutput([kept = std::move(owned)] {});
  EXPECT_FALSE(pool.idle()) << "one waits";
  busy.End();
  auto answer = asked.get_future();
  ASSERT_EQ(answer.wait_for(std::chrono::seconds(20)), std::future_status::ready);
  EXPECT_FALSE(answer.get()) << "its job is not over yet";
  while (!pool.idle()) std::this_thread::yield();
}

TEST(TextPoolTest, AShortTextWaitsForNoLongOne) {
  constexpr size_t kLong = TextPool::kLongBytes + 1;
  TextPool pool(/*threads=*/2, /*max_queued=*/8);
  std::promise<void> held;
  const std::shared_future<void> go = held.get_future().share();
  int long_ones = 0;  // modified by one thread at a time
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(pool.Run(kLong, kNever, [&long_ones, go] {
      go.wait();
      ++long_ones;
    }));
  }
  std::promise<void> done;
  ASSERT_TRUE(pool.Run(kLong - 1, kNever, [&done] { done.set_value(); }));
  const bool came =
      done.get_future().wait_for(std::chrono::seconds(20)) == std::future_status::ready;
  held.set_value();
  EXPECT_TRUE(came);
  std::promise<void> last;
  ASSERT_TRUE(pool.Run(kLong, kNever, [&last] { last.set_value(); }));
  last.get_future().wait();
  EXPECT_EQ(long_ones, 3);
}

// It is not read then, so it delays nothing.
TEST(TextPoolTest, ALongTextWhoseTimeIsOverWaitsForNoOther) {
  constexpr size_t kLong = TextPool::kLongBytes + 1;
  TextPool pool(/*threads=*/2, /*max_queued=*/8);
  std::promise<void> held, ended;
  ASSERT_TRUE(pool.Run(kLong, kNever, [&held] { held.get_future().wait(); }));
  std::promise<void> last;
  ASSERT_TRUE(pool.Run(kLong, kNever, [&last] { last.set_value(); }));
  const auto soon = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
  ASSERT_TRUE(pool.Run(kLong, soon, [&ended] { ended.set_value(); }));
  EXPECT_EQ(ended.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  EXPECT_GE(std::chrono::steady_clock::now(), soon);
  EXPECT_EQ(pool.waiting(), 1) << "who has time waits";
  EXPECT_EQ(pool.unfinished(), 2) << "the one that runs counts too";
  held.set_value();
  last.get_future().wait();
}

TEST(TextPoolTest, WhatWaitsIsBoundedByItsBytesToo) {
  TextPool pool(/*threads=*/1, /*max_queued=*/8);
  Busy busy(pool);
  const auto nothing = [] {};
  EXPECT_TRUE(pool.Run(2 * TextPool::kMaxQueuedBytes, kNever, nothing)) << "nothing else waits";
  EXPECT_FALSE(pool.Run(1, kNever, nothing));
  busy.End();
  while (!pool.idle()) std::this_thread::yield();
  EXPECT_TRUE(pool.Run(TextPool::kMaxQueuedBytes - 1, kNever, nothing));
}

}  // namespace
}  // namespace baram::server
