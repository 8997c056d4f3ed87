// Parsing of settings' values: folder names, origins, byte sizes and endpoints.
#include "server/setting_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace baram::server {
namespace {

TEST(SettingValuesTest, NamesOfFolders) {
  EXPECT_EQ(DefaultModelName("/models/SmolLM2"), "SmolLM2");
  EXPECT_EQ(DefaultModelName("/models/SmolLM2/"), "SmolLM2");
  EXPECT_EQ(DefaultModelName("/c/hub/models--LGAI-EXAONE--EXAONE-4.0-1.2B/snapshots/0a1b"),
            "LGAI-EXAONE/EXAONE-4.0-1.2B");
  EXPECT_EQ(DefaultModelName("/c/hub/models--/snapshots/0a1b"), "0a1b");
}

TEST(SettingValuesTest, Origins) {
  for (const char* origin :
       {"null", "https://app.example.com", "http://localhost:3000", "http://127.0.0.1:1",
        "http://[::1]", "http://[fe80::1]:65535", "http://xn--3e0b707e", "tauri://localhost",
        "chrome-extension://abcdefghijklmnop", "https://a_b.example", "https://a:80"}) {
    EXPECT_TRUE(IsOrigin(origin)) << origin;
  }
  for (const char* other :
       {"", "*", "NULL", "app.example.com", "//a", "://a", "1x://a", "https://", "https://a/",
        "https://a/b", "https://a?b", "https://a#b", "https://me@a", "https://a,https://b",
        "https://A", "HTTPS://a", "https://*.a", "https://a b", "https://\ubc14\ub78c.kr"}) {
    EXPECT_FALSE(IsOrigin(other)) << other;
  }
  for (const char* other : {"https://a:", "https://a:0", "https://a:65536", "https://a:080",
                            "https://a:+8", "https://a:8 ", "https://a:443", "http://a:80",
                            "http://a:b:1", "http://::1", "http://[::1", "http://[", "http://[]",
                            "http://[::1]x", "http://[::G]", "http://[1]:2", "http://[FE80::1]"}) {
    EXPECT_FALSE(IsOrigin(other)) << other;
  }
}

TEST(SettingValuesTest, BytesAndEndpoints) {
  EXPECT_EQ(ParseBytes("4GiB"), int64_t{4} << 30);
  EXPECT_EQ(ParseBytes("1.5k"), 1536);
  EXPECT_EQ(ParseBytes("500MB"), 500'000'000);
  EXPECT_EQ(ParseBytes("12"), 12);
  EXPECT_FALSE(ParseBytes("").has_value());
  EXPECT_FALSE(ParseBytes("1e30").has_value());
  // The number fits without its unit, but not 64 bits with it.
  EXPECT_EQ(ParseBytes("1024TiB"), int64_t{1} << 50);
  for (const char* many : {"1025TiB", "16777216TiB", "-16777216TiB", "9000000t"}) {
    EXPECT_FALSE(ParseBytes(many).has_value()) << many;
  }
  const auto v6 = ParseEndpoint("[::1]:80");
  ASSERT_TRUE(v6.ok());
  EXPECT_EQ(v6->host, "::1");
  EXPECT_EQ(v6->port, 80);
  for (const char* bad : {"", ":80", "host", "host:", "host:x", "::1:80", "h:65536", "h:-1"}) {
    EXPECT_FALSE(ParseEndpoint(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace baram::server
