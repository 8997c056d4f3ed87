// A server that drains and stops: what its clients are told, and which of them it waits for, how
// long.
#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/grpc_detail.h"
#include "tests/server/http2_frames.h"
#include "tests/server/http_client.h"
#include "tests/server/stalled_streams.h"

namespace baram::testing {
namespace {

class GrpcDrainTest : public StalledStreams {
 protected:
  // Retries calls of which the server can have seen nothing, such as one started while GOAWAY
  // arrives. All clients do so; here some tests turn it off.
  std::shared_ptr<grpc::Channel> RetryingChannel() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(server_->grpc_address(), grpc::InsecureChannelCredentials(),
                                     arguments);
  }
};

TEST_F(GrpcDrainTest, DrainLetsAcceptedStreamsFinishAndRefusesNewOnes) {
  StartSmallStreams(600);
  const auto channel = RetryingChannel();
  const auto health = grpc::health::v1::Health::NewStub(channel);
  const auto operation = v1::Operator::NewStub(channel);
  const auto serving = [&] {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckResponse response;
    EXPECT_TRUE(health->Check(&context, {}, &response).ok());
    return response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
  };
  EXPECT_TRUE(serving());
  const auto unread = StartUnread(LargeRequest());
  AwaitPaused();

  v1::DrainRequest drain;
  drain.set_limit_s(600);
  v1::DrainResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(operation->Drain(&context, drain, &response).ok());
  EXPECT_EQ(response.unfinished(), 1u);  // one request, with 8 outputs, all paused
  grpc::ClientContext load_context;
  v1::GetLoadResponse load;
  EXPECT_TRUE(operation->GetLoad(&load_context, {}, &load).ok());
  EXPECT_TRUE(load.draining());
  EXPECT_FALSE(serving());
  EXPECT_FALSE(server().lifecycle().ready());
  EXPECT_TRUE(server().lifecycle().live());
  // As if the drain had come before the last listener was open.
  server().lifecycle().SetReady();
  EXPECT_FALSE(serving());
  EXPECT_FALSE(server().lifecycle().ready());

  grpc::ClientContext refused_context;
  v1::GenerateOnceResponse once;
  const grpc::Status refused = v1::Inference::NewStub(channel)->GenerateOnce(
      &refused_context, TextRequest("hello", 2), &once);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Reason(refused), "DRAINING");
  EXPECT_TRUE(Detail<google::rpc::RetryInfo>(refused).has_value());
  EXPECT_EQ(refused_context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1u);

  Streamed rest;
  for (v1::GenerateResponse event; unread->reader->Read(&event);) rest.events.push_back(event);
  EXPECT_TRUE(unread->reader->Finish().ok());
  EXPECT_EQ(rest.Usage()->completion_tokens(), 8u * 400u);
}

