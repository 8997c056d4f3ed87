// UTF-8 functions, checked on every form of sequence.
#include "server/text/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace baram::text {
namespace {

TEST(Utf8, AcceptsEveryLength) {
  for (const char* text : {"", "a", "é", "한", "🙂", "\u0080", "\u07FF", "\u0800", "\uFFFF",
                           "\U00010000", "\U0010FFFF", "\xED\x9F\xBF", "\xEE\x80\x80"}) {
    EXPECT_TRUE(IsValidUtf8(text)) << text;
  }
}

TEST(Utf8, RefusesWhatIsNoCharacter) {
  for (const char* text :
       {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC3", "\xE0\x9F\xBF", "\xED\xA0\x80",
        "\xED\xBF\xBF", "\xEA\xB0", "\xEA\xB0\x28", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xF0\x9F\x99", "\xFF", "한\xEA"}) {
    EXPECT_FALSE(IsValidUtf8(text));
  }
}

TEST(Utf8, MendsWhatIsNoCharacter) {
  EXPECT_EQ(MendUtf8("/바람/a\u0080"), "/바람/a\u0080");
  EXPECT_EQ(MendUtf8("/\xb8\xf0/\xed\x95"), "/\uFFFD\uFFFD/\uFFFD\uFFFD");
}

TEST(Utf8, CountsCodePointsAsDecodersShowThem) {
  const std::pair<std::string, size_t> texts[] = {{"", 0},
                                                  {"a한🙂é", 4},
                                                  {"\x80", 1},
                                                  {"\xEA\xB0", 1},
                                                  {"\xEA\xB0"
                                                   "a",
                                                   2},
                                                  {"\xEA\xB0\xEA\xB0\x80", 2},
                                                  {"\xC0\xAF", 2},
                                                  {"\xE0\x80", 2},
                                                  {"\xED\xA0\x80", 3},
                                                  {"\xF0\x9F\x99", 1},
                                                  {"\xF4\x90\x80\x80", 4},
                                                  {"한\x80\x80", 3}};
  for (const auto& [text, count] : texts) {
    CodePointCounter whole, bytes;
    whole.Add(text);
    for (const char& byte : text) bytes.Add({&byte, 1});
    EXPECT_EQ(whole.count(), count) << text;
    EXPECT_EQ(bytes.count(), count) << text;
  }
}

TEST(Utf8, CutsBetweenCharacters) {
  const std::string text = "a한🙂";
  const size_t cuts[] = {0, 1, 1, 1, 4, 4, 4, 4, 8, 8};
  for (size_t limit = 0; limit < std::size(cuts); ++limit) {
    EXPECT_EQ(FloorToCodePoint(text, limit), cuts[limit]) << limit;
  }
}

}  // namespace
}  // namespace baram::text
