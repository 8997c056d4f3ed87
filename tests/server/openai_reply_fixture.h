// OpenAiReplyFixture: feeds OpenAiReply with native events, without a server.
#ifndef BARAM_TESTS_SERVER_OPENAI_REPLY_FIXTURE_H_
#define BARAM_TESTS_SERVER_OPENAI_REPLY_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/kept_answers.h"
#include "server/openai_reply.h"
#include "server/openai_request.h"
#include "tests/text/text_data.h"

namespace baram::server {

inline constexpr int32_t kPrimaryEos = 702, kSecondEos = 700;

inline TokenResult Token(int32_t id, float logprob,
                         std::vector<std::pair<int32_t, float>> tops = {}, int32_t rank = 1) {
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

inline DeltaEvent Delta(int32_t index, std::string text, std::vector<TokenResult> tokens) {
  const auto count = static_cast<int32_t>(tokens.size());
  return {.index = index, .text = std::move(text), .count = count, .tokens = std::move(tokens)};
}

inline EndEvent End(int32_t index, EndReason reason, int32_t stop_id = -1,
                    std::optional<std::string> stop_string = {}) {
  return {
      .index = index, .reason = reason, .stop_string = std::move(stop_string), .stop_id = stop_id};
}

inline ReplyChunk Chunk(std::vector<DeltaEvent> deltas, std::vector<EndEvent> ends = {},
                        std::optional<PromptEvent> prompt = {}) {
  ReplyChunk chunk;
  chunk.prompt = std::move(prompt);
  chunk.deltas = std::move(deltas);
  chunk.ends = std::move(ends);
  return chunk;
}

class OpenAiReplyFixture : public testing::Test {
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

  static inline const text::Tokenizer* tokenizer_ = nullptr;
  int64_t max_bytes_ = 64 << 20;
  KeptAnswers all_kept_{INT64_MAX};
  KeptAnswers::One kept_{all_kept_};
  std::optional<OpenAiReply> reply_;
};

}  // namespace baram::server

#endif  // BARAM_TESTS_SERVER_OPENAI_REPLY_FIXTURE_H_
