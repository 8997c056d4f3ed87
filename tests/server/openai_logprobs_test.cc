// Log-probabilities in OpenAI's replies: of chats, of completions and of prompts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "tests/server/openai_reply_fixture.h"

namespace baram::server {
namespace {

class OpenAiLogprobsTest : public OpenAiReplyFixture {};

TEST_F(OpenAiLogprobsTest, ChatLogprobs) {
  OpenAiReply& reply = Chat(R"(,"logprobs":true,"top_logprobs":2,"stream":true)");
  const int32_t a = Id("a"), b = Id("b");
  const std::vector<Json> choices = Choices(
      reply.OnChunk(0, Chunk({Delta(0, "a", {Token(a, -0.5f, {{a, -0.5f}, {b, -1.25f}})})})));
  ASSERT_EQ(choices.size(), 2u);
  EXPECT_EQ(choices[0]["logprobs"], nullptr);
  EXPECT_EQ(
      Dump(choices[1]["logprobs"]),
      R"({"content":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[)"
      R"({"token":"a","logprob":-0.5,"bytes":[97]},{"token":"b","logprob":-1.25,"bytes":[98]}]}]})");
  // Text that was held back comes without a token, and a token may come without text.
  EXPECT_EQ(Choices(reply.OnChunk(0, Chunk({Delta(0, "late", {})})))[0]["logprobs"], nullptr);
  const Json silent = Choices(reply.OnChunk(0, Chunk({Delta(0, "", {Token(b, -1)})})))[0];
  EXPECT_EQ(silent["delta"]["content"], "");
  EXPECT_EQ(silent["logprobs"]["content"][0]["token"], "b");
}

TEST_F(OpenAiLogprobsTest, PiecesOfCharactersInLogprobs) {
  const std::vector<int32_t> pieces = Ids("곬");
  ASSERT_GT(pieces.size(), 1u);
  OpenAiReply& reply = Chat(R"(,"logprobs":true,"top_logprobs":0)");
  std::vector<TokenResult> tokens;
  for (int32_t piece : pieces) tokens.push_back(Token(piece, -1));
  reply.OnChunk(0, Chunk({Delta(0, "곬", tokens)}, {End(0, EndReason::kStop)}));
  const Json content = Json::parse(reply.Whole())["choices"][0]["logprobs"]["content"];
  std::string bytes;
  for (const Json& entry : content) {
    for (const Json& byte : entry["bytes"]) bytes.push_back(static_cast<char>(byte.get<int>()));
    EXPECT_NE(entry["token"].get<std::string>().find("\uFFFD"), std::string::npos);
  }
  EXPECT_EQ(bytes, "곬");
}

TEST_F(OpenAiLogprobsTest, CompletionLogprobs) {
  const int32_t a = Id("a"), b = Id("b"), han = Ids("한국")[0];
  OpenAiReply& reply = Completion(R"(,"logprobs":1)");
  const float low = -std::numeric_limits<float>::infinity();
  reply.OnChunk(0, Chunk({Delta(0, "a한b",
                                {Token(a, -2, {{b, -0.1f}}, 2), Token(han, -0.25f, {{han, -0.25f}}),
                                 Token(b, low, {{a, 0}}, 9)})},
                         {End(0, EndReason::kStop)}));
  const Json logprobs = Json::parse(reply.Whole())["choices"][0]["logprobs"];
  const std::string han_text(tokenizer_->TokenBytes(han));
  EXPECT_EQ(logprobs["tokens"], Json({"a", han_text, "b"}));
  EXPECT_EQ(logprobs["token_logprobs"], Json({-2.0, -0.25, -9999.0}));
  const Json& tops = logprobs["top_logprobs"];
  EXPECT_EQ(tops[0]["a"], -2.0);
  EXPECT_EQ(tops[0]["b"], -0.1) << "as few digits as a float has";
  EXPECT_EQ(tops[1], Json({{han_text, -0.25}}));
  EXPECT_EQ(tops[2]["b"], -9999.0);
}

// Offsets count code points, over the whole of a stream.
TEST_F(OpenAiLogprobsTest, TextOffsets) {
  OpenAiReply& reply = Completion(R"(,"logprobs":0,"stream":true)");
  std::vector<int32_t> ids = Ids("곬a🙂");
  std::vector<size_t> offsets;
  for (int32_t id : ids) {
    const auto choices = Choices(reply.OnChunk(0, Chunk({Delta(0, "", {Token(id, -1)})})));
    offsets.push_back(choices[0]["logprobs"]["text_offset"][0]);
  }
  // The offset of each token's first character; a token that continues a character starts after it.
  size_t at = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(offsets[i], at) << i;
    for (unsigned char c : tokenizer_->TokenBytes(ids[i])) at += (c & 0xC0) != 0x80;
  }
  EXPECT_EQ(at, 3u);
}

// Hidden text has no length, and text that is shown differently has its shown length.
TEST_F(OpenAiLogprobsTest, TextOffsetsAreOfTheText) {
  const int32_t special = Id("<|im_start|>");
  const int32_t stray = Ids("곬").back();
  ASSERT_TRUE(tokenizer_->IsSpecial(special));
  ASSERT_EQ(tokenizer_->TokenBytes(stray)[0] & 0xC0, 0x80);
  const auto offsets = [&](const std::string& fields, const std::vector<int32_t>& ids,
                           const std::string& text) {
    OpenAiReply& reply = Completion(R"(,"logprobs":0,"echo":true)" + fields);
    reply.SetPrompt(0, {ids, text});
    std::vector<TokenResult> tokens;
    for (const int32_t id : {Id("a"), special, Id("b"), stray, Id("a")}) {
      tokens.push_back(Token(id, -1));
    }
    reply.OnChunk(0, Chunk({Delta(0, "", tokens)}, {End(0, EndReason::kStop)}));
    return Json::parse(reply.Whole())["choices"][0]["logprobs"]["text_offset"];
  };
  std::vector<int32_t> prompt = Ids("가a");
  const Json plain = offsets("", prompt, "가a");
  const auto shift = [&](size_t from, int by) {
    Json moved = plain;
    for (size_t i = from; i < moved.size(); ++i) moved[i] = moved[i].get<int>() + by;
    return moved;
  };
  const size_t n = prompt.size();
  EXPECT_EQ(plain[n], 2);
  // The special token in the reply is hidden; the stray byte is U+FFFD.
  EXPECT_EQ(Json(std::vector<Json>(plain.begin() + static_cast<int>(n), plain.end())),
            Json({2, 3, 3, 4, 5}));
  const int size = static_cast<int>(std::string("<|im_start|>").size());
  EXPECT_EQ(offsets(R"(,"skip_special_tokens":false)", prompt, "가a"), shift(n + 2, size));
  // One that the tokenizer put before the prompt, and one that its client wrote.
  prompt.insert(prompt.begin(), special);
  Json before = plain;
  before.insert(before.begin(), 0);
  EXPECT_EQ(offsets("", prompt, "가a"), before);
  Json written = shift(0, size);
  written.insert(written.begin(), 0);
  EXPECT_EQ(offsets("", prompt, "<|im_start|>가a"), written);
  // In a text that is cut within a character, each token is counted by itself.
  const Json cut = offsets("", {stray, Id(" "), special, Id("a")}, "\uFFFD <|im_start|>a");
  EXPECT_EQ(Json(std::vector<Json>(cut.begin(), cut.begin() + 5)),
            Json({0, 1, 2, 2 + size, 3 + size}));
}

TEST_F(OpenAiLogprobsTest, TokensThatShareATextKeepTheLikeliest) {
  const std::vector<int32_t> pieces = Ids("곬");
  ASSERT_GT(pieces.size(), 1u);
  OpenAiReply& reply = Completion(R"(,"logprobs":2)");
  const int32_t one = pieces[0], two = pieces[1];
  reply.OnChunk(0, Chunk({Delta(0, "", {Token(two, -3, {{one, -0.5f}, {two, -3}}, 2)})},
                         {End(0, EndReason::kStop)}));
  const Json tops = Json::parse(reply.Whole())["choices"][0]["logprobs"]["top_logprobs"][0];
  EXPECT_EQ(tops.begin().value(), -0.5);
}

TEST_F(OpenAiLogprobsTest, TokensAsIds) {
  OpenAiReply& reply = Completion(R"(,"logprobs":1,"return_tokens_as_token_ids":true)");
  reply.OnChunk(0,
                Chunk({Delta(0, "a", {Token(5, -1, {{6, -0.5f}})})}, {End(0, EndReason::kStop)}));
  const Json logprobs = Json::parse(reply.Whole())["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"], Json({"token_id:5"}));
  EXPECT_EQ(logprobs["top_logprobs"][0], Json({{"token_id:5", -1.0}, {"token_id:6", -0.5}}));
}

