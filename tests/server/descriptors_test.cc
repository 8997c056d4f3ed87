// Descriptors: with few files allowed, some are still left for probes.
#include "server/descriptors.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace baram::server {
namespace {

TEST(DescriptorsTest, WhatIsAllowedIsGiven) {
  const int64_t enough = DescriptorsFor(1000);
  EXPECT_EQ(enough, 3 * 1000 + 128 + 3 * 64 + 128);
  const ConnectionShares shares = ShareDescriptors(enough, 1000);
  EXPECT_EQ(shares.calls, 1000);
  EXPECT_EQ(shares.probes, 128);
  EXPECT_EQ(shares.refused, 64);
  EXPECT_EQ(shares.descriptors() + 128, enough);
  EXPECT_LT(ShareDescriptors(enough - 1, 1000).calls, 1000);
}

TEST(DescriptorsTest, FewAreSharedAndLeaveSomeOver) {
  for (int64_t limit = 32; limit < 4096; ++limit) {
    const ConnectionShares shares = ShareDescriptors(limit, 1024);
    ASSERT_GE(shares.calls, 1) << limit;
    ASSERT_GE(shares.probes, 4) << limit;
    ASSERT_GE(shares.refused, 1) << limit;
    ASSERT_LE(shares.descriptors(), limit - (limit < 256 ? limit / 2 : 128)) << limit;
  }
  EXPECT_EQ(ShareDescriptors(200, 1024).calls, 19);
  EXPECT_EQ(ShareDescriptors(200, 8).calls, 8) << "no more than was asked for";
}

}  // namespace
}  // namespace baram::server
