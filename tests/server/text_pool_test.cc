// TextPool: what its queue refuses, and what it does not.
#include "server/text_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <thread>
#include <utility>

namespace baram::server {
namespace {

TEST(TextPoolTest, EndsOfCallsTakeNobodysPlace) {
  TextPool pool(/*threads=*/1, /*max_queued=*/2);
  std::promise<void> begun, held;
  ASSERT_TRUE(pool.Run(0, [&] {
    begun.set_value();
    held.get_future().wait();
  }));
  begun.get_future().wait();  // it waits no more

  int ran = 0;  // by the one thread
  const auto job = [&ran] { ++ran; };
  for (int i = 0; i < 3; ++i) pool.Finish(job);
  EXPECT_TRUE(pool.Run(0, job));
  EXPECT_TRUE(pool.Run(0, job));
  EXPECT_FALSE(pool.Run(0, job));
  std::promise<void> done;
  pool.Finish([&done] { done.set_value(); });
  held.set_value();
  done.get_future().wait();
  EXPECT_EQ(ran, 5);
  EXPECT_TRUE(pool.Run(0, job)) << "their places are free again";
  pool.Close();
  EXPECT_EQ(ran, 6);
}

TEST(TextPoolTest, IsIdleOnceItsJobsHaveRun) {
  TextPool pool(/*threads=*/1, /*max_queued=*/8);
  EXPECT_TRUE(pool.idle());
  std::promise<void> begun, held;
  ASSERT_TRUE(pool.Run(0, [&] {
    begun.set_value();
    held.get_future().wait();
  }));
  begun.get_future().wait();
  EXPECT_FALSE(pool.idle()) << "it runs";
  // What a job holds may ask the pool for something when it goes.
  std::promise<bool> asked;
  std::shared_ptr<int> owned(new int(0), [&](const int* number) {
    delete number;
    asked.set_value(pool.idle());
  });
  pool.Finish([kept = std::move(owned)] {});
  EXPECT_FALSE(pool.idle()) << "one waits";
  held.set_value();
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
  int long_ones = 0;  // one at a time
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(pool.Run(kLong, [&long_ones, go] {
      go.wait();
      ++long_ones;
    }));
  }
  std::promise<void> done;
  ASSERT_TRUE(pool.Run(kLong - 1, [&done] { done.set_value(); }));
  const bool came =
      done.get_future().wait_for(std::chrono::seconds(20)) == std::future_status::ready;
  held.set_value();
  EXPECT_TRUE(came);
  std::promise<void> last;
  ASSERT_TRUE(pool.Run(kLong, [&last] { last.set_value(); }));
  last.get_future().wait();
  EXPECT_EQ(long_ones, 3);
}

}  // namespace
}  // namespace baram::server
