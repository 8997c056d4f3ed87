// OpenAI's HTTP API on the real server: calls that do not end as their client requested.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/json_fields.h"
#include "tests/server/http_client.h"
#include "tests/server/openai_flow_fixture.h"

namespace baram::testing {
namespace {

using server::Json;
using server::RawClient;
using server::RawRequest;
using server::RawResponse;
using ::testing::EndsWith;
using ::testing::HasSubstr;

using OpenAiFlowTest = OpenAiFlowFixture;

TEST_F(OpenAiFlowTest, ACallAbortedFromElsewhereEndsWithAbort) {
  StartNarrow();
  const auto busy = Occupy();
  for (const bool stream : {false, true}) {
    const auto client = Send(Post(
        std::string(R"({"prompt":"b","max_tokens":9,"stream":)") + (stream ? "true}" : "false}"),
        "x-request-id: to-abort\r\n"));
    v1::AbortRequest abort;
    abort.set_request_id("to-abort");
    // Until the call has been accepted there is nothing to abort.
    for (bool found = false; !found;) {
      grpc::ClientContext context;
      v1::AbortResponse response;
      found = inference().Abort(&context, abort, &response).ok() && response.found();
    }
    const RawResponse response = client->Read();
    EXPECT_EQ(response.status, 200);
    EXPECT_THAT(response.body, HasSubstr(R"("finish_reason":"abort")"));
    if (stream) {
      EXPECT_THAT(response.body, EndsWith("data: [DONE]\n\n"));
    }
  }
  busy->Close();
  AwaitIdle();
}

// A proxy passes one id to several calls; aborting it ends them all.
TEST_F(OpenAiFlowTest, CallsMayShareAnId) {
  StartNarrow();
  const auto busy = Occupy();
  const std::string id = "x-request-id: shared\r\n";
  const auto first = Send(Post(R"({"prompt":["b","c"],"max_tokens":9})", id));
  const auto second = Send(Post(R"({"prompt":"d","max_tokens":9,"request_id":"shared"})"));
  while (server_->engine().stats().accepted.value() < 16 + 3) {
    ASSERT_FALSE(second->HasMore()) << second->Read().body;
    std::this_thread::yield();
  }
  EXPECT_TRUE(server_->engine().Abort("shared"));
  for (const auto& client : {first.get(), second.get()}) {
    const RawResponse response = client->Read();
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.headers.at("x-request-id"), "shared");
    const Json choices = Json::parse(response.body)["choices"];
    EXPECT_EQ(choices.size(), client == first.get() ? 2u : 1u);
    for (const Json& choice : choices) EXPECT_EQ(choice["finish_reason"], "abort");
  }
  busy->Close();
  AwaitIdle();
}

// A call is one job of the text pool: it is refused as a whole, and a short text can pass it.
TEST_F(OpenAiFlowTest, ACallOfManyPromptsIsOneText) {
  StartServer([](server::Config& config) {
    config.text_threads = 2;
    config.text_queue = 2;
  });
  // Each is short; together they take long.
  const std::string prompts = Prompts(100, std::string(60'000, 'a'));
  const auto many =
      Send(Post(R"({"prompt":)" + prompts + R"(,"truncate_prompt_tokens":1,"max_tokens":1})"));
  const Stats& stats = server_->engine().stats();
  while (stats.accepted.value() == 0) std::this_thread::yield();
  EXPECT_EQ(Ask(Post(R"({"prompt":"hello","max_tokens":1})")).status, 200);
  EXPECT_LT(stats.accepted.value(), 100u + 1u) << "it waited for the many";
  const RawResponse response = many->Read();
  EXPECT_EQ(response.status, 200) << response.body;
  EXPECT_EQ(Json::parse(response.body)["choices"].size(), 100u);
}

// Its client reads neither its answer nor its end, and is still connected.
TEST_F(OpenAiFlowTest, AHalfSentRequestDoesNotHoldTheStop) {
  StartServer();
  RawClient client(server_->http_address());
  client.Send(
      "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
      "Expect: 100-continue\r\nContent-Length: 100\r\n\r\n");
  std::string proceed;
  while (!proceed.ends_with("\r\n\r\n")) ASSERT_GT(client.ReadSome(1, &proceed), 0u);
  const auto begun = std::chrono::steady_clock::now();
  server().Stop(begun + std::chrono::hours(1));
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(2700));
  EXPECT_EQ(client.Read().status, 408);
  EXPECT_EQ(server().open_http_connections(), 0);
}

// Nothing more is read for a client that disconnects between two of its prompts.
TEST_F(OpenAiFlowTest, WhoGoesBetweenTwoPromptsIsNotReadToTheEnd) {
  StartServer();
  const std::string prompts = Prompts(100, std::string(60'000, 'a'));
  const auto many =
      Send(Post(R"({"prompt":)" + prompts + R"(,"truncate_prompt_tokens":1,"max_tokens":1})"));
  const Stats& stats = server_->engine().stats();
  while (stats.accepted.value() == 0) std::this_thread::yield();
  many->Reset();
  EXPECT_TRUE(Comes([&] { return server().idle(); }));
  EXPECT_LT(stats.accepted.value(), 100u);
}

// One id for all its prompts, including one that is being read, and would be refused as too long.
TEST_F(OpenAiFlowTest, ACallOfSeveralPromptsIsAbortedWhole) {
  StartNarrow([](server::Config& config) { config.text_threads = 1; });
  const auto busy = Occupy();
  const std::string id(128, 'i');
  const std::string prompts = R"(["b","c",")" + std::string(2 << 20, 'a') + R"(","d"])";
  const auto& accepted = server().engine().stats().accepted;
  struct Case {
    const char* fields;
    size_t choices;
    bool by_engine = false;  // only what the engine knows of the call is aborted
  };
  for (const Case& one : {Case{R"("truncate_prompt_tokens":10)", 4}, Case{R"("n":2)", 8},
                          Case{R"("stream":true)", 4}, Case{R"("n":1)", 4, true}}) {
    while (!server().text_pool().idle()) std::this_thread::yield();
    const uint64_t before = accepted.value();
    const auto client =
        Send(Post(absl::StrCat("{", one.fields, R"(,"max_tokens":9,"prompt":)", prompts, "}"),
                  "x-request-id: " + id + "\r\n"));
    while (accepted.value() < before + 2) std::this_thread::yield();
    v1::AbortRequest abort;
    abort.set_request_id(id);
    grpc::ClientContext context;
    v1::AbortResponse found;
    if (one.by_engine) {
      EXPECT_TRUE(server().engine().Abort(id));
    } else {
      EXPECT_TRUE(inference().Abort(&context, abort, &found).ok() && found.found());
    }
    const RawResponse response = client->Read();
    EXPECT_EQ(response.status, 200) << response.body;
    const std::string_view end = R"("finish_reason":"abort")";
    size_t ends = 0;
    for (size_t at = response.body.find(end); at != std::string::npos; ++ends) {
      at = response.body.find(end, at + 1);
    }
    EXPECT_EQ(ends, one.choices) << response.body;
  }
  busy->Close();
  AwaitIdle();
}

// Whichever is refused, first or last: those before it end, those after it are not read, and their
// client is told only of the refusal.
TEST_F(OpenAiFlowTest, ACallOfWhichAPromptIsRefusedEndsWhole) {
  StartNarrow([](server::Config& config) { config.text_threads = 1; });
  const std::string too_long(256 << 10, 'a');
  uint64_t calls = 0;
  for (const bool first : {true, false}) {
    for (const bool stream : {true, false}) {
      const std::string prompts = first ? '"' + too_long + R"(","b")" : R"("b",")" + too_long + '"';
      const RawResponse response =
          Ask(Post(R"({"prompt":[)" + prompts + R"(],"max_tokens":500,"ignore_eos":true,"n":16,)" +
                   R"("stream":)" + (stream ? "true}" : "false}")));
      EXPECT_EQ(response.status, 400);
      EXPECT_THAT(response.body, HasSubstr("maximum context length"));
      EXPECT_TRUE(Comes([&] { return server().idle(); }));
      const auto& finished = server().engine().stats().finished;
      calls += !first;
      EXPECT_EQ(finished[static_cast<size_t>(FinishReason::kCancelled)].value(), calls);
      EXPECT_EQ(finished[static_cast<size_t>(FinishReason::kLength)].value(), 0u);
    }
  }
}

// Its first prompt's reply is complete, its second one's is running. A call that wants the id
// exclusively is refused.
TEST_F(OpenAiFlowTest, AnIdIsInUseUntilItsLastPromptHasItsReply) {
  StartNarrow();
  const std::string id = "x-request-id: taken\r\n";
  const auto client =
      Send(Post(R"({"prompt":["b","c"],"n":4,"max_tokens":500,"ignore_eos":true})", id));
  const auto& finished = server().engine().stats().finished;
  while (finished[static_cast<size_t>(FinishReason::kLength)].value() == 0) {
    std::this_thread::yield();
  }
  v1::GenerateRequest request = TextRequest("d", 1);
  request.set_request_id("taken");
  const grpc::Status refused = Stream(request).status;
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_THAT(refused.error_message(), HasSubstr("choose another id"));
  EXPECT_EQ(client->Read().status, 200);
  EXPECT_TRUE(Stream(request).status.ok());
}

// A body is not needed once it has been read, and calls may run for long.
TEST_F(OpenAiFlowTest, ARunningCallDoesNotHoldItsBody) {
  StartServer();
  constexpr size_t kBodyBytes = 7 << 20;
  const auto held = [] {
    const struct mallinfo2 now = mallinfo2();
    return now.uordblks + now.hblkhd;
  };
  if (held() == 0) GTEST_SKIP() << "a sanitizer's allocator does not say what is held";
  const auto ask = [&] {
    // More than the sockets' buffers hold: it runs until its client disconnects.
    return Send(Post(R"({"prompt":"b","n":4,"max_tokens":500,"ignore_eos":true,"stream":true,)"
                     R"("logprobs":20,"user":")" +
                     std::string(kBodyBytes, 'u') + R"("})"));
  };
  std::vector<std::unique_ptr<RawClient>> clients;
  const size_t before = held();
  for (int i = 0; i < 4; ++i) {
    clients.push_back(ask());
    EXPECT_GT(clients.back()->ReadSome(1), 0u);  // it is running
  }
  EXPECT_LT(static_cast<int64_t>(held() - before), static_cast<int64_t>(2 * kBodyBytes));
  for (const auto& client : clients) client->Close();
  AwaitIdle();
}

// If the text pool is blocked, so is a reply that takes long to write, but no other.
TEST_F(OpenAiFlowTest, ALargeReplyIsNotWrittenByDelivery) {
  StartNarrow([](server::Config& config) { config.text_threads = 1; });
  std::string prompt = "[5";
  for (int i = 1; i < 300; ++i) prompt += ",5";
  prompt += "]";
  const std::string fields = R"(,"max_tokens":1,"ignore_eos":true)";
  uint64_t calls = 0;
  const auto await_accepted = [&] {
    while (server_->engine().stats().accepted.value() < calls) std::this_thread::yield();
  };
  for (const std::string kind :
       {R"(,"prompt_logprobs":20)", R"(,"echo":true,"logprobs":20,"stream":true)"}) {
    const auto busy = Occupy();
    calls += 16 + 1;
    const auto large = Send(Post(R"({"prompt":)" + prompt + fields + kind + "}"));
    await_accepted();
    ++calls;
    const auto small = Send(Post(R"({"prompt":"b")" + fields + "}"));
    await_accepted();
    std::promise<void> held;
    HoldTextPool(held.get_future());
    busy->Close();
    EXPECT_EQ(small->Read().status, 200);
    // A reply written by delivery would be sent by then: the large one came first.
    for (int i = 0; i < 20; ++i) EXPECT_EQ(Ask(RawRequest("GET", "/health")).status, 200);
    EXPECT_FALSE(large->HasMore());
    held.set_value();
    EXPECT_EQ(large->Read().status, 200);
  }
  AwaitIdle();
}

TEST_F(OpenAiFlowTest, ADeadlineInTheHeader) {
  StartNarrow();
  const Counts fresh = Counted();
  const auto busy = Occupy();
  const RawResponse response = Ask(Post(R"({"prompt":"b"})", "x-request-timeout: 0.05\r\n"));
  EXPECT_EQ(response.status, 504);
  EXPECT_TRUE(Comes([&] { return Counted("code=\"504\"").calls == 1; }));
  EXPECT_EQ(Counted().series, fresh.series);
  EXPECT_EQ(response.headers.at("x-should-retry"), "false");
  EXPECT_EQ(Json::parse(response.body)["error"]["type"], "TimeoutError");
  busy->Close();
  AwaitIdle();
}

// Like a gRPC deadline that is later than the server allows.
TEST_F(OpenAiFlowTest, ALongTimeoutIsCutToTheServersOwn) {
  StartNarrow([](server::Config& config) { config.max_request_timeout_s = 0.3; });
  const std::string long_one = R"({"prompt":"b","n":16,"max_tokens":500,"ignore_eos":true})";
  EXPECT_EQ(Ask(Post(long_one, "x-request-timeout: 3600\r\n")).status, 504);
  AwaitIdle();
}

// The first part of the reply was sent when the deadline passes: the error is an event.
TEST_F(OpenAiFlowTest, ADeadlineWithinAStream) {
  StartNarrow();
  const std::string prompts = Prompts(100, "a");
  const RawResponse response = Ask(Post(
      R"({"prompt":)" + prompts + R"(,"n":16,"max_tokens":500,"ignore_eos":true,"stream":true})",
      "x-request-timeout: 1\r\n"));
  EXPECT_EQ(response.status, 200);
  EXPECT_TRUE(response.whole);
  EXPECT_THAT(response.body, HasSubstr(R"(data: {"error":{"message":"The deadline passed)"));
  EXPECT_THAT(response.body, EndsWith("\"code\":504}}\n\ndata: [DONE]\n\n"));
  AwaitIdle();
}

TEST_F(OpenAiFlowTest, AFullQueueSaysWhenToTryAgain) {
  StartNarrow([](server::Config& config) { config.max_queued_requests = 16; });
  const auto busy = Occupy();
  // Occupy's 16 prompts, of which one runs.
  ASSERT_TRUE(Comes([&] { return server_->engine().stats().accepted.value() >= 16; }));
  const RawResponse response =
      Ask(Post(R"({"prompt":)" + Prompts(2, "a") + R"(,"max_tokens":9,"stream":true})"));
  EXPECT_EQ(response.status, 429);
  EXPECT_THAT(response.headers.at("retry-after"), ::testing::AnyOf("1", "2"));
  EXPECT_EQ(response.headers.count("x-should-retry"), 0u);
  const Json error = Json::parse(response.body)["error"];
  EXPECT_EQ(error["type"], "RateLimitError");
  EXPECT_EQ(error["message"], "The server's queue is full; try again in a moment.");
  EXPECT_TRUE(Comes([&] { return Overloads("max-queued-requests") == 1; }));
  EXPECT_EQ(Overloads("max-queued-tokens"), 0);
  EXPECT_EQ(Overloads("text-queue"), 0);
  busy->Close();
  AwaitIdle();
}

TEST_F(OpenAiFlowTest, TheOperatorIsToldWhichQueueIsFull) {
  StartNarrow([](server::Config& config) {
    config.max_queued_tokens = 1;
    config.text_threads = config.text_queue = 1;
  });
  const auto busy = Send(Post(R"({"prompt":"a","n":8,"max_tokens":500,"ignore_eos":true})"));
  while (server_->engine().stats().waiting.value() == 0) std::this_thread::yield();
  const Counts fresh = Counted();
  const std::string small = R"({"prompt":"b","max_tokens":1})";
  const auto waits = Send(Post(small));
  ASSERT_TRUE(Comes([&] { return server_->engine().stats().accepted.value() == 2; }));
  EXPECT_EQ(Ask(Post(small)).status, 429);
  EXPECT_TRUE(Comes([&] { return Overloads("max-queued-tokens") == 1; }));
  std::promise<void> held;
  HoldTextPool(held.get_future());
  const auto queued = Send(Post(small));
  ASSERT_TRUE(Comes([&] { return server_->text_pool().waiting() == 1; }));
  EXPECT_EQ(Ask(Post(small)).status, 429);
  EXPECT_TRUE(Comes([&] { return Overloads("text-queue") == 1; }));
  EXPECT_EQ(Overloads("max-queued-requests"), 0);
  EXPECT_EQ(Counted().series, fresh.series) << "a series was born with its first event";
  held.set_value();
  busy->Close();
  AwaitIdle();
}

// A retry could never succeed.
TEST_F(OpenAiFlowTest, MorePromptsThanTheQueueHoldsAreAWrongCall) {
  StartNarrow([](server::Config& config) { config.max_queued_requests = 4; });
  const auto ask = [&](size_t prompts, const std::string& more = "") {
    return Ask(Post(R"({"n":16,"max_tokens":1,"prompt":)" + Prompts(prompts, "a") + more + "}"));
  };
  const RawResponse response = ask(5);
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(response.headers.at("x-should-retry"), "false");
  const Json error = Json::parse(response.body)["error"];
  EXPECT_EQ(error["param"], "prompt");
  EXPECT_EQ(error["message"],
            "prompt has 5 entries but at most 4 requests wait here (--max-queued-requests): send "
            "fewer prompts a call.");
  EXPECT_EQ(ask(4).status, 200) << "an output is no request";
  const RawResponse back = ask(4, R"(,"priority":1)");
  EXPECT_EQ(back.status, 400);
  EXPECT_THAT(back.body, HasSubstr("has 4 entries but at most 3 requests wait here "
                                   "(--max-queued-requests, less what is left to urgent ones)"));
  EXPECT_EQ(ask(3, R"(,"priority":1)").status, 200);
}

TEST_F(OpenAiFlowTest, ADrainingServerSendsCallsElsewhere) {
  StartNarrow([](server::Config& config) { config.text_threads = 1; });
  const auto busy = Occupy();
  const auto waiting =
      Send(Post(R"({"prompt":"b","max_tokens":9,"ignore_eos":true,"stream":true})"));
  // Occupy's 16 prompts, and this one.
  while (server_->engine().stats().accepted.value() < 17) std::this_thread::yield();
  RawClient kept(server_->http_address()), probe(server_->metrics_address());
  const auto ask = [](RawClient& client, const char* path) {
    client.Send(RawRequest("GET", path));
    return client.Read();
  };
  EXPECT_EQ(ask(kept, "/health").status, 200);
  EXPECT_EQ(ask(probe, "/ready").status, 200);
  server_->lifecycle().Drain(std::chrono::steady_clock::now() + std::chrono::minutes(1));
  const RawResponse response = Ask(Post(R"({"prompt":"c"})"));
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.headers.at("retry-after"), "1");
  EXPECT_EQ(response.headers.at("connection"), "close");
  EXPECT_EQ(Ask(RawRequest("GET", "/health")).status, 503);
  EXPECT_EQ(kept.ReadToEnd(), "");
  EXPECT_EQ(ask(probe, "/ready").status, 503);
  EXPECT_EQ(ask(probe, "/live").status, 200) << "of the operator's listener";
  // Nothing new is queued on the text pool, for which the drain waits.
  std::promise<void> held;
  HoldTextPool(held.get_future());
  const std::string json = "Content-Type: application/json\r\n";
  for (const std::string& request :
       {RawRequest("POST", "/tokenize", R"({"prompt":"c"})", json),
        RawRequest("POST", "/detokenize", R"({"tokens":[5]})", json),
        Post(R"({"prompt":")" + std::string(100 << 10, 'c') + R"("})")}) {
    RawResponse refused = Ask(request);
    EXPECT_EQ(refused.status, 503) << request.substr(0, 20);
    EXPECT_EQ(refused.headers["retry-after"], "1");
  }
  held.set_value();
  busy->Close();
  EXPECT_THAT(waiting->Read().body, HasSubstr(R"("finish_reason":"length")"));
}

// Even past the drain limit every client is told how its call ended.
TEST_F(OpenAiFlowTest, AServerThatStopsAtOnceSaysSo) {
  StartNarrow();
  std::vector<std::unique_ptr<RawClient>> clients;
  clients.push_back(Occupy());
  for (int i = 0; i < 8; ++i) {
    clients.push_back(
        Send(Post(R"({"prompt":"b","max_tokens":400,"ignore_eos":true,"stream":true})")));
  }
  // Occupy's 16 prompts, and these.
  while (server_->engine().stats().accepted.value() < 24) std::this_thread::yield();
  server_->Stop(std::chrono::steady_clock::now());
  for (const auto& client : clients) {
    const RawResponse response = client->Read();
    EXPECT_TRUE(response.whole);
    EXPECT_THAT(response.body, HasSubstr(R"("code":503)"));
  }
}

// Tokens without text do not fill a reply: it keeps reading from the engine.
TEST_F(OpenAiFlowTest, TokensWithoutTextDoNotHoldAReply) {
  StartServer([](server::Config& config) { config.stream_tokens = 16; });
  const std::string fields = R"({"prompt":"a","max_tokens":100,"ignore_eos":true,"logit_bias":{")" +
                             std::to_string(TinyFolder::kEos) + R"(":100})";
  const RawResponse whole = Ask(Post(fields + "}"));
  EXPECT_EQ(whole.status, 200);
  const Json choice = Json::parse(whole.body)["choices"][0];
  EXPECT_EQ(choice["text"], "");
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_EQ(Json::parse(whole.body)["usage"]["completion_tokens"], 100);
  EXPECT_THAT(Ask(Post(fields + R"(,"stream":true})")).body, EndsWith("data: [DONE]\n\n"));
}

