// Streamed text equals decoded text, arrives in whole characters, and as early as possible.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "server/text/tokenizer.h"
#include "server/text/utf8.h"
#include "tests/text/text_data.h"

namespace baram::text {
namespace {

using testing::ElementsAre;

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

// The byte of `<0xEA>`.
std::optional<char> ByteOf(const Tokenizer& tokenizer, int32_t id) {
  const std::string text = tokenizer.TokenText(id);
  if (text.size() != 6 || !text.starts_with("<0x") || text.back() != '>') return std::nullopt;
  return static_cast<char>(std::stoi(text.substr(3, 2), nullptr, 16));
}

// How many ids at the start of `ids` are byte tokens that form one character; 0 if none do.
size_t CharacterOfBytes(const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  std::string bytes;
  for (const int32_t id : ids.first(std::min<size_t>(ids.size(), 4))) {
    const auto byte = ByteOf(tokenizer, id);
    if (!byte) break;
    bytes += *byte;
    if (IsValidUtf8(bytes)) return bytes.size();
  }
  return 0;
}

// A token of one character that is not in `text`.
int32_t Marker(const Tokenizer& tokenizer, const std::string& text) {
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string token(tokenizer.TokenBytes(id));
    const bool hangul = token.size() == 3 && token >= "가" && token <= "힣";
    if (hangul && text.find(token) == std::string::npos) return id;
  }
  ADD_FAILURE() << "the text holds every character";
  return 0;
}

// The text that a stream produces for `ids`. The reference replaces a whole run of byte tokens if
// one character in it is broken; a stream has already returned the characters before it. So each
// character and each lone byte is decoded as a separate run here: a marker between them ends the
// run.
std::string DecodeByCharacters(const Tokenizer& tokenizer, std::vector<int32_t> ids,
                               bool skip_special) {
  const std::string whole = tokenizer.Decode(ids, skip_special).value();
  const auto has_byte = [&](int32_t id) { return ByteOf(tokenizer, id).has_value(); };
  if (whole.find("\uFFFD") == std::string::npos || std::ranges::none_of(ids, has_byte)) {
    return whole;
  }
  std::erase_if(ids, [&](int32_t id) {
    const std::vector<int32_t> alone = {id};
    const bool special =
        tokenizer.Decode(alone, true).value() != tokenizer.Decode(alone, false).value();
    return tokenizer.TokenText(id).empty() || (skip_special && special);
  });
  const int32_t marker = Marker(tokenizer, whole);
  std::vector<int32_t> apart;
  for (size_t i = 0; i < ids.size();) {
    const size_t size = std::max<size_t>(1, CharacterOfBytes(tokenizer, std::span(ids).subspan(i)));
    if (i > 0) apart.push_back(marker);
    apart.insert(apart.end(), ids.begin() + i, ids.begin() + i + size);
    i += size;
  }
  std::string text = tokenizer.Decode(apart, skip_special).value();
  const std::string mark(tokenizer.TokenBytes(marker));
  for (size_t at; (at = text.find(mark)) != std::string::npos;) text.erase(at, mark.size());
  return text;
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
    EXPECT_EQ(Stream(plain, ids), DecodeByCharacters(*tokenizer, ids, false));
    EXPECT_EQ(Stream(skipping, ids), DecodeByCharacters(*tokenizer, ids, true));
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
    EXPECT_EQ(Stream(decoder, prefix), DecodeByCharacters(*tokenizer, prefix, true)) << size;
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
    // Less than one character is held back.
    EXPECT_EQ(bytes.substr(0, text.size()), text);
    EXPECT_LT(bytes.size() - text.size(), 3u);
    EXPECT_TRUE(bytes.size() == text.size() || !IsValidUtf8(bytes));
  }
  EXPECT_EQ(text, "뷁뷁 x");
}

