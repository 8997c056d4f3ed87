// OpenAI's replies: the exact JSON of native events, streamed and not.
#include "server/openai_reply.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/text/text_data.h"

namespace baram::server {
namespace {

using testing::ElementsAre;

constexpr int32_t kPrimaryEos = 702, kSecondEos = 700;

TokenResult Token(int32_t id, float logprob, std::vector<std::pair<int32_t, float>> tops = {},
                  int32_t rank = 1) {
  TokenResult token;
  token.token = id;
  token.logprob = logprob;
  token.rank = rank;
  for (const auto& [top, value] : tops) {
    token.top_ids[token.top_count] = top;
    token.top_logprobs[token.top_count++] = value;
  }
  return token;
}

DeltaEvent Delta(int32_t index, std::string text, std::vector<TokenResult> tokens) {
  const auto count = static_cast<int32_t>(tokens.size());
  return {.index = index, .text = std::move(text), .count = count, .tokens = std::move(tokens)};
}

EndEvent End(int32_t index, EndReason reason, int32_t stop_id = -1,
             std::optional<std::string> stop_string = {}) {
  return {
      .index = index, .reason = reason, .stop_string = std::move(stop_string), .stop_id = stop_id};
}

ReplyChunk Chunk(std::vector<DeltaEvent> deltas, std::vector<EndEvent> ends = {},
                 std::optional<PromptEvent> prompt = {}) {
  ReplyChunk chunk;
  chunk.prompt = std::move(prompt);
  chunk.deltas = std::move(deltas);
  chunk.ends = std::move(ends);
  return chunk;
}

class OpenAiReplyTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { tokenizer_ = text::LoadTokenizer("byte_level").release(); }
  static void TearDownTestSuite() { delete tokenizer_; }

  // A reply to `body`, where each prompt has the ids of "Hi".
  OpenAiReply& Begin(OpenAiEndpoint endpoint, const std::string& body) {
    auto request = ParseOpenAiRequest(endpoint, body, /*max_n=*/16);
    EXPECT_TRUE(request.ok()) << request.status();
    const size_t prompts = request->call.prompts.size();
    reply_.emplace(request->format, prompts, OpenAiHeader{"id-1", "m", 7}, *tokenizer_, kPrimaryEos,
                   max_bytes_, kept_);
    for (size_t i = 0; i < prompts; ++i) reply_->SetPrompt(i, {Ids("Hi"), "Hi"});
    return *reply_;
  }
  OpenAiReply& Chat(const std::string& fields) {
    return Begin(OpenAiEndpoint::kChat,
                 R"({"messages":[{"role":"user","content":"x"}])" + fields + "}");
  }
  OpenAiReply& Completion(const std::string& fields, const std::string& prompt = "\"x\"") {
    return Begin(OpenAiEndpoint::kCompletions, R"({"prompt":)" + prompt + fields + "}");
  }
  static std::vector<int32_t> Ids(const std::string& text) {
    return tokenizer_->Encode(text, false).value();
  }
  static int32_t Id(const std::string& text) {
    const std::vector<int32_t> ids = Ids(text);
    EXPECT_EQ(ids.size(), 1u) << text;
    return ids[0];
  }
  // The events' JSON, "[DONE]" as a string.
  static std::vector<Json> Events(const std::string& sse) {
    std::vector<Json> events;
    size_t at = 0;
    while (at < sse.size()) {
      const size_t end = sse.find("\n\n", at);
      EXPECT_EQ(sse.substr(at, 6), "data: ");
      if (end == std::string::npos) ADD_FAILURE() << "an event without its end";
      const std::string data = sse.substr(at + 6, end - at - 6);
      events.push_back(data == "[DONE]" ? Json(data) : Json::parse(data));
      at = end == std::string::npos ? sse.size() : end + 2;
    }
    return events;
  }
  static std::vector<Json> Choices(const std::string& sse) {
    std::vector<Json> choices;
    for (const Json& event : Events(sse)) choices.push_back(event["choices"][0]);
    return choices;
  }

