// Which texts are request ids.
#include "server/request_id.h"

#include <gtest/gtest.h>

#include <string>

#include "server/errors.h"

namespace baram::server {
namespace {

TEST(RequestIdTest, IsPrintableAsciiThatNothingHasToEscape) {
  for (const std::string text : {"a", "req-1", "01HV/trace:span=7;{x}", "~!@#$%^&*()+|<>?,[]`"}) {
    EXPECT_TRUE(IsRequestId(text)) << text;
  }
  for (const std::string text :
       {"", "a b", "a\tb", "a\nb", "\x7f", "\"a\"", "it's", "a\\b", "바람"}) {
    EXPECT_FALSE(IsRequestId(text)) << text;
  }
  EXPECT_FALSE(IsRequestId(std::string(1, '\0')));
  EXPECT_TRUE(IsRequestId(std::string(128, 'a')));
  EXPECT_FALSE(IsRequestId(std::string(129, 'a')));
}

TEST(RequestIdTest, WhatIsNoneIsToldWithItsField) {
  EXPECT_TRUE(CheckRequestId("a").ok());
  const absl::Status refused = CheckRequestId("a\r\nb");
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_EQ(FactsOf(refused).field, "request_id");
}

}  // namespace
}  // namespace baram::server
