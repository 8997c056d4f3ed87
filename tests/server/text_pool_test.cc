// TextPool: what its queue refuses, and what it does not.
#include "server/text_pool.h"

#include <gtest/gtest.h>

#include <future>

namespace baram::server {
namespace {

TEST(TextPoolTest, EndsOfCallsTakeNobodysPlace) {
  TextPool pool(/*threads=*/1, /*max_queued=*/2);
  std::promise<void> begun, held;
  ASSERT_TRUE(pool.Run([&] {
    begun.set_value();
    held.get_future().wait();
  }));
  begun.get_future().wait();  // it waits no more

  int ran = 0;  // by the one thread
  const auto job = [&ran] { ++ran; };
  for (int i = 0; i < 3; ++i) pool.Finish(job);
  EXPECT_TRUE(pool.Run(job));
  EXPECT_TRUE(pool.Run(job));
  EXPECT_FALSE(pool.Run(job));
  std::promise<void> done;
  pool.Finish([&done] { done.set_value(); });
  held.set_value();
  done.get_future().wait();
  EXPECT_EQ(ran, 5);
  EXPECT_TRUE(pool.Run(job)) << "their places are free again";
  pool.Close();
  EXPECT_EQ(ran, 6);
}

}  // namespace
}  // namespace baram::server