  static const text::Tokenizer* tokenizer_;
  int64_t max_bytes_ = 64 << 20;
  KeptAnswers all_kept_{INT64_MAX};
  KeptAnswers::One kept_{all_kept_};
  std::optional<OpenAiReply> reply_;
};

const text::Tokenizer* OpenAiReplyTest::tokenizer_ = nullptr;

TEST_F(OpenAiReplyTest, WholeChat) {
  OpenAiReply& reply = Chat("");
  EXPECT_EQ(reply.OnChunk(0, Chunk({Delta(0, "안녕", {})}, {}, PromptEvent{2, 1, {}})), "");
  DeltaEvent rest = Delta(0, "하세요", {});
  rest.count = 3;
  EXPECT_EQ(reply.OnChunk(0, Chunk({rest}, {End(0, EndReason::kStop, kPrimaryEos)})), "");
  EXPECT_EQ(reply.Whole(),
            R"({"id":"id-1","object":"chat.completion","created":7,"model":"m","choices":[)"
            R"({"index":0,"message":{"role":"assistant","content":"안녕하세요"},"logprobs":null,)"
            R"("finish_reason":"stop","stop_reason":null}],)"
            R"("usage":{"prompt_tokens":)" +
                std::to_string(Ids("Hi").size()) + R"(,"total_tokens":)" +
                std::to_string(Ids("Hi").size() + 3) +
                R"(,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":1}}})");
}

TEST_F(OpenAiReplyTest, StreamedChat) {
  OpenAiReply& reply = Chat(R"(,"stream":true,"stream_options":{"include_usage":true})");
  DeltaEvent held;  // a token whose character is incomplete
  held.count = 1;
  const std::string head =
      R"({"id":"id-1","object":"chat.completion.chunk","created":7,"model":"m",)";
  const std::string silent = "data: " + head +
                             R"("choices":[{"index":0,"delta":{"content":""},)"
                             R"("logprobs":null,"finish_reason":null}]})"
                             "\n\n";
  EXPECT_EQ(reply.OnChunk(0, Chunk({held}, {}, PromptEvent{2, 0, {}})),
            "data: " + head +
                R"("choices":[{"index":0,"delta":{"role":"assistant","content":""},)"
                R"("logprobs":null,"finish_reason":null}]})"
                "\n\n" +
                silent);
  EXPECT_EQ(reply.OnChunk(0, Chunk({held})), silent);
  EXPECT_EQ(reply.OnChunk(0, Chunk({Delta(0, "한", {})})),
            "data: " + head +
                R"("choices":[{"index":0,"delta":{"content":"한"},)"
                R"("logprobs":null,"finish_reason":null}]})"
                "\n\n");
  EXPECT_EQ(reply.OnChunk(0, Chunk({Delta(0, "국", {})}, {End(0, EndReason::kLength)})),
            "data: " + head +
                R"("choices":[{"index":0,"delta":{"content":"국"},)"
                R"("logprobs":null,"finish_reason":"length","stop_reason":null}]})"
                "\n\n");
  const std::vector<Json> end = Events(reply.StreamEnd());
  ASSERT_EQ(end.size(), 2u);
  EXPECT_EQ(end[0]["choices"], Json::array());
  EXPECT_EQ(end[0]["usage"]["completion_tokens"], 2);
  EXPECT_EQ(end[1], "[DONE]");
}

TEST_F(OpenAiReplyTest, NothingFollowsAStreamWithoutUsage) {
  EXPECT_EQ(Chat(R"(,"stream":true)").StreamEnd(), "data: [DONE]\n\n");
}

TEST_F(OpenAiReplyTest, StreamedCompletionBeginsWithItsText) {
  OpenAiReply& reply = Completion(R"(,"stream":true)");
  EXPECT_EQ(reply.OnChunk(0, Chunk({Delta(0, "a", {})}, {}, PromptEvent{2, 0, {}})),
            R"(data: {"id":"id-1","object":"text_completion","created":7,"model":"m","choices":[)"
            R"({"index":0,"text":"a","logprobs":null,"finish_reason":null}]})"
            "\n\n");
  const std::vector<Json> end = Choices(reply.OnChunk(0, Chunk({}, {End(0, EndReason::kAbort)})));
  ASSERT_EQ(end.size(), 1u);
  EXPECT_EQ(end[0]["text"], "");
  EXPECT_EQ(end[0]["finish_reason"], "abort");
}