// What each token of `tokens` returns, and finally the end.
std::vector<std::string> Pieces(const std::vector<const char*>& tokens) {
  const auto tokenizer = LoadTokenizer("sentencepiece");
  StreamDecoder decoder(*tokenizer, false);
  std::vector<std::string> pieces;
  for (const char* token : tokens) {
    decoder.Step(tokenizer->TokenToId(token).value(), &pieces.emplace_back());
  }
  decoder.End(&pieces.emplace_back());
  return pieces;
}

TEST(StreamDecoder, LetsCharactersOutOfARunOfByteTokens) {
  EXPECT_THAT(Pieces({"<0xED>", "<0x96>", "<0x8F>", "<0xEB>", "<0xB7>", "<0x81>", "▁"}),
              ElementsAre("", "", "햏", "", "", "뷁", " ", ""));
}

TEST(StreamDecoder, ReplacesOnlyTheBytesOfNoCharacterInARun) {
  // Cut off: one per byte, as the reference replaces them.
  EXPECT_THAT(Pieces({"<0xED>", "<0x96>", "<0x8F>", "<0xEB>", "<0xB7>"}),
              ElementsAre("", "", "햏", "", "", "\uFFFD\uFFFD"));
  // Broken in the middle: detected at the byte that does not continue the character.
  EXPECT_THAT(Pieces({"<0xEB>", "<0xB7>", "<0xED>", "<0x96>", "<0x8F>", "<0xFF>"}),
              ElementsAre("", "", "\uFFFD\uFFFD", "", "햏", "\uFFFD", ""));
  // A text ends the run.
  EXPECT_THAT(Pieces({"<0xEB>", "▁", "<0xB7>"}), ElementsAre("", "\uFFFD ", "\uFFFD", ""));
}

TEST(StreamDecoder, StripsTheFirstBlankOfAByteToo) {
  EXPECT_THAT(Pieces({"<0x20>", "<0x20>", "<0xED>"}), ElementsAre("", " ", "", "\uFFFD"));
}

TEST(StreamDecoder, StartsOverAfterEnd) {
  const auto tokenizer = LoadTokenizer("sentencepiece");
  const int32_t blank = *tokenizer->TokenToId("▁");
  StreamDecoder decoder(*tokenizer, false);
  for (int reply = 0; reply < 2; ++reply) {
    std::string text;
    decoder.Step(blank, &text);
    EXPECT_EQ(text, "");  // the decoder strips one space from the start of a reply
    decoder.Step(blank, &text);
    EXPECT_EQ(text, " ");
    decoder.Step(*tokenizer->TokenToId("<0xED>"), &text);
    decoder.End(&text);
    EXPECT_EQ(text, " \uFFFD");
  }
}

// The text of `reply` after `prompt`.
std::string StreamBehind(const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                         std::span<const int32_t> reply, bool skip_special) {
  StreamDecoder decoder(tokenizer, skip_special);
  decoder.Follow(prompt);
  return Stream(decoder, {reply.begin(), reply.end()});
}

// Wherever a text is split into prompt and reply, nothing of it is lost or duplicated.
TEST_P(GoldenStream, GoesOnBehindAPrompt) {
  const auto tokenizer = LoadTokenizer(GetParam());
  for (const char* text :
       {"대한민국의 수도는 서울이다",
        " 뷁 똠방각하 👨‍👩‍👧 <|im_end|></s> ㄱ한국어 햏", "  a  b", "바람"}) {
    const auto ids = tokenizer->Encode(text, true).value();
    const std::span<const int32_t> all = ids;
    for (const bool skip_special : {true, false}) {
      const std::string whole = tokenizer->Decode(ids, skip_special).value();
      ASSERT_EQ(whole.find("\uFFFD"), std::string::npos);
      for (size_t cut = 0; cut <= ids.size(); ++cut) {
        // A character cut off at the prompt's end belongs to the reply.
        std::string prompt =
            DecodeByCharacters(*tokenizer, {ids.begin(), ids.begin() + cut}, skip_special);
        while (prompt.ends_with("\uFFFD")) prompt.resize(prompt.size() - 3);
        std::string reply =
            StreamBehind(*tokenizer, all.first(cut), all.subspan(cut), skip_special);
        if (cut == ids.size()) {
          EXPECT_EQ(reply, "");
        } else {
          EXPECT_EQ(prompt + reply, whole) << cut;
        }
      }
    }
  }
}