TEST_F(OpenAiLogprobsTest, EchoStandsBeforeTheText) {
  const std::vector<int32_t> prompt = Ids("Hi");
  ASSERT_EQ(prompt.size(), 2u);
  const int32_t a = Id("a");
  for (const bool stream : {false, true}) {
    OpenAiReply& reply = Completion(std::string(R"(,"echo":true,"logprobs":1)") +
                                    (stream ? R"(,"stream":true)" : ""));
    const PromptEvent scored{2, 0, {Token(prompt[1], -1.5f, {{a, -0.5f}, {prompt[1], -1.5f}}, 2)}};
    const std::string events =
        reply.OnChunk(0, Chunk({Delta(0, "a", {Token(a, -0.25f, {{a, -0.25f}})})},
                               {End(0, EndReason::kLength)}, scored));
    const Json choice = stream ? Choices(events)[0] : Json::parse(reply.Whole())["choices"][0];
    EXPECT_EQ(choice["text"], "Hia");
    EXPECT_EQ(Dump(choice["logprobs"]),
              R"({"text_offset":[0,1,2],"token_logprobs":[null,-1.5,-0.25],"tokens":["H","i","a"],)"
              R"("top_logprobs":[null,{"i":-1.5,"a":-0.5},{"a":-0.25}]})");
    EXPECT_FALSE(choice.contains("prompt_logprobs"));
    EXPECT_EQ(choice["finish_reason"], "length");
  }
}