TEST_F(OpenAiReplyTest, StopReasons) {
  const auto reason = [&](EndEvent end) {
    OpenAiReply& reply = Completion("");
    reply.OnChunk(0, Chunk({}, {std::move(end)}));
    return Json::parse(reply.Whole())["choices"][0];
  };
  EXPECT_EQ(reason(End(0, EndReason::kStop, kPrimaryEos))["stop_reason"], nullptr);
  EXPECT_EQ(reason(End(0, EndReason::kStop, kSecondEos))["stop_reason"], kSecondEos);
  EXPECT_EQ(reason(End(0, EndReason::kStop, -1, "###"))["stop_reason"], "###");
  EXPECT_EQ(reason(End(0, EndReason::kLength))["stop_reason"], nullptr);
  EXPECT_EQ(reason(End(0, EndReason::kLength))["finish_reason"], "length");
}

TEST_F(OpenAiReplyTest, IndexIsPromptTimesNPlusOutput) {
  OpenAiReply& reply = Completion(R"(,"n":2)", R"(["x","y"])");
  for (size_t prompt : {1, 0}) {
    for (int output : {1, 0}) {
      const std::string name = std::to_string(prompt) + std::to_string(output);
      std::optional<PromptEvent> begin;
      if (output == 1) begin = PromptEvent{2, static_cast<int32_t>(prompt) + 1, {}};
      reply.OnChunk(prompt,
                    Chunk({Delta(output, name, {})}, {End(output, EndReason::kStop)}, begin));
    }
  }
  const Json whole = Json::parse(reply.Whole());
  std::vector<std::string> texts;
  for (const Json& choice : whole["choices"]) texts.push_back(choice["text"]);
  EXPECT_THAT(texts, ElementsAre("00", "01", "10", "11"));
  EXPECT_EQ(whole["choices"][2]["index"], 2);
  // Each prompt counts once, however many outputs it has.
  EXPECT_EQ(whole["usage"]["prompt_tokens"], 2 * Ids("Hi").size());
  EXPECT_EQ(whole["usage"]["prompt_tokens_details"]["cached_tokens"], 1 + 2);
}

TEST_F(OpenAiReplyTest, EachChoiceOfAChatBeginsWithItsRole) {
  OpenAiReply& reply = Chat(R"(,"stream":true,"n":2,"return_token_ids":true)");
  std::string sse =
      reply.OnChunk(0, Chunk({Delta(1, "b", {Token(5, 0)})}, {}, PromptEvent{2, 0, {}}));
  sse += reply.OnChunk(0, Chunk({Delta(0, "a", {Token(6, 0)}), Delta(1, "c", {Token(7, 0)})}));
  const std::vector<Json> events = Events(sse);
  ASSERT_EQ(events.size(), 5u);
  std::vector<std::string> shown;
  for (const Json& event : events) {
    const Json& choice = event["choices"][0];
    const Json& delta = choice["delta"];
    shown.push_back(std::to_string(choice["index"].get<int>()) +
                    (delta.contains("role") ? "role" : delta["content"].get<std::string>()));
  }
  EXPECT_THAT(shown, ElementsAre("1role", "1b", "0role", "0a", "1c"));
  // The prompt's ids are in the first event, whichever choice it belongs to.
  EXPECT_EQ(events[0]["prompt_token_ids"], Json(Ids("Hi")));
  for (size_t i = 1; i < events.size(); ++i) EXPECT_FALSE(events[i].contains("prompt_token_ids"));
  EXPECT_EQ(events[1]["choices"][0]["token_ids"], Json({5}));
}

