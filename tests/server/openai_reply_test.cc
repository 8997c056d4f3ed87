// OpenAI's replies: the exact JSON of native events, streamed and not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/server/openai_reply_fixture.h"

namespace baram::server {
namespace {

using testing::ElementsAre;

class OpenAiReplyTest : public OpenAiReplyFixture {};

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

}  // namespace
}  // namespace baram::server
