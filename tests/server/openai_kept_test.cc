// What answers of OpenAI's calls keep until they can be sent is bounded together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "server/json_fields.h"
#include "server/kept_answers.h"
#include "tests/server/comes.h"
#include "tests/server/http_client.h"
#include "tests/server/openai_flow_fixture.h"

namespace baram::testing {
namespace {

using server::Json;
using server::RawClient;
using server::RawResponse;

class OpenAiKeptTest : public OpenAiFlowFixture {
 protected:
  static constexpr int64_t kMost = 1 << 20;  // of all
  static void Limit(server::Config& config) {
    config.max_reply_bytes = 4 << 10;
    config.max_http_reply_bytes = 64 << 10;
  }
  static void ExpectCutOff(const RawResponse& response) {
    EXPECT_EQ(response.status, 429);
    EXPECT_TRUE(response.headers.contains("retry-after"));
    EXPECT_EQ(Json::parse(response.body)["error"]["message"],
              "The answers that this server collects take too much memory together, and this one "
              "most; set stream to true, ask for less, or try again later.");
  }
};

// Each is within its own limit. The others are not disturbed.
TEST_F(OpenAiKeptTest, TheLargestAnswersEnd) {
  StartServer([](server::Config& config) {
    Limit(config);
    config.max_num_seqs = 64;
  });
  const std::string fields = R"({"prompt":"a","max_tokens":200,"logprobs":20,"ignore_eos":true)";
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 40; ++i) clients.push_back(Send(Post(fields + "}")));
  int whole = 0, cut_off = 0;
  for (const auto& client : clients) {
    const RawResponse response = client->Read();
    if (response.status == 200) {
      ++whole;
      EXPECT_EQ(Json::parse(response.body)["choices"][0]["logprobs"]["tokens"].size(), 200u);
    } else {
      ++cut_off;
      ExpectCutOff(response);
    }
  }
  EXPECT_GT(whole, 10);
  EXPECT_EQ(Overloads("kept-answers"), cut_off);
  EXPECT_GT(cut_off, 0);
  EXPECT_TRUE(Comes([&] { return server_->kept_answers().bytes() == 0; }));
  EXPECT_EQ(Ask(Post(fields + R"(,"stream":true})")).status, 200);
}

// No chunk comes for it meanwhile that could notice.
TEST_F(OpenAiKeptTest, AnAnswerThatWaitsForItsNextPromptEndsToo) {
  StartNarrow(Limit);
  const auto waiting = Send(Post(
      R"({"prompt":["a","b"],"max_tokens":100,"logprobs":20,"ignore_eos":true,"priority":1})"));
  EXPECT_TRUE(Comes([&] { return server_->kept_answers().bytes() > 8 << 10; }));
  const auto urgent = Send(Post(R"({"prompt":)" + Prompts(16, "a") +
                                R"(,"n":8,"max_tokens":500,"ignore_eos":true,"stream":true})"));
  const Stats& stats = server_->engine().stats();
  EXPECT_TRUE(Comes([&] { return stats.generated_tokens.value() > 200; }));
  server::KeptAnswers& kept = server_->kept_answers();
  std::deque<server::KeptAnswers::One> others;
  while (kept.bytes() < kMost - (2 << 10)) others.emplace_back(kept).Add(1 << 10);
  EXPECT_FALSE(waiting->HasMore());
  others.emplace_back(kept).Add(4 << 10);
  ExpectCutOff(waiting->Read());
  EXPECT_GT(server_->engine().unfinished(), 0) << "the urgent call still runs";
}

// While a slow client reads what one prompt has, the others' text waits.
TEST_F(OpenAiKeptTest, WhatAStreamWaitsWithCounts) {
  StartServer([](server::Config& config) {
    Limit(config);
    config.device = "cpu";
  });
  RawClient client(server_->http_address(), /*receive_buffer_bytes=*/4096);
  client.Send(Post(R"({"stream":true,"n":8,"max_tokens":400,"logprobs":20,"ignore_eos":true,)"
                   R"("return_tokens_as_token_ids":true,"prompt":)" +
                   Prompts(64, "a") + "}"));
  EXPECT_TRUE(Comes([&] {
    client.ReadSome(64 << 10);
    return Overloads("kept-answers") == 1;
  }));
  EXPECT_EQ(Ask(Post(R"({"prompt":"a","max_tokens":2})")).status, 200);
}

}  // namespace
}  // namespace baram::testing