TEST_F(OpenAiReplyTest, TokenIdsOfCompletions) {
  OpenAiReply& reply = Completion(R"(,"stream":true,"return_token_ids":true)");
  // The prompt's ids don't wait for text.
  const std::vector<Json> first = Choices(reply.OnChunk(0, Chunk({Delta(0, "", {Token(5, 0)})})));
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0]["text"], "");
  EXPECT_EQ(first[0]["token_ids"], Json({5}));
  EXPECT_EQ(first[0]["prompt_token_ids"], Json(Ids("Hi")));
  const std::vector<Json> second =
      Choices(reply.OnChunk(0, Chunk({Delta(0, "ab", {Token(6, 0)})})));
  EXPECT_FALSE(second[0].contains("prompt_token_ids"));

  OpenAiReply& whole = Completion(R"(,"return_token_ids":true)");
  whole.OnChunk(0, Chunk({Delta(0, "ab", {Token(5, 0), Token(6, 0)})}, {End(0, EndReason::kStop)}));
  const Json choice = Json::parse(whole.Whole())["choices"][0];
  EXPECT_EQ(choice["token_ids"], Json({5, 6}));
  EXPECT_EQ(choice["prompt_token_ids"], Json(Ids("Hi")));
}

TEST_F(OpenAiReplyTest, ContinuousUsage) {
  OpenAiReply& reply = Completion(
      R"(,"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true})");
  DeltaEvent two = Delta(0, "a", {});
  two.count = 2;
  const Json usage = Events(reply.OnChunk(0, Chunk({two}, {}, PromptEvent{2, 1, {}})))[0]["usage"];
  EXPECT_EQ(usage["completion_tokens"], 2);
  EXPECT_EQ(usage["prompt_tokens"], Ids("Hi").size());
  EXPECT_EQ(usage["prompt_tokens_details"]["cached_tokens"], 1);

  OpenAiReply& chat = Chat(
      R"(,"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true})");
  const std::vector<Json> events = Events(chat.OnChunk(0, Chunk({two}, {}, PromptEvent{2, 1, {}})));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0]["usage"]["completion_tokens"], 0) << "the role";
  EXPECT_EQ(events[1]["usage"]["completion_tokens"], 2);
}

