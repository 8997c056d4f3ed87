// The regular expressions of tokenizer.json mean what they mean to Oniguruma, which the reference
// library uses. Expected texts are that library's (tokenizers 0.23).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/text/tokenizer.h"
#include "tests/text/text_data.h"

namespace baram::text {
namespace {

using testing::HasSubstr;

// The byte-level tokenizer with another part.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadWith(std::string_view part,
                                                    const nlohmann::ordered_json& value) {
  auto json = nlohmann::ordered_json::parse(ReadFile(DataPath("byte_level/tokenizer.json")));
  json[part] = value;
  const ScratchFolder folder;
  folder.Write("tokenizer.json", json.dump());
  return Tokenizer::Load(folder.path());
}

nlohmann::ordered_json Replace(std::string_view pattern) {
  return {{"type", "Replace"}, {"pattern", {{"Regex", pattern}}}, {"content", "|"}};
}

nlohmann::ordered_json Split(std::string_view pattern) {
  const nlohmann::ordered_json split = {{"type", "Split"},
                                        {"pattern", {{"Regex", pattern}}},
                                        {"behavior", "Isolated"},
                                        {"invert", false}};
  const nlohmann::ordered_json bytes = {{"type", "ByteLevel"},
                                        {"add_prefix_space", false},
                                        {"trim_offsets", true},
                                        {"use_regex", false}};
  return {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}};
}

TEST(TokenizerRegex, MeansWhatItMeansToTheReference) {
  struct Case {
    std::string_view pattern, text, replaced;
  };
  const Case cases[] = {
      {R"(\p{N}{1,3}+)", "a1234567", "a|"},
      {R"(a{2,3}?+b)", "aaaab", "|"},
      {R"(a{,2}+b)", "aaab", "|"},
      {R"((?:ab|c){2}{2})", "abcabcx", "|x"},
      {R"([ab]{2}+)", "ababa", "|a"},
      {R"(a++a|b)", "aaab", "aaa|"},
      {R"(a{,})", "xa{,}", "x|"},
      {R"(b$)", "ab\nab\n", "a|\na|\n"},
      {R"(^a)", "ba\na", "ba\n|"},
      {R"(b\Z)", "ab\n", "a|\n"},
      {R"((?m:a.)b$)", "a\nb\n", "|\n"},
      {R"(a(?i)b|c)", "acaBC", "||C"},
      {R"((a(?i)b|c)d)", "aCdCd", "|Cd"},
      {R"((?i:\p{Lu}))", "aB", "a|"},
      {R"([[:punct:]])", "a!$。«€", "a|||||"},
      {R"([[:^punct:]a]+)", "a!。b", "|!。|"},
      {R"([[:alpha:]]+)", "ab가1", "|1"},
      {R"([[:word:]]+)", "é_²", "|²"},
      {R"(\w+)", "é²½Ⅻ①\u200d가", "|①\u200d|"},
      {R"([\w]+)", "é²½", "|²½"},
      {R"([^\W\d]+)", "a1²", "|1²"},
      {R"(a\b)", "a² a①", "a² |①"},
      {R"(\Ba)", "aa ba", "a| b|"},
      {R"(\p{^L})", "a1", "a|"},
      {R"(\pL)", "pLa", "|a"},
      {R"(\<)", "a<b", "a|b"},
      {R"([~~a])", "~a", "||"},
      {R"([]a]{1}+)", "a]b", "|b"},
      {R"((?<n>a)\k<n>{2}+)", "aaaaaa", "|a"},
      {R"(\x{41}{2}+)", "AAAAB", "|B"},
      {R"((?#$)a$)", "a\nb", "|\nb"},
      {R"((?<=a)b{1,2}+)", "abbbb", "a|"},
      {R"(\$\^)", "$^", "|"},
      {R"([$^])", "$^", "||"},
  };
  for (const auto& [pattern, text, replaced] : cases) {
    const auto tokenizer = LoadWith("normalizer", Replace(pattern));
    ASSERT_TRUE(tokenizer.ok()) << pattern << ": " << tokenizer.status();
    const auto ids = (*tokenizer)->Encode(text, false);
    ASSERT_TRUE(ids.ok()) << pattern << ": " << ids.status();
    EXPECT_EQ((*tokenizer)->Decode(*ids, false).value(), replaced) << pattern;
  }
}

// Also in a list of pre-tokenizers, and in a decoder.
TEST(TokenizerRegex, IsReadInEveryPart) {
  const std::string text = "12345678 123456789 1 12 the end";
  const auto encode = [&](std::string_view pattern) {
    const auto tokenizer = LoadWith("pre_tokenizer", Split(pattern));
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return tokenizer.ok() ? (*tokenizer)->Encode(text, false).value() : std::vector<int32_t>();
  };
  EXPECT_EQ(encode(R"(\p{N}{1,3}+)"), encode(R"((?:\p{N}{1,3})+)"));
  EXPECT_NE(encode(R"(\p{N}{1,3}+)"), encode(R"(\p{N}{1,3})"));

  const auto decoder = LoadWith("decoder", Replace("[[:alpha:]]$"));
  ASSERT_TRUE(decoder.ok()) << decoder.status();
  const std::vector<int32_t> id = {(*decoder)->TokenToId("Ã").value()};
  EXPECT_EQ((*decoder)->Decode(id, false).value(), "|");
}

TEST(TokenizerRegex, RefusesWhatItCannotRead) {
  const auto refused = LoadWith("pre_tokenizer", Split("[+--]")).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("has the regular expression \"[+--]\": -- in a class"));
  for (const char* pattern :
       {"(",         ")",  "[",    "[[",   "[\\",       "\\",       "(?",  "(?i", "(?<",
        "(?#",       "a{", "\\p{", "\\x{", "[[:punct:", "(?P<n>é",  "(?é", "\\é", "a**)(",
        "(?i)(?s)(", "]",  "*",    "{1}",  "\\k<",      "(?<é>가)", ""}) {
    LoadWith("normalizer", Replace(pattern)).status().IgnoreError();
  }
}

}  // namespace
}  // namespace baram::text
