// Calls that do not end by themselves: cancelled, late, stalled, refused.
#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/json_fields.h"
#include "tests/server/grpc_detail.h"
#include "tests/server/http2_frames.h"
#include "tests/server/http_client.h"
#include "tests/server/stalled_streams.h"

namespace baram::testing {
namespace {

class GrpcFlowTest : public StalledStreams {
 protected:
  // Sends a call as raw HTTP/2, since gRPC's client would read ahead: only the first 64 KiB of the
  // reply are sent.
  static void SendRaw(server::RawClient& client, const std::string& method,
                      const google::protobuf::Message& request, const std::string& timeout = "") {
    std::string message = request.SerializeAsString();
    message.insert(0, MessagePrefix(message.size()));
    client.Send(Preface() + CallHeaders(1, method, timeout));
    for (; message.size() > kMaxFrameBytes; message.erase(0, kMaxFrameBytes)) {
      client.Send(Frame(kDataFrame, 0, 1, message.substr(0, kMaxFrameBytes)));
    }
    client.Send(Frame(kDataFrame, kEndStream, 1, message));
  }
};

TEST_F(GrpcFlowTest, ASlowReaderCostsOnlyItselfAndLosesNothing) {
  StartSmallStreams(/*slow_reader_s=*/600);
  const auto unread = StartUnread(LargeRequest());
  AwaitPaused();
  const Streamed other = Stream(TextRequest("another", 300));
  EXPECT_TRUE(other.status.ok()) << other.status.error_message();
  EXPECT_EQ(other.Usage()->completion_tokens(), 300u);

  Streamed late;
  for (v1::GenerateResponse event; unread->reader->Read(&event);) late.events.push_back(event);
  late.status = unread->reader->Finish();
  ASSERT_TRUE(late.status.ok()) << late.status.error_message();
  EXPECT_EQ(late.Usage()->completion_tokens(), 8u * 400u);
  const Streamed prompt = Stream(LargeRequest());
  for (uint32_t i = 0; i < 8; ++i) EXPECT_EQ(late.Text(i), prompt.Text(i));
}

TEST_F(GrpcFlowTest, AReplyThatNobodyReadsEnds) {
  StartSmallStreams(/*slow_reader_s=*/0.2);
  const auto unread = StartUnread(LargeRequest());
  v1::GenerateResponse event;
  ASSERT_TRUE(unread->reader->Read(&event));  // it is running
  AwaitIdle();
  while (unread->reader->Read(&event)) {
  }
  EXPECT_FALSE(unread->reader->Finish().ok());
  EXPECT_TRUE(Stream(TextRequest("hello", 8)).status.ok());
}

// The reply is one chunk, and the engine is done with it.
TEST_F(GrpcFlowTest, ALastChunkThatNobodyReadsEnds) {
  StartServer([](server::Config& config) { config.slow_reader_s = 0.2; });
  v1::GenerateRequest request = TextRequest("", 1);
  for (uint32_t i = 0; i < 500; ++i) request.mutable_token_ids()->add_ids(i);
  request.mutable_output()->set_prompt_logprobs(20);
  for (const std::string method : {"Generate", "GenerateOnce"}) {
    server::RawClient client(server_->grpc_address());
    SendRaw(client, method, request);
    const std::string labels =
        "method=\"" + method + "\",code=\"RESOURCE_EXHAUSTED\",reason=\"SLOW_READER\"";
    EXPECT_TRUE(Comes([&] { return Counted(labels).calls > 0; })) << method;
    EXPECT_TRUE(Comes([&] { return server().idle(); }));
  }
}

// Calls with one short answer get no deadline from the server.
TEST_F(GrpcFlowTest, AShortAnswerThatNobodyReadsEnds) {
  StartServer([](server::Config& config) { config.slow_reader_s = 0.2; });
  v1::TokenizeRequest request;
  while (request.text().size() < 50'000) *request.mutable_text() += TinyFolder::kCycle;
  server::RawClient client(server_->grpc_address());
  SendRaw(client, "Tokenize", request);
  EXPECT_TRUE(Comes([&] {
    return server().metrics().Text().find(
               "method=\"Tokenize\",code=\"RESOURCE_EXHAUSTED\",reason=\"SLOW_READER\"") !=
           std::string::npos;
  }));
  client.Close();
  StartServer();
  server::RawClient gone(server_->grpc_address());
  SendRaw(gone, "Tokenize", request);
  EXPECT_GT(gone.ReadSome(1 << 16), 0u);
  gone.Close();
  EXPECT_TRUE(Comes([&] {
    return server().metrics().Text().find("method=\"Tokenize\",code=\"CANCELLED\"") !=
           std::string::npos;
  }));
}

// A client that disconnects during the last chunk has not received a whole reply.
TEST_F(GrpcFlowTest, AClientThatGoesInTheLastChunkIsNotOk) {
  StartServer();
  v1::GenerateRequest request = TextRequest("", 1);
  for (uint32_t i = 0; i < 500; ++i) request.mutable_token_ids()->add_ids(i);
  request.mutable_output()->set_prompt_logprobs(20);
  server::RawClient client(server_->grpc_address());
  SendRaw(client, "Generate", request);
  const Stats& stats = server().engine().stats();
  ASSERT_TRUE(Comes([&] { return stats.accepted.value() == 1 && server().engine().idle(); }));
  EXPECT_FALSE(server().idle()) << "a reply that nobody has read is held";
  client.Close();
  EXPECT_TRUE(Comes([&] { return server().idle(); }));
  EXPECT_EQ(Counted("code=\"CANCELLED\"").calls, 1);
}

TEST_F(GrpcFlowTest, AVanishedClientsPagesAreFreed) {
  StartSmallStreams(600);
  const auto unread = StartUnread(LargeRequest());
  AwaitPaused();
  EXPECT_GT(Load().kv_usage(), 0);
  unread->context.TryCancel();
  AwaitIdle();
  EXPECT_EQ(unread->reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

// One over gRPC, and two over HTTP with two prompts each; the body of one still waits to be parsed.
// They end as aborted, even if their deadline passes while they wait.
TEST_F(GrpcFlowTest, AbortEndsCallsThatWaitToBeRead) {
  const auto found = [&](const std::string& id) {
    v1::AbortRequest abort;
    abort.set_request_id(id);
    grpc::ClientContext context;
    v1::AbortResponse response;
    return inference().Abort(&context, abort, &response).ok() && response.found();
  };
  const auto post = [](const std::string& id, size_t unread_bytes) {
    return server::RawRequest("POST", "/v1/completions",
                              R"({"prompt":["b","c"],"max_tokens":400,"ignore_eos":true,"user":")" +
                                  std::string(unread_bytes, 'a') + "\"}",
                              "Content-Type: application/json\r\nx-request-id: " + id + "\r\n");
  };
  for (const double timeout_s : {600.0, 0.1}) {
    StartServer([&](server::Config& config) {
      config.text_threads = 1;
      config.request_timeout_s = timeout_s;
    });
    std::promise<void> held;
    HoldTextPool(held.get_future());
    v1::GenerateRequest request = TextRequest("hello", 400);
    request.set_request_id("waits");
    std::future<Streamed> got = std::async(std::launch::async, [&] { return Stream(request); });
    server::RawClient small(server_->http_address()), large(server_->http_address());
    small.Send(post("waits-too", 0));
    large.Send(post("waits-for-long", 70'000));
    for (const char* id : {"waits", "waits-too", "waits-for-long"}) {
      EXPECT_TRUE(Comes([&] { return found(id); })) << id;
    }
    if (timeout_s < 1) std::this_thread::sleep_for(std::chrono::duration<double>(timeout_s));
    held.set_value();
    EXPECT_EQ(got.get().status.error_code(), grpc::StatusCode::CANCELLED);
    for (server::RawClient* client : {&small, &large}) {
      const server::RawResponse answer = client->Read();
      EXPECT_EQ(answer.status, 200) << answer.body;
      const server::Json choices = server::Json::parse(answer.body)["choices"];
      EXPECT_EQ(choices.size(), 2u);
      for (const server::Json& choice : choices) EXPECT_EQ(choice["finish_reason"], "abort");
    }
    EXPECT_EQ(server().engine().stats().accepted.value(), 0u) << "they were read all the same";
    for (const char* id : {"waits", "waits-too", "waits-for-long"}) EXPECT_FALSE(found(id)) << id;
  }
}

TEST_F(GrpcFlowTest, AbortEndsACallById) {
  StartSmallStreams(600);
  v1::GenerateRequest request = LargeRequest();
  request.set_request_id("to-abort");
  const auto unread = StartUnread(request);
  AwaitPaused();
  {
    // The same id while it is in use.
    const Streamed twin = Stream(request);
    EXPECT_EQ(twin.status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
    EXPECT_TRUE(Detail<google::rpc::RetryInfo>(twin.status).has_value());
  }
  {
    // Nor may a call whose id may be shared run under it, to be aborted with it.
    grpc::ClientContext context;
    context.AddMetadata("x-request-id", "to-abort");
    EXPECT_EQ(Stream(TextRequest("b", 2), context).status.error_code(),
              grpc::StatusCode::ALREADY_EXISTS);
  }
  v1::AbortRequest abort;
  abort.set_request_id("to-abort");
  v1::AbortResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(inference().Abort(&context, abort, &response).ok());
  EXPECT_TRUE(response.found());
  Streamed rest;
  for (v1::GenerateResponse event; unread->reader->Read(&event);) rest.events.push_back(event);
  EXPECT_EQ(unread->reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  ASSERT_NE(rest.Usage(), nullptr);  // sent before the error
  EXPECT_LT(rest.Usage()->completion_tokens(), 8u * 400u);
  EXPECT_EQ(rest.Finish()->reason(), v1::FINISH_REASON_ABORT);

  grpc::ClientContext again;
  ASSERT_TRUE(inference().Abort(&again, abort, &response).ok());
  EXPECT_FALSE(response.found());
}

// And a call whose own deadline is later than the server grants.
TEST_F(GrpcFlowTest, TheServersOwnDeadlineEndsACallWithoutOne) {
  for (const bool later : {false, true}) {
    StartServer([&](server::Config& config) {
      (later ? config.max_request_timeout_s : config.request_timeout_s) = 0.3;
      config.stream_tokens = 16;
      config.stream_bytes = 1024;
    });
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    stalled_stub_ = v1::Inference::NewStub(NewChannel(arguments));
    const auto unread = std::make_unique<Unread>();
    if (later) {
      unread->context.set_deadline(std::chrono::system_clock::now() + std::chrono::hours(1));
    }
    unread->reader = stalled_stub_->Generate(&unread->context, LargeRequest());
    Streamed rest;
    ASSERT_TRUE(unread->reader->Read(&rest.events.emplace_back()));  // it is running
    AwaitIdle();                                                     // only the deadline ends it
    for (v1::GenerateResponse event; unread->reader->Read(&event);) rest.events.push_back(event);
    EXPECT_EQ(unread->reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
    EXPECT_NE(rest.Usage(), nullptr);
  }
}

// Go clients send this if there is no deadline at all; others exceed a nanosecond clock.
TEST_F(GrpcFlowTest, ADeadlineOfCenturiesIsOneLikeOthers) {
  // Any taken for no deadline ends at once.
  StartServer([](server::Config& config) { config.request_timeout_s = 0; });
  double ended = 0;
  for (const char* timeout : {"20000H", "2562048H", "8760000H", "99999999H"}) {
    for (const std::string method : {"Generate", "GenerateOnce"}) {
      server::RawClient client(server_->grpc_address());
      SendRaw(client, method, TextRequest("hello", 4), timeout);
      EXPECT_TRUE(Comes([&] { return Counted().calls > ended; })) << timeout;
      ++ended;
    }
    EXPECT_EQ(Counted("code=\"OK\"").calls, ended) << timeout;
  }
}

// Its text has not been read yet, and will be.
TEST_F(GrpcFlowTest, AClientThatGoesBeforeItsCallIsAcceptedIsNotForgotten) {
  StartServer([](server::Config& config) { config.text_threads = 1; });
  std::promise<void> held;
  HoldTextPool(held.get_future());
  grpc::ClientContext context;
  std::thread client([&] {
    v1::GenerateOnceResponse response;
    EXPECT_EQ(inference().GenerateOnce(&context, LargeRequest(), &response).error_code(),
              grpc::StatusCode::CANCELLED);
  });
  const auto moment = std::chrono::milliseconds(300);  // for the server to notice
  std::this_thread::sleep_for(moment);
  context.TryCancel();
  client.join();
  std::this_thread::sleep_for(moment);
  held.set_value();
  EXPECT_TRUE(Comes([&] { return server().idle(); }));
  const auto& finished = server().engine().stats().finished;
  EXPECT_EQ(finished[static_cast<size_t>(FinishReason::kLength)].value(), 0u);
}

// Whichever notices first: the engine, gRPC, or the client, which hangs up.
TEST_F(GrpcFlowTest, ACallThatItsClientsDeadlineEndsIsCountedSo) {
  StartServer();
  constexpr int kCalls = 12;
  std::vector<std::thread> clients;
  for (int i = 0; i < kCalls; ++i) {
    clients.emplace_back([this] {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(150));
      v1::GenerateOnceResponse response;
      EXPECT_EQ(inference().GenerateOnce(&context, LargeRequest(), &response).error_code(),
                grpc::StatusCode::DEADLINE_EXCEEDED);
    });
  }
  for (std::thread& client : clients) client.join();
  AwaitIdle();
  EXPECT_TRUE(Comes(
      [&] { return Counted("method=\"GenerateOnce\",code=\"DEADLINE_EXCEEDED\"").calls > 0; }));
  EXPECT_EQ(Counted("code=\"CANCELLED\"").calls, 0);
}

// increase() misses the first event of a series that appears with it.
TEST_F(GrpcFlowTest, TheUsualEndsAreCountedFromZero) {
  StartServer();
  const Counts fresh = Counted();
  EXPECT_EQ(fresh.calls, 0);
  v1::GenerateOnceResponse response;
  const auto once = [&](const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    (void)inference().GenerateOnce(&context, request, &response);
  };
  const auto both = [&](const v1::GenerateRequest& request) {
    (void)Stream(request);
    once(request);
  };
  both(TextRequest("hello", 2));
  v1::GenerateRequest request = TextRequest("hello", 300);
  request.mutable_sampling()->set_top_p(3);
  both(request);
  server().lifecycle().Drain(std::chrono::steady_clock::now());
  both(TextRequest("hello", 2));
  EXPECT_TRUE(Comes([&] { return Counted().calls == 6; }));
  EXPECT_EQ(Counted("reason=\"DRAINING\"").calls, 2);
  EXPECT_EQ(Counted().series, fresh.series);
}

TEST_F(GrpcFlowTest, ManyAtOnceAllAnswerTheSame) {
  StartServer();
  const Streamed alone = Stream(TextRequest("hello", 60));
  std::vector<std::thread> clients;
  std::vector<Streamed> got(24);
  for (Streamed& streamed : got) {
    clients.emplace_back([&] { streamed = Stream(TextRequest("hello", 60)); });
  }
  for (std::thread& client : clients) client.join();
  for (const Streamed& streamed : got) {
    EXPECT_TRUE(streamed.status.ok()) << streamed.status.error_message();
    EXPECT_EQ(streamed.Text(), alone.Text());
  }
  AwaitIdle();
}

}  // namespace
}  // namespace baram::testing