TEST_F(OpenAiReplyTest, ChatLogprobs) {
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

TEST_F(OpenAiReplyTest, PiecesOfCharactersInLogprobs) {
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

TEST_F(OpenAiReplyTest, CompletionLogprobs) {
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
TEST_F(OpenAiReplyTest, TextOffsets) {
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
TEST_F(OpenAiReplyTest, TextOffsetsAreOfTheText) {
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

TEST_F(OpenAiReplyTest, TokensThatShareATextKeepTheLikeliest) {
  const std::vector<int32_t> pieces = Ids("곬");
  ASSERT_GT(pieces.size(), 1u);
  OpenAiReply& reply = Completion(R"(,"logprobs":2)");
  const int32_t one = pieces[0], two = pieces[1];
  reply.OnChunk(0, Chunk({Delta(0, "", {Token(two, -3, {{one, -0.5f}, {two, -3}}, 2)})},
                         {End(0, EndReason::kStop)}));
  const Json tops = Json::parse(reply.Whole())["choices"][0]["logprobs"]["top_logprobs"][0];
  EXPECT_EQ(tops.begin().value(), -0.5);
}

TEST_F(OpenAiReplyTest, TokensAsIds) {
  OpenAiReply& reply = Completion(R"(,"logprobs":1,"return_tokens_as_token_ids":true)");
  reply.OnChunk(0,
                Chunk({Delta(0, "a", {Token(5, -1, {{6, -0.5f}})})}, {End(0, EndReason::kStop)}));
  const Json logprobs = Json::parse(reply.Whole())["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"], Json({"token_id:5"}));
  EXPECT_EQ(logprobs["top_logprobs"][0], Json({{"token_id:5", -1.0}, {"token_id:6", -0.5}}));
}

TEST_F(OpenAiReplyTest, EchoStandsBeforeTheText) {
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

// An underestimated reply would be written on a thread that others wait for.
TEST_F(OpenAiReplyTest, SizesCountThePromptOfEveryOutput) {
  constexpr int kOutputs = 16;
  const int32_t a = Id("a"), b = Id("b");
  const OpenAiPrompt prompt{std::vector<int32_t>(1000, a), ""};
  const PromptEvent scored{1000, 0,
                           std::vector<TokenResult>(999, Token(a, -1.5f, {{a, -1.5f}, {b, -2}}))};
  const auto chunk_of = [&](int32_t output) {
    const bool leads = output == 0;  // the log-probabilities come with it
    if (output == 1) return Chunk({}, {End(1, EndReason::kStop)});
    return Chunk({Delta(output, "a", {Token(a, -1)})}, {End(output, EndReason::kLength)},
                 leads ? std::optional(scored) : std::nullopt);
  };
  for (const std::string fields :
       {R"(,"n":16,"echo":true,"logprobs":2)", R"(,"n":16,"return_token_ids":true)"}) {
    OpenAiReply& stream = Completion(fields + R"(,"stream":true)");
    stream.SetPrompt(0, prompt);
    for (int32_t output = 0; output < kOutputs; ++output) {
      const ReplyChunk chunk = chunk_of(output);
      const size_t size = stream.SizeOf(0, chunk);
      EXPECT_GE(size, stream.OnChunk(0, chunk).size() / 2) << fields << output;
    }
  }
  for (const std::string fields :
       {R"(,"n":16,"echo":true,"logprobs":2)", R"(,"n":16,"return_token_ids":true)",
        R"(,"n":16,"prompt_logprobs":2)"}) {
    OpenAiReply& whole = Completion(fields);
    whole.SetPrompt(0, prompt);
    for (int32_t output = 0; output < kOutputs; ++output) {
      const ReplyChunk chunk = chunk_of(output);
      const size_t size = whole.SizeOf(0, chunk), before = whole.WholeSize();
      whole.OnChunk(0, chunk);
      EXPECT_GE(size, (whole.WholeSize() - before) / 2) << fields << output;
    }
    const size_t size = whole.WholeSize();
    EXPECT_GE(size, whole.Whole().size() / 2) << fields;
  }
}

// Of a stream, only its prompt is kept, until every output has shown it.
TEST_F(OpenAiReplyTest, CountsWhatItKeeps) {
  const int32_t a = Id("a");
  const TokenResult token = Token(a, -1.5f, {{a, -1.5f}});
  for (const bool streamed : {true, false}) {
    OpenAiReply& reply = Completion(std::string(R"(,"n":2,"echo":true,"logprobs":1)") +
                                    (streamed ? R"(,"stream":true)" : ""));
    reply.SetPrompt(0, {std::vector<int32_t>(100, a), std::string(100, 'a')});
    const auto take = [&](int32_t output, bool ends) {
      std::vector<EndEvent> end;
      if (ends) end.push_back(End(output, EndReason::kLength));
      const int64_t before = all_kept_.bytes();
      reply.OnChunk(0, Chunk({Delta(output, "a", {token})}, std::move(end)));
      return all_kept_.bytes() - before;
    };
    reply.OnChunk(0, Chunk({}, {}, PromptEvent{100, 0, std::vector<TokenResult>(99, token)}));
    const int64_t prompt = all_kept_.bytes();
    EXPECT_GT(prompt, 100);
    if (streamed) {
      EXPECT_EQ(take(0, false), 0);
      EXPECT_EQ(take(0, false), 0);
      EXPECT_EQ(take(1, true), -prompt);
      EXPECT_EQ(take(0, true), 0);
    } else {
      EXPECT_GT(take(0, false), 10);
      EXPECT_GT(take(0, true), prompt) << "its choice repeats the prompt";
      take(1, true);
      EXPECT_EQ(all_kept_.bytes(), static_cast<int64_t>(reply.WholeSize()));
    }
  }
}

// The limit applies to the answer's bytes, whatever it shows.
TEST_F(OpenAiReplyTest, AWholeReplyIsTooLargeIfItsJsonIs) {
  constexpr int kTokens = 200, kPromptTokens = 300;
  constexpr int64_t kEnvelope = 400;  // everything around the choices
  const int32_t a = Id("a");
  std::vector<std::pair<int32_t, float>> tops;
  for (int32_t i = 0; i < kMaxTopLogprobs; ++i) tops.emplace_back(100 + i, -0.1f * i);
  const TokenResult token = Token(a, -1.1f, tops);
  const auto take = [&](const std::string& fields, bool ends) -> OpenAiReply& {
    const bool chat = fields.find("top_logprobs") != std::string::npos;
    OpenAiReply& reply = chat ? Chat(fields) : Completion(fields);
    const bool scores = fields.find("echo") != std::string::npos;
    reply.SetPrompt(
        0, {std::vector<int32_t>(kPromptTokens, a), std::string(scores ? kPromptTokens : 0, '"')});
    const PromptEvent prompt{kPromptTokens, 0, std::vector(scores ? kPromptTokens - 1 : 0, token)};
    reply.OnChunk(0, Chunk({}, {}, prompt));
    const int outputs = fields.find("\"n\":2") == std::string::npos ? 1 : 2;
    for (int output = 0; output < outputs; ++output) {
      for (int i = 0; i < kTokens; ++i) reply.OnChunk(0, Chunk({Delta(output, "\n", {token})}));
      if (ends) reply.OnChunk(0, Chunk({}, {End(output, EndReason::kLength)}));
    }
    return reply;
  };
  for (const std::string fields :
       {R"(,"max_tokens":9)", R"(,"return_token_ids":true)", R"(,"logprobs":0)",
        R"(,"logprobs":20)", R"(,"logprobs":true,"top_logprobs":20)",
        R"(,"echo":true,"logprobs":3)", R"(,"echo":true,"n":2,"logprobs":3,"prompt_logprobs":2)"}) {
    SCOPED_TRACE(fields);
    max_bytes_ = 64 << 20;
    const auto size = std::ssize(take(fields, true).Whole());
    max_bytes_ = size;
    EXPECT_FALSE(take(fields, true).too_large());
    max_bytes_ = size - kEnvelope;
    EXPECT_TRUE(take(fields, true).too_large());
    // A reply that is already too large need not end to be known as such.
    if (fields.find("echo") == std::string::npos && size > 10'000) {
      EXPECT_TRUE(take(fields, false).too_large());
    }
  }
  // What a choice would show of its prompt counts before it is written.
  max_bytes_ = 1000;
  OpenAiReply& echo = Completion(R"(,"echo":true)");
  echo.SetPrompt(0, {Ids("Hi"), std::string(1001, 'x')});
  echo.OnChunk(0, Chunk({}, {End(0, EndReason::kLength)}));
  EXPECT_TRUE(echo.too_large());
  EXPECT_EQ(echo.WholeSize(), 0u);
}

// What was not kept stays missing, even if the sum of what is kept drops below the limit again: a
// choice that is refused before it is written leaves the sum there.
TEST_F(OpenAiReplyTest, OnceTooLargeAReplyStaysSo) {
  max_bytes_ = 1000;
  OpenAiReply& reply = Completion(R"(,"echo":true)", R"(["x","y"])");
  reply.SetPrompt(0, {Ids("Hi"), std::string(1001, 'x')});
  reply.OnChunk(0, Chunk({}, {End(0, EndReason::kLength)}));
  EXPECT_TRUE(reply.too_large());
  reply.OnChunk(1, Chunk({Delta(0, "a", {})}, {End(0, EndReason::kLength)}));
  EXPECT_TRUE(reply.too_large());
  EXPECT_EQ(reply.WholeSize(), 0u) << "nothing more is kept";
}

TEST_F(OpenAiReplyTest, PromptAlone) {
  for (const bool stream : {false, true}) {
    OpenAiReply& reply = Completion(std::string(R"(,"echo":true,"max_tokens":0,"logprobs":0)") +
                                    (stream ? R"(,"stream":true)" : ""));
    const PromptEvent scored{2, 0, {Token(Ids("Hi")[1], -1.5f)}};
    const std::string events = reply.OnChunk(
        0,
        Chunk({Delta(0, "drawn", {Token(5, -1)})}, {End(0, EndReason::kStop, kSecondEos)}, scored));
    const Json choice = stream ? Choices(events)[0] : Json::parse(reply.Whole())["choices"][0];
    EXPECT_EQ(choice["text"], "Hi");
    EXPECT_EQ(choice["logprobs"]["tokens"].size(), 2u);
    EXPECT_EQ(choice["finish_reason"], "length");
    EXPECT_EQ(choice["stop_reason"], nullptr);
    if (stream) continue;
    EXPECT_EQ(Json::parse(reply.Whole())["usage"]["completion_tokens"], 0);
  }
}

TEST_F(OpenAiReplyTest, PromptLogprobs) {
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

// Not even built: every output shows the prompt once more.
TEST_F(OpenAiReplyTest, SizesCountWhatIsWrittenWhenever) {
  const int32_t a = Id("a");
  const ReplyChunk end = Chunk({}, {End(0, EndReason::kLength)});
  // What was kept until now.
  OpenAiReply& whole = Completion("");
  whole.OnChunk(0, Chunk({Delta(0, std::string(10'000, 'a'), {})}));
  EXPECT_GE(whole.SizeOf(0, end), 10'000u);
  // An echo, before its output ends.
  OpenAiReply& echo = Completion(R"(,"stream":true,"echo":true)");
  echo.SetPrompt(0, {Ids("Hi"), std::string(10'000, 'a')});
  EXPECT_GE(echo.SizeOf(0, Chunk({Delta(0, "a", {})})), 10'000u);
  // A prompt's log-probabilities: as they come, and as the whole shows them.
  const ReplyChunk scores =
      Chunk({}, {}, PromptEvent{1000, 0, std::vector<TokenResult>(999, Token(a, -1))});
  OpenAiReply& chat = Chat(R"(,"prompt_logprobs":0)");
  chat.SetPrompt(0, {std::vector<int32_t>(1000, a), ""});
  EXPECT_GE(chat.SizeOf(0, scores), 50'000u);
  chat.OnChunk(0, scores);
  chat.OnChunk(0, end);
  const size_t size = chat.WholeSize();
  EXPECT_GE(size, chat.Whole().size() / 2);
}

// As its end would show it.
TEST_F(OpenAiReplyTest, AReplyThatIsTooLargeKeepsNoMore) {
  max_bytes_ = 1000;
  const ReplyChunk end = Chunk({}, {End(0, EndReason::kLength)});
  OpenAiReply& text = Completion("");
  for (int i = 0; i < 9; ++i) text.OnChunk(0, Chunk({Delta(0, std::string(2000, 'a'), {})}));
  EXPECT_TRUE(text.too_large());
  EXPECT_LT(text.SizeOf(0, end), 3000u);
  OpenAiReply& logprobs = Completion(R"(,"logprobs":0)");
  logprobs.OnChunk(0, Chunk({Delta(0, "", std::vector<TokenResult>(999, Token(Id("a"), -1)))}));
  EXPECT_TRUE(logprobs.too_large());
  EXPECT_LT(logprobs.SizeOf(0, end), 3000u);
}

// Its log-probabilities, which come first, count once.
TEST_F(OpenAiReplyTest, AStreamMayShowAPromptAsLargeAsTheLimit) {
  const int32_t a = Id("a");
  const auto shown = [&] {
    OpenAiReply& reply = Completion(R"(,"stream":true,"echo":true,"logprobs":0)");
    reply.SetPrompt(0, {std::vector<int32_t>(100, a), std::string(100, 'a')});
    const PromptEvent scores{100, 0, std::vector<TokenResult>(99, Token(a, -1))};
    return reply.OnChunk(0, Chunk({Delta(0, "a", {Token(a, -1)})}, {}, scores));
  };
  const std::string events = shown();
  max_bytes_ = std::ssize(events);
  EXPECT_EQ(shown(), events);
  EXPECT_FALSE(reply_->too_large());
}

TEST_F(OpenAiReplyTest, AStreamEndsWhereItsPromptsPassTheLimit) {
  max_bytes_ = 4000;
  OpenAiReply& reply = Completion(R"(,"stream":true,"echo":true,"n":16)");
  reply.SetPrompt(0, {Ids("Hi"), std::string(500, '\t')});  // 1000 bytes of JSON
  ReplyChunk chunk;
  for (int32_t i = 0; i < 16; ++i) chunk.deltas.push_back(Delta(i, "a", {}));
  EXPECT_EQ(Events(reply.OnChunk(0, chunk)).size(), 4u);
  EXPECT_TRUE(reply.too_large());
}

}  // namespace
}  // namespace baram::server