// Behind a load balancer a client that keeps its connection would never reach another server.
TEST_F(GrpcDrainTest, DrainSendsClientsToAnotherConnection) {
  StartSmallStreams(600);
  const auto unread = StartUnread(LargeRequest());
  AwaitPaused();
  const auto channel = RetryingChannel();
  const auto health = grpc::health::v1::Health::NewStub(channel);
  const auto is_serving = [&] {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckResponse response;
    EXPECT_TRUE(health->Check(&context, {}, &response).ok());
    return response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
  };
  EXPECT_TRUE(is_serving());
  EXPECT_EQ(channel->GetState(false), GRPC_CHANNEL_READY);
  grpc::ClientContext watching;
  const auto watch = grpc::health::v1::Health::NewStub(NewChannel())->Watch(&watching, {});
  grpc::health::v1::HealthCheckResponse watched;
  ASSERT_TRUE(watch->Read(&watched));
  EXPECT_EQ(watched.status(), grpc::health::v1::HealthCheckResponse::SERVING);

  {
    grpc::ClientContext context;  // it holds the connection
    v1::DrainResponse response;
    ASSERT_TRUE(operation().Drain(&context, {}, &response).ok());
  }
  EXPECT_TRUE(Comes([&] { return channel->GetState(false) == GRPC_CHANNEL_IDLE; }));
  EXPECT_TRUE(Comes([&] { return server().grpc().connections() == 2; })) << "stream and watch";
  ASSERT_TRUE(watch->Read(&watched));
  EXPECT_EQ(watched.status(), grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  // Clients that come nonetheless are told why they are refused, and are sent away with that.
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(is_serving());
    grpc::ClientContext refused;
    v1::GenerateOnceResponse once;
    EXPECT_EQ(v1::Inference::NewStub(channel)
                  ->GenerateOnce(&refused, TextRequest("hello", 2), &once)
                  .error_code(),
              grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(refused.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1u);
  }
  server::RawClient late(server().grpc_address());
  late.Send(Preface() + PathHeaders(1, "/grpc.health.v1.Health/Check") +
            Frame(kDataFrame, kEndStream, 1, MessagePrefix(0)));
  const std::string go_away = BigEndian(8, 3) + "\x07";  // its length and type
  std::string received;
  while (received.find(go_away) == std::string::npos && late.ReadSome(1 << 16, &received) > 0) {
  }
  EXPECT_NE(received.find(go_away), std::string::npos);

  Streamed rest;
  for (v1::GenerateResponse event; unread->reader->Read(&event);) rest.events.push_back(event);
  EXPECT_TRUE(unread->reader->Finish().ok());
  EXPECT_EQ(rest.Usage()->completion_tokens(), 8u * 400u);
}

TEST_F(GrpcDrainTest, StopEndsWhatTheLimitCutsOff) {
  StartSmallStreams(600);
  const auto unread = StartUnread(LargeRequest());
  AwaitPaused();
  std::thread reader([&] {
    Streamed rest;
    for (v1::GenerateResponse event; unread->reader->Read(&event);) {
      // The first events were available before the stop; continue only once the drain limit has
      // passed.
      if (rest.events.empty()) {
        while (!server().engine().idle()) std::this_thread::yield();
      }
      rest.events.push_back(event);
    }
    EXPECT_EQ(unread->reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_NE(rest.Usage(), nullptr);
  });
  server().Stop(std::chrono::steady_clock::now());
  reader.join();
}

// One on each listener: waiting for them one after the other would overrun the drain limit.
TEST_F(GrpcDrainTest, WhoReadsNothingHoldsUpTheEndOnce) {
  StartSmallStreams(600);
  const auto unread = StartUnread(LargeRequest());
  server::RawClient http(server_->http_address(), /*receive_buffer_bytes=*/4096);
  http.Send(server::RawRequest(
      "POST", "/v1/completions",
      R"({"prompt": "hello", "max_tokens": 400, "n": 8, "logprobs": 5, "temperature": 0, "stream": true})",
      "Content-Type: application/json\r\n"));
  EXPECT_TRUE(Comes([&] { return Load().paused() == 16; }));
  const auto begin = std::chrono::steady_clock::now();
  server_->Stop(begin);
  server_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

// What grpc.health.v1 reports for `service`.
bool Serving(const std::shared_ptr<grpc::Channel>& channel, const char* service) {
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  grpc::health::v1::HealthCheckResponse response;
  const auto health = grpc::health::v1::Health::NewStub(channel);
  EXPECT_TRUE(health->Check(&context, request, &response).ok());
  return response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
}

// Nothing calls the server when its engine hangs or recovers: it must poll.
TEST_F(GrpcDrainTest, HealthIsWhatTheLifecycleTells) {
  StartServer();
  const auto channel = NewChannel();
  constexpr const char* kReadiness[] = {"", "readiness", "baram.v1.Inference"};
  server().grpc().SetHealth(false, false);
  for (const char* service : kReadiness) EXPECT_FALSE(Serving(channel, service)) << service;
  EXPECT_FALSE(Serving(channel, "liveness"));
  EXPECT_TRUE(Serving(channel, "startup"));
  server().lifecycle().NotifyWatcher();
  for (const char* service : kReadiness) EXPECT_TRUE(Serving(channel, service)) << service;
  EXPECT_TRUE(Serving(channel, "liveness"));
  server().lifecycle().StopAdvertising();
  for (const char* service : kReadiness) EXPECT_FALSE(Serving(channel, service)) << service;
  EXPECT_TRUE(Serving(channel, "liveness"));
}

// Liveness is reported while calls end, and reporting it afterwards is harmless.
TEST_F(GrpcDrainTest, LivenessIsToldWhileTheServerStops) {
  StartSmallStreams(600);
  const auto unread = StartUnread(LargeRequest());
  AwaitPaused();
  const auto channel = RetryingChannel();
  EXPECT_TRUE(Serving(channel, "liveness"));
  std::atomic<bool> stopped{false};
  std::thread stopping([&] {
    server().Stop(std::chrono::steady_clock::now() + std::chrono::hours(1));
    stopped = true;
  });
  EXPECT_TRUE(Comes([&] { return server().lifecycle().draining(); }));
  server().grpc().SetHealth(false, false);
  EXPECT_FALSE(Serving(channel, "liveness"));
  server().lifecycle().NotifyWatcher();
  EXPECT_TRUE(Serving(channel, "liveness"));
  unread->context.TryCancel();
  while (!stopped) server().lifecycle().NotifyWatcher();
  stopping.join();
}

// A watch of the health service ends with the server.
TEST_F(GrpcDrainTest, AForeignStreamDoesNotHoldTheStop) {
  StartServer();
  const auto health = grpc::health::v1::Health::NewStub(NewChannel());
  grpc::ClientContext context;
  const auto watch = health->Watch(&context, {});
  grpc::health::v1::HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  std::atomic<bool> stopped{false};
  std::thread stopping([&] {
    server().Stop(std::chrono::steady_clock::now() + std::chrono::hours(1));
    stopped = true;
  });
  EXPECT_TRUE(Comes([&] { return stopped.load(); }));
  context.TryCancel();
  stopping.join();
  while (watch->Read(&response)) {
  }
  EXPECT_FALSE(watch->Finish().ok());
}

}  // namespace
}  // namespace baram::testing
