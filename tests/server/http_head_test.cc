// Where a request's line and headers end.
#include "server/http_head.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace baram::server {
namespace {

using State = HttpHead::State;

// What became of `bytes`, however they are cut.
State After(std::string_view bytes, size_t max_bytes = 1000, int max_headers = 2) {
  HttpHead whole(max_bytes, max_headers);
  const State state = whole.Add(bytes);
  for (size_t piece = 1; piece < bytes.size(); ++piece) {
    HttpHead head(max_bytes, max_headers);
    State cut = State::kMore;
    for (size_t at = 0; at < bytes.size() && cut == State::kMore; at += piece) {
      cut = head.Add(bytes.substr(at, piece));
    }
    EXPECT_EQ(cut, state) << bytes << " in pieces of " << piece;
    EXPECT_EQ(head.size(), whole.size()) << bytes << " in pieces of " << piece;
  }
  return state;
}

TEST(HttpHeadTest, EndsWithAnEmptyLine) {
  const std::string_view text = "GET / HTTP/1.1\r\na: b\r\n\r\nPOST";
  for (size_t size = 0; size < text.size() - 4; ++size) {
    EXPECT_EQ(After(text.substr(0, size)), State::kMore) << size;
  }
  EXPECT_EQ(After(text), State::kWhole);
  HttpHead head(1000, 2);
  head.Add(text);
  EXPECT_EQ(head.size(), text.size() - 4);
}

TEST(HttpHeadTest, IsBounded) {
  const std::string text = "GET / HTTP/1.1\r\n" + std::string(50, 'a') + ":\r\n\r\n";
  EXPECT_EQ(After(text, text.size()), State::kWhole);
  EXPECT_EQ(After(text, text.size() - 1), State::kTooLarge);
  // No byte above the bound has to come.
  EXPECT_EQ(After(text.substr(0, 20), 20), State::kTooLarge);
}

TEST(HttpHeadTest, HasSoManyHeaders) {
  EXPECT_EQ(After("GET / HTTP/1.1\r\na:\r\nb:\r\n\r\n"), State::kWhole);
  EXPECT_EQ(After("GET / HTTP/1.1\r\na:\r\nb:\r\nc:\r\n"), State::kTooMany);
}

TEST(HttpHeadTest, HasNoFoldedLine) {
  EXPECT_EQ(After("GET / HTTP/1.1\r\na: b\r\n c"), State::kFolded);
  EXPECT_EQ(After("GET / HTTP/1.1\r\na:\r\n\tc"), State::kFolded);
  EXPECT_EQ(After("GET / HTTP/1.1\r\n a: b"), State::kFolded);
}

TEST(HttpHeadTest, IsText) {
  EXPECT_EQ(After("GET /\x80 HTTP/1.1\r\na:\tb\r\n\r\n"), State::kWhole);
  using std::string_view_literals::operator""sv;
  for (const std::string_view bad :
       {"\x16\x03\x01"sv, "GET /\0"sv, "GET / HTTP/1.1\n"sv, "GET / HTTP/1.1\r\na:\r "sv,
        "GET / HTTP/1.1\r\r"sv, "GET / HTTP/1.1\r\na: \x7F"sv, "GET / HTTP/1.1\r\na: b\n"sv}) {
    EXPECT_EQ(After(bad), State::kNotText) << bad;
  }
}

}  // namespace
}  // namespace baram::server