TEST_F(OpenAiLogprobsTest, PromptLogprobs) {
  const std::vector<int32_t> prompt = Ids("Hi");
  const int32_t a = Id("a");
  const PromptEvent scored{2, 0, {Token(prompt[1], -1.5f, {{a, -0.5f}, {5, -1}}, 7)}};
  const Json expected = Json::array(
      {nullptr,
       {{std::to_string(prompt[1]), {{"logprob", -1.5}, {"rank", 7}, {"decoded_token", "i"}}},
        {std::to_string(a), {{"logprob", -0.5}, {"rank", 1}, {"decoded_token", "a"}}}}});
  OpenAiReply& completion = Completion(R"(,"prompt_logprobs":1)");
  completion.OnChunk(0, Chunk({Delta(0, "a", {})}, {End(0, EndReason::kStop)}, scored));
  EXPECT_EQ(Json::parse(completion.Whole())["choices"][0]["prompt_logprobs"], expected);
  // Its keys are the ids: the texts stay.
  OpenAiReply& ids = Completion(R"(,"prompt_logprobs":1,"return_tokens_as_token_ids":true)");
  ids.OnChunk(0, Chunk({Delta(0, "a", {})}, {End(0, EndReason::kStop)}, scored));
  EXPECT_EQ(Json::parse(ids.Whole())["choices"][0]["prompt_logprobs"], expected);
  OpenAiReply& chat = Chat(R"(,"prompt_logprobs":1)");
  chat.OnChunk(0, Chunk({Delta(0, "a", {})}, {End(0, EndReason::kStop)}, scored));
  EXPECT_EQ(Json::parse(chat.Whole())["prompt_logprobs"], expected);
}

}  // namespace
}  // namespace baram::server