// It has its own limit, however many connections the call listeners allow: the one that has been
// idle for longest makes room.
TEST_F(OpenAiFlowTest, TheMetricsListenerHoldsFew) {
  StartServer();
  std::vector<std::unique_ptr<RawClient>> held;
  const auto ask = [&] {
    held.push_back(std::make_unique<RawClient>(server_->metrics_address()));
    held.back()->Send(RawRequest("GET", "/live"));
    return held.back()->Read().status;
  };
  for (int i = 0; i < server_->shares().probes; ++i) ASSERT_EQ(ask(), 200);
  ASSERT_TRUE(held.front()->Send(RawRequest("GET", "/live")));
  EXPECT_EQ(held.front()->Read().status, 200);
  EXPECT_EQ(ask(), 200);
  EXPECT_EQ(held[1]->Read().status, 0);
}

// What the listener refuses before any route sees it still counts as a call for the operator.
TEST_F(OpenAiFlowTest, WhatTheListenerRefusesIsCounted) {
  StartServer([](server::Config& config) { config.max_body_bytes = 100; });
  EXPECT_EQ(Ask(RawRequest("GET", "/nothing")).status, 404);
  EXPECT_EQ(Ask(RawRequest("GET", kCompletions)).status, 405);
  EXPECT_EQ(Ask(Post(std::string(200, ' '))).status, 413);
  const std::string metrics = server().metrics().Text();
  for (const char* code : {"404", "405", "413"}) {
    EXPECT_THAT(metrics, HasSubstr(std::string("code=\"") + code + "\"")) << code;
  }
}

}  // namespace
}  // namespace baram::testing
