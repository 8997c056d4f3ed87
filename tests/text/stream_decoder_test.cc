// Streamed text equals decoded text, arrives in whole characters, and arrives as soon as it may.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "server/text/tokenizer.h"
#include "server/text/utf8.h"
#include "tests/text/text_data.h"

namespace baram::text {
namespace {

std::string Stream(StreamDecoder& decoder, const std::vector<int32_t>& ids) {
  std::string all;
  for (const int32_t id : ids) {
    std::string piece;
    decoder.Step(id, &piece);
    EXPECT_TRUE(IsValidUtf8(piece));
    all += piece;
  }
  std::string rest;
  decoder.End(&rest);
  EXPECT_TRUE(IsValidUtf8(rest));
  return all + rest;
}

class GoldenStream : public testing::TestWithParam<const char*> {};

TEST_P(GoldenStream, EqualsDecode) {
  const auto tokenizer = LoadTokenizer(GetParam());
  StreamDecoder plain(*tokenizer, /*skip_special_tokens=*/false);
  StreamDecoder skipping(*tokenizer, /*skip_special_tokens=*/true);
  const auto golden = ReadGolden(std::string(GetParam()) + ".json");
  ASSERT_GT(golden["decoded"].size(), 250u);
  for (const auto& entry : golden["decoded"]) {
    const auto ids = entry["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(Stream(plain, ids), entry["text"].get<std::string>());
    EXPECT_EQ(Stream(skipping, ids), entry["skipped"].get<std::string>());
  }
}

// A reply may end after any token.
TEST_P(GoldenStream, EqualsDecodeOfEveryPrefix) {
  const auto tokenizer = LoadTokenizer(GetParam());
  StreamDecoder decoder(*tokenizer, /*skip_special_tokens=*/true);
  const auto ids =
      tokenizer
          ->Encode(" 뷁 똠방각하 👨‍👩‍👧 <|im_end|></s> ㄱ한국어 햏", true)
          .value();
  for (size_t size = 0; size <= ids.size(); ++size) {
    const std::vector<int32_t> prefix(ids.begin(), ids.begin() + size);
    EXPECT_EQ(Stream(decoder, prefix), tokenizer->Decode(prefix, true).value()) << size;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, GoldenStream,
                         testing::Values("byte_level", "sentencepiece", "metaspace"),
                         [](const auto& info) { return std::string(info.param); });

TEST(StreamDecoder, LetsTextOutAsSoonAsACharacterIsWhole) {
  const auto tokenizer = LoadTokenizer("byte_level");
  const auto ids = tokenizer->Encode("뷁뷁 x", false).value();
  StreamDecoder decoder(*tokenizer, false);
  std::string text, bytes;
  for (const int32_t id : ids) {
    decoder.Step(id, &text);
    bytes += tokenizer->TokenBytes(id);
    // Less than one character waits.
    EXPECT_EQ(bytes.substr(0, text.size()), text);
    EXPECT_LT(bytes.size() - text.size(), 3u);
    EXPECT_TRUE(bytes.size() == text.size() || !IsValidUtf8(bytes));
  }
  EXPECT_EQ(text, "뷁뷁 x");
}

TEST(StreamDecoder, HoldsARunOfByteTokensUntilItEnds) {
  const auto tokenizer = LoadTokenizer("sentencepiece");
  StreamDecoder decoder(*tokenizer, false);
  std::string text;
  for (const char* token : {"<0xED>", "<0x96>", "<0x8F>"}) {
    decoder.Step(*tokenizer->TokenToId(token), &text);
    EXPECT_EQ(text, "");
  }
  decoder.Step(*tokenizer->TokenToId("▁"), &text);
  EXPECT_EQ(text, "햏 ");
}

TEST(StreamDecoder, StartsOverAfterEnd) {
  const auto tokenizer = LoadTokenizer("sentencepiece");
  const int32_t blank = *tokenizer->TokenToId("▁");
  StreamDecoder decoder(*tokenizer, false);
  for (int reply = 0; reply < 2; ++reply) {
    std::string text;
    decoder.Step(blank, &text);
    EXPECT_EQ(text, "");  // the decoder strips one blank from the start of a reply
    decoder.Step(blank, &text);
    EXPECT_EQ(text, " ");
    decoder.Step(*tokenizer->TokenToId("<0xED>"), &text);
    decoder.End(&text);
    EXPECT_EQ(text, " \uFFFD");
  }
}

TEST(StreamDecoder, OutlivesItsTokenizerAndMoves) {
  auto tokenizer = LoadTokenizer("byte_level");
  const auto ids = tokenizer->Encode("바람 뷁", false).value();
  StreamDecoder first(*tokenizer, false);
  std::string text;
  first.Step(ids[0], &text);
  StreamDecoder second(std::move(first));
  tokenizer.reset();
  for (size_t i = 1; i < ids.size(); ++i) second.Step(ids[i], &text);
  EXPECT_EQ(text, "바람 뷁");
}

}  // namespace
}  // namespace baram::text
