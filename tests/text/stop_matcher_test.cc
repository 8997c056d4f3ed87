// Stop strings are found wherever the text is cut, and no part of them leaks.
#include "server/text/stop_matcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/text/utf8.h"

namespace baram::text {
namespace {

std::shared_ptr<const StopStrings> Strings(std::vector<std::string> stops) {
  return std::make_shared<const StopStrings>(std::move(stops));
}

struct Result {
  std::string text;
  std::optional<std::string> stop;  // the one that matched
};

// Feeds the pieces and ends; checks on the way that nothing shown has to be taken back.
Result RunMatcher(const std::vector<std::string>& stops, const std::vector<std::string>& pieces,
                  bool include_stop, std::string_view expected) {
  StopMatcher matcher(Strings(stops), include_stop);
  Result result;
  size_t longest = 0;
  for (const auto& stop : stops) longest = std::max(longest, stop.size());
  size_t fed = 0;
  for (const auto& piece : pieces) {
    matcher.Feed(piece, &result.text);
    fed += piece.size();
    EXPECT_TRUE(IsValidUtf8(result.text));
    EXPECT_EQ(expected.substr(0, result.text.size()), result.text);
    if (matcher.match() == nullptr) {
      EXPECT_LE(fed - result.text.size(), longest + 2);  // plus the start of one character
    }
  }
  matcher.End(&result.text);
  if (matcher.match() != nullptr) result.stop = *matcher.match();
  return result;
}

// The class comment's promise, by trying every end.
Result Expected(const std::vector<std::string>& stops, const std::string& text, bool include_stop) {
  for (size_t end = 1; end <= text.size(); ++end) {
    for (const std::string& stop : stops) {
      if (stop.empty() || !text.substr(0, end).ends_with(stop)) continue;
      return {text.substr(0, include_stop ? end : end - stop.size()), stop};
    }
  }
  return {text, std::nullopt};
}

void ExpectSame(const Result& actual, const Result& expected) {
  EXPECT_EQ(actual.text, expected.text);
  EXPECT_EQ(actual.stop, expected.stop);
}

std::vector<std::string> Characters(const std::string& text) {
  std::vector<std::string> characters;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) characters.emplace_back();
    characters.back() += c;
  }
  return characters;
}

TEST(StopMatcher, FindsAKoreanStopAtEverySplit) {
  const std::vector<std::string> stops = {"끝났습니다", "\n\n사용자:", "끝"};
  const std::string text = "이제 끝나지 않은 이야기\n\n사용 \n\n사용자: 더";
  const auto characters = Characters(text);
  for (const std::vector<std::string>& chosen :
       {std::vector<std::string>{stops[1]}, {stops[0], stops[1]}, {stops[2], stops[0]}, {"없음"}}) {
    for (const bool include_stop : {false, true}) {
      const Result expected = Expected(chosen, text, include_stop);
      for (size_t first = 0; first <= characters.size(); ++first) {
        for (size_t second = first; second <= characters.size(); ++second) {
          std::vector<std::string> pieces(3);
          for (size_t i = 0; i < characters.size(); ++i) {
            pieces[(i >= first) + (i >= second)] += characters[i];
          }
          ExpectSame(RunMatcher(chosen, pieces, include_stop, expected.text), expected);
        }
      }
    }
  }
}

TEST(StopMatcher, AgreesWithASearchOnRandomText) {
  std::mt19937 random(7);
  const std::vector<std::string> letters = {"a", "b", "가", "각", "🙂"};
  const auto word = [&](size_t size, size_t kinds = 5) {
    std::string text;
    for (size_t i = 0; i < size; ++i) text += letters[random() % kinds];
    return text;
  };
  int matched = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops;
    std::string text;
    if (round % 3 == 0) {
      // Of two letters, in a text of its own prefixes: the matched part can overlap itself in many
      // ways.
      stops = {word(8 + random() % 8, 2)};
      for (int i = 0; i < 3; ++i) text += stops[0].substr(0, random() % stops[0].size());
      text += stops[0];
    } else {
      for (size_t i = 0; i < 1 + random() % 4; ++i) stops.push_back(word(random() % 6));
      text = word(random() % 40);
    }
    std::vector<std::string> pieces = {""};
    for (const auto& character : Characters(text)) {
      if (random() % 3 == 0) pieces.emplace_back();
      pieces.back() += character;
    }
    const bool include_stop = random() % 2 == 0;
    const Result expected = Expected(stops, text, include_stop);
    matched += expected.stop.has_value();
    ExpectSame(RunMatcher(stops, pieces, include_stop, expected.text), expected);
  }
  EXPECT_GT(matched, 500);
  EXPECT_LT(matched, 2900);
}

TEST(StopMatcher, OfStopsThatEndTogetherTakesTheFirstInTheList) {
  const std::vector<std::string> pieces = {"THE EN", "D"};
  ExpectSame(RunMatcher({"END", "THE END"}, pieces, false, "THE "), {"THE ", "END"});
  ExpectSame(RunMatcher({"THE END", "END"}, pieces, false, ""), {"", "THE END"});
}

TEST(StopMatcher, LetsTextOutThatCanNoLongerMatch) {
  StopMatcher matcher(Strings({"</끝>"}), false);
  std::string text;
  matcher.Feed("하나</", &text);
  EXPECT_EQ(text, "하나");
  matcher.Feed("둘", &text);
  EXPECT_EQ(text, "하나</둘");
}

// 가 and 각 begin with the same two bytes.
TEST(StopMatcher, KeepsACharacterWholeThatSharesBytesWithAStop) {
  StopMatcher matcher(Strings({"가나"}), false);
  std::string text;
  matcher.Feed("x각", &text);
  EXPECT_EQ(text, "x각");
  matcher.Feed("가", &text);
  EXPECT_EQ(text, "x각");
  matcher.Feed("나 뒤", &text);
  matcher.End(&text);
  EXPECT_EQ(text, "x각");
  ASSERT_NE(matcher.match(), nullptr);
  EXPECT_EQ(*matcher.match(), "가나");
}

TEST(StopMatcher, TakesNothingAfterAMatch) {
  StopMatcher matcher(Strings({"끝"}), true);
  std::string text;
  matcher.Feed("앞끝뒤", &text);
  matcher.Feed("끝", &text);
  matcher.End(&text);
  EXPECT_EQ(text, "앞끝");
}

TEST(StopMatcher, WithoutStopsHoldsNothing) {
  StopMatcher matcher(Strings({}), false);
  std::string text;
  matcher.Feed("한", &text);
  EXPECT_EQ(text, "한");
}

}  // namespace
}  // namespace baram::text