TEST(StreamDecoder, KeepsTheBlankBehindAPrompt) {
  const auto tokenizer = LoadTokenizer("sentencepiece");
  const auto behind = [&](const std::vector<int32_t>& prompt, const std::vector<int32_t>& reply) {
    return StreamBehind(*tokenizer, prompt, reply, /*skip_special=*/true);
  };
  const int32_t begin = *tokenizer->TokenToId("<s>"), blank = *tokenizer->TokenToId("▁"),
                letter = *tokenizer->TokenToId("a");
  EXPECT_EQ(behind({begin, letter}, {blank, letter}), " a");
  // Special tokens after a text do not make the reply a new text, however many they are.
  EXPECT_EQ(behind({letter, begin, begin, begin, begin, begin}, {blank, letter}), " a");
  // After an empty text the reply begins one.
  EXPECT_EQ(behind({begin}, {blank, letter}), "a");
  EXPECT_EQ(behind({}, {blank, letter}), "a");
}

TEST(StreamDecoder, CompletesTheCharacterOfAPromptOrDropsItsBytes) {
  const auto tokenizer = LoadTokenizer("sentencepiece");
  const auto ids = [&](const std::vector<const char*>& tokens) {
    std::vector<int32_t> ids;
    for (const char* token : tokens) ids.push_back(tokenizer->TokenToId(token).value());
    return ids;
  };
  const auto behind = [&](const std::vector<int32_t>& prompt, const std::vector<int32_t>& reply) {
    return StreamBehind(*tokenizer, prompt, reply, /*skip_special=*/false);
  };
  EXPECT_EQ(behind(ids({"a", "<0xED>", "<0x96>"}), ids({"<0x8F>", "a"})), "햏a");
  EXPECT_EQ(behind(ids({"<0xF0>", "<0x9F>", "<0x99>"}), ids({"<0x82>"})), "🙂");
  EXPECT_EQ(behind(ids({"<0xED>", "<0x96>"}), ids({"a"})), "a");
  EXPECT_EQ(behind(ids({"<0xED>", "<0x96>"}), {}), "");
  EXPECT_EQ(behind(ids({"<0xED>"}), ids({"▁", "a"})), " a");
  // What the reply's own bytes leave incomplete is its own.
  EXPECT_EQ(behind(ids({"<0xED>"}), ids({"<0x96>", "a"})), "\uFFFDa");
  EXPECT_EQ(behind(ids({"<0xED>"}), ids({"<0xED>", "<0x96>", "<0x8F>"})), "햏");
  EXPECT_EQ(behind(ids({"<0xED>", "<0x96>"}), ids({"<0x8F>", "<0xED>", "<0x96>"})),
            "햏\uFFFD\uFFFD");
}

// Tokens that complete the prompt's character and leave one of their own incomplete, or broken.
TEST(StreamDecoder, WhatFollowsThePromptsCharacterIsTheReplys) {
  const auto tokenizer = LoadTokenizer("byte_level");
  const auto id_of = [&](const std::string& bytes) {
    for (int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
      if (tokenizer->TokenBytes(id) == bytes) return id;
    }
    ADD_FAILURE() << "no token has these bytes";
    return -1;
  };
  const int32_t letter = *tokenizer->TokenToId("a");
  const std::vector<int32_t> prompt = {id_of("\xED"), id_of("\x96")};
  const int32_t reply = id_of("\xA8\xED\x95\x98\xEC");  // 햨, 하 and the start of a character
  EXPECT_EQ(StreamBehind(*tokenizer, prompt, std::vector<int32_t>{reply}, false), "햨하\uFFFD");
  EXPECT_EQ(StreamBehind(*tokenizer, prompt, std::vector<int32_t>{reply, letter}, false),
            "햨하\uFFFDa");
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
