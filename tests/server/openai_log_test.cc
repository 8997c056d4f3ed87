// Which HTTP calls leave a log line and a count, and what these say about how the call ended.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "server/log.h"
#include "tests/server/http2_frames.h"
#include "tests/server/http_client.h"
#include "tests/server/server_fixture.h"

namespace baram::testing {
namespace {

using server::RawClient;
using server::RawRequest;
using server::RawResponse;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

class OpenAiLogTest : public ServerFixture {
 protected:
  static std::string Post(const std::string& path, const std::string& body) {
    return RawRequest("POST", path, body, "Content-Type: application/json\r\n");
  }
  RawResponse Ask(const std::string& request) {
    RawClient client(server().http_address());
    client.Send(request);
    return client.Read();
  }
  // Whether calls of `method` with that code and reason are counted, `count` in all.
  bool Counted(const std::string& method, const std::string& code, const std::string& reason,
               int count = 1) {
    const std::string line = "method=\"" + method + "\",code=\"" + code + "\",reason=\"" + reason +
                             "\"} " + std::to_string(count) + "\n";
    // The answer is sent a moment before it is counted.
    return Comes([&] { return server().metrics().Text().find(line) != std::string::npos; });
  }
  // What is logged for `calls`; destroys the server.
  template <typename Calls>
  std::string Logged(Calls calls) {
    ::testing::internal::CaptureStderr();
    server::SetUpLog("text", "info");
    calls();
    server_.reset();  // a line is written a moment after its call is counted
    EXPECT_TRUE(server::FlushLog());
    server::SetUpLog("text", "error");
    return ::testing::internal::GetCapturedStderr();
  }
  // A completion whose answer is about 5 MB, more than the sockets' buffers hold.
  static std::string LargeBody() {
    std::string prompt = "[0", prompts;
    for (int i = 1; i < 500; ++i) prompt += "," + std::to_string(i);
    prompt += "]";
    for (int i = 0; i < 8; ++i) prompts += (i > 0 ? "," : "") + prompt;
    return R"({"prompt":[)" + prompts + R"(],"max_tokens":1,"prompt_logprobs":20})";
  }
};

// This is an operator's action, not a user's.
TEST_F(OpenAiLogTest, ADrainNamesWhoAskedForIt) {
  StartServer();
  const std::string log = Logged([&] {
    grpc::ClientContext context;
    v1::DrainResponse response;
    EXPECT_TRUE(operation().Drain(&context, {}, &response).ok());
  });
  EXPECT_THAT(log, ContainsRegex("draining, as 127.0.0.1:[0-9]+ asked over gRPC"));
}

TEST_F(OpenAiLogTest, EveryRouteOfTheModelsIsCounted) {
  StartServer();
  Ask(RawRequest("GET", "/v1/models"));
  Ask(RawRequest("GET", "/v1/models/tiny"));
  Ask(RawRequest("GET", "/v1/models/other"));
  Ask(Post("/tokenize", R"({"prompt":"a"})"));
  Ask(Post("/tokenize", "{}"));
  Ask(Post("/detokenize", R"({"tokens":[1]})"));
  Ask(Post("/v1/responses", "{}"));
  Ask(RawRequest("GET", "/v1/responses/abc"));
  Ask(Post("/v1/completions", R"({"prompt":7})"));
  Ask(Post("/v1/completions", "{"));
  Ask(RawRequest("POST", "/v1/completions", R"({"prompt":"a"})", "Content-Type: text/plain\r\n"));
  Ask(Post("/tokenize", "\xff"));
  Ask(Post("/v1/completions", R"({"prompt":"a","max_tokens":2,"ignore_eos":true})"));
  EXPECT_TRUE(Counted("/v1/models", "200", ""));
  EXPECT_TRUE(Counted("/v1/models/*", "200", ""));
  EXPECT_TRUE(Counted("/v1/models/*", "404", "MODEL_NOT_FOUND"));
  EXPECT_TRUE(Counted("/tokenize", "200", ""));
  EXPECT_TRUE(Counted("/tokenize", "400", "INVALID_FIELD"));
  EXPECT_TRUE(Counted("/detokenize", "200", ""));
  EXPECT_TRUE(Counted("/v1/responses", "404", ""));
  EXPECT_TRUE(Counted("/v1/responses/*", "404", ""));
  EXPECT_TRUE(Counted("/v1/completions", "400", "INVALID_FIELD"));
  EXPECT_TRUE(Counted("/v1/completions", "400", "INVALID_BODY", 2));
  EXPECT_TRUE(Counted("/tokenize", "400", "INVALID_BODY"));
  EXPECT_TRUE(Counted("/v1/completions", "200", "length"));
}

TEST_F(OpenAiLogTest, WhatTheListenerRefusesIsCountedWithItsReason) {
  StartServer();
  Ask(RawRequest("GET", "/nothing"));
  Ask(RawRequest("GET", "/tokenize"));
  Ask(RawRequest("POST", "/tokenize", "x", "Content-Encoding: gzip\r\n"));
  Ask("GET /health HTTP/1.1\r\n\r\n");
  Ask("nonsense\r\n\r\n");
  EXPECT_TRUE(Counted("http", "404", "NO_SUCH_PATH"));
  EXPECT_TRUE(Counted("http", "405", "WRONG_METHOD"));
  EXPECT_TRUE(Counted("http", "415", "COMPRESSED_BODY"));
  EXPECT_TRUE(Counted("http", "400", "UNCLEAR_HOST"));
  EXPECT_TRUE(Counted("http", "400", "NOT_HTTP"));
}

// An invalid one is not logged, but the id of ours that the client gets instead.
TEST_F(OpenAiLogTest, ShortCallsAreLoggedWithTheirRequestIds) {
  StartServer();
  RawResponse invalid;
  const std::string log = Logged([&] {
    Ask(RawRequest("GET", "/v1/models", "", "X-Request-Id: over-http\r\n"));
    invalid = Ask(RawRequest("POST", "/tokenize", R"({"prompt":"a"})",
                             "Content-Type: application/json\r\nX-Request-Id: so bad\r\n"));
    for (const char* id : {"over-grpc", "so bad"}) {
      grpc::ClientContext context;
      context.AddMetadata("x-request-id", id);
      v1::ListModelsResponse models;
      EXPECT_TRUE(inference().ListModels(&context, {}, &models).ok());
    }
    EXPECT_TRUE(Counted("/v1/models", "200", ""));
    EXPECT_TRUE(Counted("/tokenize", "200", ""));
    EXPECT_TRUE(Counted("ListModels", "OK", "", 2));
  });
  EXPECT_EQ(invalid.status, 200);
  EXPECT_THAT(log, HasSubstr("call /v1/models 200 id=over-http peer="));
  EXPECT_THAT(log,
              HasSubstr("call /tokenize 200 id=" + invalid.headers["x-request-id"] + " peer="));
  EXPECT_THAT(log, HasSubstr("call ListModels OK id=over-grpc peer="));
  EXPECT_THAT(log, ContainsRegex("call ListModels OK id=req-[0-9a-f]+ peer="));
  EXPECT_THAT(log, Not(HasSubstr("so bad")));
}

// For several prompts the sum, and for an invalid id nothing, as it may be anything.
TEST_F(OpenAiLogTest, ALineTellsWhatItsCallUsed) {
  StartServer();
  const std::string log = Logged([&] {
    v1::GenerateRequest request = TextRequest("hello", 5);
    request.set_request_id("over-grpc");
    EXPECT_TRUE(Stream(request).status.ok());
    request.set_request_id("so bad");
    EXPECT_FALSE(Stream(request).status.ok());
    EXPECT_EQ(Ask(RawRequest("POST", "/v1/completions",
                             R"({"prompt":[[5],[6,7]],"max_tokens":4,"ignore_eos":true})",
                             "Content-Type: application/json\r\nx-request-id: over-http\r\n"))
                  .status,
              200);
    EXPECT_TRUE(Counted("Generate", "OK", "length"));
    EXPECT_TRUE(Counted("Generate", "INVALID_ARGUMENT", "INVALID_FIELD"));
    EXPECT_TRUE(Counted("/v1/completions", "200", "length"));
  });
  EXPECT_THAT(
      log, ContainsRegex(
               "call Generate OK length id=over-grpc peer=127.0.0.1:[0-9]+ prompt=[0-9]+ cached=0 "
               "completion=5 first_ms=[0-9.]+ ms="));
  EXPECT_THAT(
      log,
      ContainsRegex(
          "call /v1/completions 200 length id=over-http peer=127.0.0.1:[0-9]+ prompt=3 cached=0 "
          "completion=8 first_ms=[0-9.]+ ms="));
  EXPECT_THAT(log, Not(HasSubstr("so bad")));
}

// For an IPv4 client of a dual-stack listener, its IPv4 address.
TEST_F(OpenAiLogTest, ALineTellsWhereItsCallComesFrom) {
  const int ipv6 = socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  const bool has_ipv6 = bind(ipv6, reinterpret_cast<const sockaddr*>(&any), sizeof(any)) == 0;
  close(ipv6);
  if (!has_ipv6) GTEST_SKIP() << "there is no IPv6 here";
  StartServer([](server::Config& config) { config.grpc_listen = config.http_listen = "[::]:0"; });
  const std::string log = Logged([&] {
    EXPECT_EQ(Ask(RawRequest("GET", "/v1/models")).status, 200);
    const std::string address = server().grpc_address();
    for (const std::string host : {"127.0.0.1", "[::1]"}) {
      grpc::ClientContext context;
      v1::ListModelsResponse models;
      const auto channel = grpc::CreateChannel(host + address.substr(address.rfind(':')),
                                               grpc::InsecureChannelCredentials());
      EXPECT_TRUE(v1::Inference::NewStub(channel)->ListModels(&context, {}, &models).ok());
    }
    EXPECT_TRUE(Counted("/v1/models", "200", ""));
    EXPECT_TRUE(Counted("ListModels", "OK", "", 2));
  });
  EXPECT_THAT(log, HasSubstr("call /v1/models 200 peer=127.0.0.1:"));
  EXPECT_THAT(log, HasSubstr("call ListModels OK peer=127.0.0.1:"));
  EXPECT_THAT(log, HasSubstr("call ListModels OK peer=[::1]:"));
}

// Its address can't be asked for any more when the line is written.
TEST_F(OpenAiLogTest, ALineNamesAClientThatHasGone) {
  StartServer();
  const std::string log = Logged([&] {
    v1::TokenizeRequest request;
    while (request.text().size() < 15'000) *request.mutable_text() += TinyFolder::kCycle;
    const std::string message = request.SerializeAsString();
    RawClient client(server().grpc_address());
    client.Send(Preface() + Frame(kSettingsFrame, 0, 0, BigEndian(4, 2) + BigEndian(0, 4)) +
                CallHeaders(1, "Tokenize") +
                Frame(kDataFrame, kEndStream, 1, MessagePrefix(message.size()) + message));
    std::string received;
    while (received.find("application/grpc") == std::string::npos &&
           client.ReadSome(1 << 16, &received) > 0) {
    }
    client.Close();
    EXPECT_TRUE(Counted("Tokenize", "CANCELLED", ""));
  });
  EXPECT_THAT(log, ContainsRegex("call Tokenize CANCELLED peer=127.0.0.1:[0-9]+ "));
}

// By the name sent to its client, whichever component found it.
TEST_F(OpenAiLogTest, ALineNamesTheFieldAsItsClientWasTold) {
  StartServer();
  const std::string log = Logged([&] {
    const auto refused = [&](const std::string& path, const std::string& body) {
      const RawResponse response = Ask(Post(path, body));
      EXPECT_EQ(response.status, 400);
      return std::string(server::Json::parse(response.body)["error"]["param"]);
    };
    EXPECT_EQ(refused("/v1/completions", R"({"prompt":""})"), "prompt");
    EXPECT_EQ(refused("/v1/completions", R"({"prompt":"a","top_p":3})"), "top_p");
    EXPECT_EQ(refused("/v1/chat/completions", R"({"max_completion_tokens":0,"messages":)"
                                              R"([{"role":"user","content":"a"}]})"),
              "max_completion_tokens");
    EXPECT_EQ(refused("/tokenize", R"({"prompt":7})"), "prompt");
    EXPECT_TRUE(Counted("/v1/completions", "400", "INVALID_FIELD", 2));
    EXPECT_TRUE(Counted("/v1/chat/completions", "400", "INVALID_FIELD"));
    EXPECT_TRUE(Counted("/tokenize", "400", "INVALID_FIELD"));
  });
  EXPECT_THAT(log, HasSubstr("/v1/completions 400 INVALID_FIELD field=prompt "));
  EXPECT_THAT(log, HasSubstr("/v1/completions 400 INVALID_FIELD field=top_p "));
  EXPECT_THAT(log, HasSubstr("completions 400 INVALID_FIELD field=max_completion_tokens "));
  EXPECT_THAT(log, HasSubstr("/tokenize 400 INVALID_FIELD field=prompt "));
}

TEST_F(OpenAiLogTest, ARequestThatGoesWrongHasTakenTimeFromItsFirstByte) {
  StartServer();
  const std::string log = Logged([&] {
    RawClient client(server().http_address());
    client.Send("POST /tokenize HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));
    client.Send("zz\r\n");
    EXPECT_EQ(client.Read().status, 400);
    EXPECT_TRUE(Counted("http", "400", "NOT_HTTP"));
  });
  EXPECT_THAT(
      log, ContainsRegex(
               "call http 400 NOT_HTTP peer=127.0.0.1:[0-9]+ ms=[1-9][0-9][0-9][0-9]+\\.[0-9]\n"));
}

TEST_F(OpenAiLogTest, ARefusedRequestHasItsClientsId) {
  StartServer();
  const std::string log = Logged([&] {
    RawClient client(server().http_address());
    client.Send("GET /nothing HTTP/1.1\r\nHost: a\r\nX-Request-Id: of-a-proxy\r\n\r\n");
    EXPECT_EQ(client.Read().status, 404);
    EXPECT_TRUE(Counted("http", "404", "NO_SUCH_PATH"));
  });
  EXPECT_THAT(log, HasSubstr("call http 404 NO_SUCH_PATH id=of-a-proxy peer=127.0.0.1:"));
}

TEST_F(OpenAiLogTest, WhatMachinesAskForEverIsNot) {
  StartServer();
  for (const char* path : {"/health", "/ping", "/version", "/load", "/metrics"}) {
    EXPECT_EQ(Ask(RawRequest("GET", path)).status, 200) << path;
  }
  EXPECT_EQ(ServerFixture::Counted().calls, 0);
}

TEST_F(OpenAiLogTest, AClientThatGoesWhileItsAnswerLeavesIs499) {
  StartServer();
  RawClient client(server().http_address(), /*receive_buffer_bytes=*/4096);
  client.Send(Post("/v1/completions", LargeBody()));
  EXPECT_EQ(client.ReadSome(1), 1u);  // it has started to be sent
  EXPECT_EQ(ServerFixture::Counted("code=\"200\"").calls, 0);
  client.Reset();
  EXPECT_TRUE(Counted("/v1/completions", "499", ""));
  EXPECT_EQ(ServerFixture::Counted("code=\"200\"").calls, 0);
}

TEST_F(OpenAiLogTest, AReaderWhoStopsIsASlowReader) {
  StartServer([](server::Config& config) { config.slow_reader_s = 0.3; });
  RawClient whole(server().http_address(), /*receive_buffer_bytes=*/4096);
  whole.Send(Post("/v1/completions", LargeBody()));
  EXPECT_TRUE(Counted("/v1/completions", "408", "SLOW_READER", 1));
  EXPECT_FALSE(whole.Read().whole);

  // Log-probabilities of every token: the stream is more than the sockets' buffers hold.
  RawClient stream(server().http_address(), /*receive_buffer_bytes=*/4096);
  stream.Send(Post("/v1/completions",
                   R"({"prompt":"a","n":16,"max_tokens":500,"ignore_eos":true,"logprobs":20,)"
                   R"("stream":true})"));
  EXPECT_TRUE(Counted("/v1/completions", "408", "SLOW_READER", 2));
  EXPECT_TRUE(Comes([&] { return server().idle() && server().open_http_connections() == 0; }));
  const Stats& stats = server().engine().stats();
  EXPECT_EQ(stats.finished[static_cast<size_t>(FinishReason::kSlowReader)].value(), 1u);
}

// It is told with what it used, although its last chunk was never written.
TEST_F(OpenAiLogTest, AStreamThatIsCutOffTellsWhatItUsed) {
  const std::string log = Logged([&] {
    StartServer([](server::Config& config) {
      config.stream_tokens = 16;
      config.stream_bytes = 1024;
      config.slow_reader_s = 0.2;
    });
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // keeps the flow-control window small
    const auto stub = v1::Inference::NewStub(NewChannel(arguments));
    v1::GenerateRequest request = TextRequest("hello", 400);
    request.mutable_sampling()->set_n(8);
    request.mutable_output()->set_logprobs(20);
    grpc::ClientContext context;
    const auto reader = stub->Generate(&context, request);
    EXPECT_TRUE(Comes([&] { return ServerFixture::Counted("method=\"Generate\"").calls == 1; }));
  });
  EXPECT_THAT(log, ContainsRegex("call Generate RESOURCE_EXHAUSTED SLOW_READER id=.* prompt=[1-9] "
                                 "cached=0 completion=[1-9][0-9]+ first_ms="));
}

// The first of several prompts to have one; the others wait for it here.
TEST_F(OpenAiLogTest, TheFirstTokenIsTheCallsFirst) {
  const std::string log = Logged([&] {
    StartServer([](server::Config& config) { config.max_num_seqs = 1; });
    EXPECT_EQ(Ask(Post("/v1/completions",
                       R"({"prompt":["a","b","c"],"max_tokens":200,"ignore_eos":true})"))
                  .status,
              200);
  });
  const auto number = [&](const std::string& name) {
    return std::stod(log.substr(log.find(name + "=") + name.size() + 1));
  };
  EXPECT_LT(number(" first_ms"), number(" ms") / 2);
}

TEST_F(OpenAiLogTest, AnEchoAloneUsesNoTokens) {
  const std::string log = Logged([&] {
    StartServer();
    EXPECT_EQ(
        Ask(Post("/v1/completions", R"({"prompt":"hello","max_tokens":0,"echo":true})")).status,
        200);
  });
  EXPECT_THAT(log, ContainsRegex("call /v1/completions 200 length .* completion=0 "));
}

// The first prompt's text is ready long before the second one is read, and waits for it.
TEST_F(OpenAiLogTest, WhatWaitsForAnotherPromptHasNoSlowReader) {
  StartServer([](server::Config& config) {
    config.slow_reader_s = 0.1;
    config.text_threads = 1;
    config.stream_tokens = 16;
  });
  const std::string large(3 << 20, 'a');
  const RawResponse response =
      Ask(Post("/v1/completions", R"({"prompt":["a",")" + large +
                                      R"("],"truncate_prompt_tokens":10,"max_tokens":400,)"
                                      R"("ignore_eos":true,"stream":true})"));
  EXPECT_EQ(response.status, 200);
  EXPECT_THAT(response.body, AllOf(EndsWith("data: [DONE]\n\n"), Not(HasSubstr("error"))));
  EXPECT_TRUE(Counted("/v1/completions", "200", "length"));
  EXPECT_EQ(ServerFixture::Counted("method=\"http\"").calls, 0);
}

// Log-probabilities of many outputs: a chunk takes long to read, and each output waits for its
// turn.
TEST_F(OpenAiLogTest, AReaderOfManyOutputsWhoGoesOnIsNotSlow) {
  StartServer([](server::Config& config) { config.slow_reader_s = 1; });
  RawClient client(server().http_address(), /*receive_buffer_bytes=*/32 << 10);
  client.Send(Post("/v1/chat/completions",
                   R"({"messages":[{"role":"user","content":"a"}],"n":16,"max_tokens":250,)"
                   R"("ignore_eos":true,"logprobs":true,"top_logprobs":20,"stream":true})"));
  std::string text;
  while (!text.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n")) {
    ASSERT_GT(client.ReadSome(32 << 10, &text), 0u) << "cut off after " << text.size();
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(Counted("/v1/chat/completions", "200", "length"));
}

}  // namespace
}  // namespace baram::testing
