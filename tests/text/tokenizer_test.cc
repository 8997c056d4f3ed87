// Ids and texts equal the reference library's; also what no reference covers: bounds and bad input.
#include "server/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/text/text_data.h"

namespace baram::text {
namespace {

class GoldenTokenizer : public testing::TestWithParam<const char*> {
 protected:
  GoldenTokenizer()
      : tokenizer_(LoadTokenizer(GetParam())),
        golden_(ReadGolden(std::string(GetParam()) + ".json")) {}

  std::unique_ptr<Tokenizer> tokenizer_;
  nlohmann::ordered_json golden_;
};

TEST_P(GoldenTokenizer, EncodesAsTheReference) {
  ASSERT_GT(golden_["texts"].size(), 250u);
  for (const auto& entry : golden_["texts"]) {
    const auto text = entry["text"].get<std::string>();
    EXPECT_EQ(tokenizer_->Encode(text, true).value(), entry["ids"].get<std::vector<int32_t>>())
        << text;
    EXPECT_EQ(tokenizer_->Encode(text, false).value(),
              entry["plain_ids"].get<std::vector<int32_t>>())
        << text;
  }
}

TEST_P(GoldenTokenizer, DecodesAsTheReference) {
  ASSERT_GT(golden_["decoded"].size(), 250u);
  for (const auto& entry : golden_["decoded"]) {
    const auto ids = entry["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer_->Decode(ids, false).value(), entry["text"].get<std::string>());
    EXPECT_EQ(tokenizer_->Decode(ids, true).value(), entry["skipped"].get<std::string>());
  }
}

TEST_P(GoldenTokenizer, KnowsItsVocabulary) {
  EXPECT_EQ(tokenizer_->vocab_size(), golden_["vocab_size"].get<int32_t>());
  const auto& eos = golden_["eos_id"];
  EXPECT_EQ(tokenizer_->eos_id(), eos.is_null() ? std::nullopt : std::optional<int32_t>(eos));
  for (const auto& special : golden_["special_ids"]) {
    const std::vector<int32_t> id = {special.get<int32_t>()};
    EXPECT_EQ(tokenizer_->Decode(id, true).value(), "") << special;
    EXPECT_NE(tokenizer_->Decode(id, false).value(), "") << special;
  }
  for (int32_t token = 0; token < tokenizer_->vocab_size(); ++token) {
    EXPECT_EQ(tokenizer_->TokenToId(tokenizer_->TokenText(token)), token);
    EXPECT_FALSE(tokenizer_->TokenBytes(token).empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, GoldenTokenizer,
                         testing::Values("byte_level", "sentencepiece", "metaspace"),
                         [](const auto& info) { return std::string(info.param); });

// With a normalizer, a special token that is "normalized" reads "▁<|im_end|>": it is still special.
TEST(Tokenizer, ANormalizedSpecialTokenIsSpecial) {
  nlohmann::ordered_json json =
      nlohmann::ordered_json::parse(ReadFile(DataPath("sentencepiece/tokenizer.json")));
  const int32_t id = 620;
  ASSERT_EQ(json["model"]["vocab"].size(), static_cast<size_t>(id));
  json["added_tokens"].push_back({{"id", id},
                                  {"content", "<|im_end|>"},
                                  {"single_word", false},
                                  {"lstrip", false},
                                  {"rstrip", false},
                                  {"normalized", true},
                                  {"special", true}});
  const ScratchFolder folder;
  folder.Write("tokenizer.json", json.dump());
  const auto loaded = Tokenizer::Load(folder.path());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Tokenizer& tokenizer = **loaded;
  ASSERT_THAT(tokenizer.TokenText(id), testing::EndsWith("<|im_end|>"));
  std::vector<int32_t> ids = tokenizer.Encode("가 나", false).value();
  ids.push_back(id);
  EXPECT_EQ(tokenizer.Decode(ids, true).value(), "가 나");
  EXPECT_THAT(tokenizer.Decode(ids, false).value(), testing::EndsWith("<|im_end|>"));
  for (const bool skip : {true, false}) {
    StreamDecoder stream(tokenizer, skip);
    std::string text;
    for (const int32_t token : ids) stream.Step(token, &text);
    stream.End(&text);
    EXPECT_EQ(text, tokenizer.Decode(ids, skip).value());
  }
}

TEST(Tokenizer, GivesTheBytesOfATokenThatIsNoCharacter) {
  const auto byte_level = LoadTokenizer("byte_level");
  const auto ids = byte_level->Encode("뷁", false).value();
  std::string bytes;
  for (const int32_t id : ids) bytes += byte_level->TokenBytes(id);
  ASSERT_GT(ids.size(), 1u);
  EXPECT_EQ(bytes, "뷁");

  const auto sentencepiece = LoadTokenizer("sentencepiece");
  EXPECT_EQ(sentencepiece->TokenBytes(*sentencepiece->TokenToId("<0xEA>")), "\xEA");
}

TEST(Tokenizer, IdsOutsideTheVocabularyStandForNothing) {
  const auto tokenizer = LoadTokenizer("byte_level");
  for (const int32_t id : {-1, tokenizer->vocab_size(), INT32_MAX, INT32_MIN}) {
    EXPECT_EQ(tokenizer->TokenBytes(id), "");
    EXPECT_EQ(tokenizer->TokenText(id), "");
    EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{id}, false).value(), "");
  }
  EXPECT_EQ(tokenizer->TokenToId("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer->TokenToId("\xFF"), std::nullopt);
}

TEST(Tokenizer, RefusesBadUtf8) {
  const auto tokenizer = LoadTokenizer("byte_level");
  for (const char* text : {"\xFF", "ab\x80", "\xED\xA0\x80", "\xC0\x80", "\xEA\xB0"}) {
    const auto ids = tokenizer->Encode(text, true);
    EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(ids.status().message()), testing::HasSubstr("UTF-8"));
  }
}

TEST(Tokenizer, RefusesMoreThanTheBytesAllowed) {
  const auto tokenizer = LoadTokenizer("byte_level");
  EXPECT_TRUE(tokenizer->Encode("12345678", true, 8).ok());
  const auto ids = tokenizer->Encode("123456789", true, 8);
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ids.status().message(), "The text has 9 bytes; at most 8 can be tokenized at once.");
}

// Such a character becomes 18 others.
TEST(Tokenizer, RefusesWhatTheNormalizerMakesTooLong) {
  constexpr std::string_view kLigature = "\uFDFA";
  constexpr size_t kWrittenBytes = 33;
  std::string text;
  while (text.size() < 100'000 * kLigature.size()) text += kLigature;
  auto json = nlohmann::json::parse(ReadFile(DataPath("byte_level/tokenizer.json")));
  for (const char* form : {"NFC", "NFKC", "Sequence"}) {
    json["normalizer"] = {{"type", form}};
    if (form == std::string_view("Sequence")) {
      json["normalizer"]["normalizers"] = {{{"type", "NFD"}}, {{"type", "NFKC"}}};
    }
    const ScratchFolder folder;
    folder.Write("tokenizer.json", json.dump());
    const auto tokenizer = Tokenizer::Load(folder.path());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    const bool grows = form != std::string_view("NFC");
    const size_t least = grows ? 100'000 * kWrittenBytes : text.size();
    EXPECT_TRUE((*tokenizer)->Encode(text, true, least).ok()) << form;
    const auto refused = (*tokenizer)->Encode(text, true, least - 1).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument) << form;
    const std::string sentence = grows ? "more than 3299999 once" : "at most 299999 can";
    EXPECT_THAT(std::string(refused.message()), testing::HasSubstr(sentence));
  }
}

// The pre-tokenizer's regular expression gives up after a million.
TEST(Tokenizer, RefusesARunOfBlanksThatItCannotRead) {
  const auto tokenizer = LoadTokenizer("byte_level");
  const std::vector<int32_t> end = tokenizer->Encode(" hi there", false).value();
  const auto ids = tokenizer->Encode(std::string(899'999, ' ') + " hi there", false);
  ASSERT_TRUE(ids.ok()) << ids.status();
  ASSERT_GT(ids->size(), end.size());
  EXPECT_TRUE(std::equal(end.rbegin(), end.rend(), ids->rbegin()));
  const auto refused = tokenizer->Encode("a" + std::string(900'001, ' ') + "hi there", false);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused.status().message(),
            "The text has more than 900000 blanks or line ends in a row; leave some out.");
}

TEST(Tokenizer, ANulIsACharacter) {
  const auto tokenizer = LoadTokenizer("byte_level");
  const std::string text("a\0b", 3);
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text, false).value(), false).value(), text);
}

// In training, dropout omits merges at random; a prompt must always have the same tokens.
TEST(Tokenizer, TakesNoDropout) {
  auto json = nlohmann::json::parse(ReadFile(DataPath("byte_level/tokenizer.json")));
  json["model"]["dropout"] = 0.9;
  const ScratchFolder folder;
  folder.Write("tokenizer.json", json.dump());
  const auto tokenizer = Tokenizer::Load(folder.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  constexpr std::string_view kText = "the same tokens every time";
  EXPECT_EQ((*tokenizer)->Encode(kText, true).value(),
            LoadTokenizer("byte_level")->Encode(kText, true).value());
}

}  // namespace
}  // namespace baram::text
