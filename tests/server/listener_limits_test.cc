// The limits of the HTTP listeners, as RELIABILITY.md states them.
#include "server/listener_limits.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace baram::server {
namespace {

TEST(ListenerLimitsTest, Defaults) {
  constexpr int64_t kMiB = 1 << 20;
  const ConnectionShares shares = ShareDescriptors(1 << 20, Config().max_connections);
  const HttpLimits calls = CallLimits(Config(), shares);
  EXPECT_EQ(calls.max_body_bytes, 8 * kMiB);
  EXPECT_EQ(calls.max_bodies_bytes, 256 * kMiB);
  EXPECT_EQ(calls.max_answers_bytes, 2048 * kMiB);
  EXPECT_EQ(calls.max_header_bytes, 16 << 10);
  EXPECT_EQ(calls.max_headers, 100);
  EXPECT_EQ(calls.max_connections, 1024);
  EXPECT_EQ(calls.max_refused, 64);
  EXPECT_EQ(calls.idle_s, 75);
  EXPECT_EQ(calls.first_idle_s, 75);
  EXPECT_EQ(calls.request_s, 30);
  EXPECT_EQ(calls.write_s, 30);
  EXPECT_EQ(calls.closing_s, 1);
  const HttpLimits probes = ProbeLimits(Config(), shares);
  EXPECT_EQ(probes.max_connections, 128);
  EXPECT_EQ(probes.max_refused, 64);
  EXPECT_EQ(probes.first_idle_s, 5);
  EXPECT_EQ(probes.request_s, 5);
}

TEST(ListenerLimitsTest, FollowTheSettings) {
  Config config;
  config.max_body_bytes = 16 << 20;
  config.max_http_reply_bytes = 1024;
  config.max_header_bytes = 4096;
  config.slow_reader_s = 7;
  const HttpLimits limits = CallLimits(config, {.calls = 3, .probes = 2, .refused = 1});
  EXPECT_EQ(limits.max_body_bytes, 16 << 20);
  EXPECT_EQ(limits.max_bodies_bytes, 512 << 20);
  EXPECT_EQ(limits.max_answers_bytes, 256 << 20);
  EXPECT_EQ(limits.max_header_bytes, 4096);
  EXPECT_EQ(limits.max_connections, 3);
  EXPECT_EQ(limits.max_refused, 1);
  EXPECT_EQ(limits.write_s, 7);
  EXPECT_LT(ProbeLimits(config, {}).write_s, 7) << "unread answers keep no probe out for long";
}

}  // namespace
}  // namespace baram::server
