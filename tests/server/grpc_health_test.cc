// grpc.health.v1: what watchers are told, and what hostile ones can't do.
#include "server/grpc_health.h"

#include <gmock/gmock.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/grpc_detail.h"
#include "tests/server/http2_frames.h"
#include "tests/server/http_client.h"
#include "tests/server/peak_memory.h"
#include "tests/server/server_fixture.h"

namespace baram::testing {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using ::testing::HasSubstr;

HealthCheckRequest About(const std::string& service) {
  HealthCheckRequest request;
  request.set_service(service);
  return request;
}

// With the largest message that a server accepts; most of it is a field that nobody knows.
HealthCheckRequest LargeRequest() {
  HealthCheckRequest request;
  request.GetReflection()->MutableUnknownFields(&request)->AddLengthDelimited(
      15, std::string((8 << 20) - 64, 'u'));
  return request;
}

// A watch and what it has been told.
class Watch {
 public:
  Watch(Health::Stub& stub, const HealthCheckRequest& request)
      : reader_(stub.Watch(&context_, request)) {}
  ~Watch() {
    context_.TryCancel();
    End();
  }

  // The next status, or -1 at the end.
  int Next() {
    HealthCheckResponse response;
    return reader_->Read(&response) ? response.status() : -1;
  }
  // What it ends with.
  const grpc::Status& End() {
    if (!ended_) {
      while (Next() != -1) {
      }
      status_ = reader_->Finish();
      ended_ = true;
    }
    return status_;
  }
  void Cancel() { context_.TryCancel(); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<HealthCheckResponse>> reader_;
  bool ended_ = false;
  grpc::Status status_;
};

// A connection to whose calls no message can be sent.
class NoReader {
 public:
  explicit NoReader(const std::string& address) : connection_(address) {
    Read(AcknowledgeSettings(connection_));
    connection_.Send(Frame(kSettingsFrame, 0, 0, BigEndian(4, 2) + BigEndian(0, 4)));
  }
  // With an empty request.
  void Call(const std::string& method, const std::string& metadata = "") {
    connection_.Send(PathHeaders(stream_, "/grpc.health.v1.Health/" + method, "", metadata) +
                     Frame(kDataFrame, kEndStream, stream_, MessagePrefix(0)));
    stream_ += 2;
  }
  // How many of its calls have been reset so far.
  uint32_t Resets() {
    std::string received;
    while (connection_.HasMore() && connection_.ReadSome(1 << 16, &received) > 0) {
    }
    Read(received);
    return resets_;
  }

 private:
  void Read(const std::string& received) {
    const auto* const bytes = reinterpret_cast<const uint8_t*>(received.data());
    frames_.Read({bytes, received.size()}, [&](const server::Http2Frames::Head& head) {
      resets_ += server::Http2Frames::Type(head) == server::Http2Frames::kRstStream;
      return true;
    });
  }

  server::RawClient connection_;
  server::Http2Frames frames_;  // received
  uint32_t stream_ = 1, resets_ = 0;
};

uint32_t Resets(const std::vector<std::unique_ptr<NoReader>>& clients) {
  uint32_t resets = 0;
  for (const auto& client : clients) resets += client->Resets();
  return resets;
}

class GrpcHealthTest : public ServerFixture {
 protected:
  void SetUp() override {
    StartServer([](server::Config& config) {
      config.max_streams = 4096;
      config.slow_reader_s = 1;
    });
    stub_ = Health::NewStub(NewChannel());
  }

  grpc::Status Check(const HealthCheckRequest& request, HealthCheckResponse* response) {
    grpc::ClientContext context;
    return stub_->Check(&context, request, response);
  }

  std::unique_ptr<Health::Stub> stub_;
};

// The payloads of the DATA frames in `frames`.
std::string Data(std::string frames) {
  std::string data;
  while (frames.size() >= 9) {
    size_t size = 0;
    for (int i = 0; i < 3; ++i) size = size << 8 | static_cast<unsigned char>(frames[i]);
    if (frames[3] == kDataFrame) data += frames.substr(9, size);
    frames.erase(0, 9 + size);
  }
  return data;
}

std::string Told(HealthCheckResponse::ServingStatus status) {
  HealthCheckResponse response;
  response.set_status(status);
  const std::string message = response.SerializeAsString();
  return MessagePrefix(message.size()) + message;
}

TEST_F(GrpcHealthTest, WatchersAreToldOnlyWhatChanges) {
  Watch ready(*stub_, About("readiness")), live(*stub_, About("liveness"));
  Watch started(*stub_, About("startup"));
  EXPECT_EQ(ready.Next(), HealthCheckResponse::SERVING);
  EXPECT_EQ(live.Next(), HealthCheckResponse::SERVING);
  EXPECT_EQ(started.Next(), HealthCheckResponse::SERVING);
  for (int i = 0; i < 3; ++i) server().grpc().SetHealth(true, true);
  server().grpc().SetHealth(false, true);
  EXPECT_EQ(ready.Next(), HealthCheckResponse::NOT_SERVING);
  server().grpc().SetHealth(false, false);
  EXPECT_EQ(live.Next(), HealthCheckResponse::NOT_SERVING);
  server().grpc().SetHealth(true, true);
  EXPECT_EQ(ready.Next(), HealthCheckResponse::SERVING);
  EXPECT_EQ(live.Next(), HealthCheckResponse::SERVING);
  server_->Stop(std::chrono::steady_clock::now());
  EXPECT_EQ(started.Next(), -1);
}

TEST_F(GrpcHealthTest, AnUnknownNameIsWatchedWithoutAnEnd) {
  Watch watch(*stub_, About("no.such.Service"));
  EXPECT_EQ(watch.Next(), HealthCheckResponse::SERVICE_UNKNOWN);
  server().grpc().SetHealth(false, true);
  Watch other(*stub_, About(""));
  EXPECT_EQ(other.Next(), HealthCheckResponse::NOT_SERVING);
  server_->Stop(std::chrono::steady_clock::now());
  EXPECT_EQ(watch.Next(), -1);
  EXPECT_EQ(watch.End().error_code(), grpc::StatusCode::UNAVAILABLE);
}

// A client that reads nothing for a while gets one message, however often its status has changed.
TEST_F(GrpcHealthTest, WhoReadsLateIsToldTheLatest) {
  server::RawClient client(server().grpc_address());
  client.Send(Preface() + Frame(kSettingsFrame, 0, 0, BigEndian(4, 2) + BigEndian(0, 4)) +
              PathHeaders(1, "/grpc.health.v1.Health/Watch") +
              Frame(kDataFrame, kEndStream, 1, MessagePrefix(0)));
  std::string received;
  while (received.find("application/grpc") == std::string::npos &&
         client.ReadSome(1 << 16, &received) > 0) {
  }
  for (int i = 0; i < 1000; ++i) server().grpc().SetHealth(i % 2 == 0, true);
  client.Send(Frame(kWindowFrame, 0, 1, BigEndian(1 << 16, 4)));
  const std::string first = Told(HealthCheckResponse::SERVING);
  const std::string second = Told(HealthCheckResponse::NOT_SERVING);
  const auto await = [&](size_t bytes) {
    while (Data(received).size() < bytes && client.ReadSome(1 << 16, &received) > 0) {
    }
  };
  await(first.size() + second.size());
  server().grpc().SetHealth(true, true);
  await(2 * first.size() + second.size());
  EXPECT_EQ(Data(received), first + second + first);
}

TEST_F(GrpcHealthTest, LargeRequestsAreRefusedUnread) {
  HealthCheckRequest request = About("liveness");
  request.GetReflection()->MutableUnknownFields(&request)->AddLengthDelimited(
      15, std::string(server::GrpcHealth::kMaxRequestBytes, 'u'));
  HealthCheckResponse response;
  const grpc::Status status = Check(request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("at most 1024"));
  EXPECT_EQ(Check(About("\xff"), &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Check(About(std::string(1000, 'n')), &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_TRUE(Check(About("liveness"), &response).ok());
}

// Past its memory limit gRPC would end calls of any client.
TEST_F(GrpcHealthTest, LargeWatchesHoldNothingAndCostNoOtherCall) {
  v1::GenerateRequest innocent = TextRequest("hello", 400);
  innocent.mutable_stopping()->set_ignore_eos(true);
  grpc::ClientContext context;
  const auto stream = inference().Generate(&context, innocent);
  v1::GenerateResponse event;
  ASSERT_TRUE(stream->Read(&event));
  const HealthCheckRequest request = LargeRequest();
  std::vector<std::unique_ptr<Watch>> watches;
  ASSERT_TRUE(ForgetPeak());
  const int64_t before = LiveBytes(), peak = PeakBytes();
  for (int i = 0; i < 64; ++i) {
    watches.push_back(std::make_unique<Watch>(*stub_, request));
    EXPECT_EQ(watches.back()->Next(), -1);
    EXPECT_EQ(watches.back()->End().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_THAT(watches.back()->End().error_message(), HasSubstr("at most 1024"));
  }
  // The connection keeps buffers, at both ends; each request took 8 MiB there on its way.
  EXPECT_LT(LiveBytes() - before, 32 << 20);
  EXPECT_LT(PeakBytes() - peak, 128 << 20);
  while (stream->Read(&event)) {
  }
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(GrpcHealthTest, WatchesOfAllConnectionsAreBounded) {
  const auto other = Health::NewStub(NewChannel());
  std::vector<std::unique_ptr<Watch>> watches;
  for (size_t i = 0; i < server::GrpcHealth::kLeastWatches; ++i) {
    watches.push_back(std::make_unique<Watch>(i % 2 == 0 ? *stub_ : *other, About("")));
    ASSERT_EQ(watches.back()->Next(), HealthCheckResponse::SERVING) << i;
  }
  {
    Watch further(*stub_, About(""));
    EXPECT_EQ(further.Next(), -1);
    EXPECT_EQ(further.End().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_THAT(further.End().error_message(), HasSubstr("1024 health watches"));
    EXPECT_EQ(Reason(further.End()), "TOO_MANY_WATCHES");
  }
  // Who has fewer than others still finds room.
  const auto fewer = Health::NewStub(NewChannel());
  Watch fair(*fewer, About("")), second(*fewer, About("readiness"));
  EXPECT_EQ(fair.Next(), HealthCheckResponse::SERVING);
  EXPECT_EQ(second.Next(), HealthCheckResponse::SERVING);
  HealthCheckResponse response;
  EXPECT_TRUE(Check(About(""), &response).ok());
  EXPECT_TRUE(Stream(TextRequest("hello", 4)).status.ok());
  watches.front()->Cancel();
  EXPECT_TRUE(Comes([&] { return Watch(*stub_, About("")).Next() != -1; }));
  for (const auto& watch : watches) watch->Cancel();
}

// Not even their status can be sent to them.
TEST_F(GrpcHealthTest, WatchesThatAreNotReadMakeRoomToo) {
  constexpr uint32_t kClients = 4, kWatches = server::GrpcHealth::kLeastWatches / kClients;
  std::vector<std::unique_ptr<NoReader>> clients;
  for (uint32_t i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<NoReader>(server().grpc_address()));
    for (uint32_t call = 0; call < kWatches; ++call) clients.back()->Call("Watch");
  }
  // Whenever the last of theirs come, each of these is beyond the limit from then on.
  std::vector<std::unique_ptr<Watch>> fair;
  EXPECT_TRUE(Comes([&] {
    fair.push_back(std::make_unique<Watch>(*stub_, About("")));
    EXPECT_EQ(fair.back()->Next(), HealthCheckResponse::SERVING);
    return Resets(clients) > 3;
  }));
  HealthCheckResponse response;
  EXPECT_TRUE(Check(About(""), &response).ok());
}

// No window admits their messages. Those that have waited longest are cut off.
TEST_F(GrpcHealthTest, ChecksThatAreNotReadAreBounded) {
  StartServer([](server::Config& config) { config.slow_reader_s = 600; });
  constexpr uint32_t kClients = 5, kCalls = 250, kMost = 1024;
  const std::string much(15 << 10, 'm');
  std::vector<std::unique_ptr<NoReader>> clients;
  for (uint32_t i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<NoReader>(server().grpc_address()));
    for (uint32_t call = 0; call < kCalls; ++call) clients.back()->Call("Check", much);
  }
  EXPECT_TRUE(Comes([&] { return Resets(clients) >= kClients * kCalls - kMost; }))
      << Resets(clients);
  EXPECT_TRUE(Stream(TextRequest("hello", 4)).status.ok());
}

// Its message fits into no window.
TEST_F(GrpcHealthTest, AnAnswerThatIsNotReadEndsItsCall) {
  server::RawClient client(server().grpc_address());
  client.Send(Preface() + Frame(kSettingsFrame, 0, 0, BigEndian(4, 2) + BigEndian(0, 4)) +
              PathHeaders(1, "/grpc.health.v1.Health/Check") +
              Frame(kDataFrame, kEndStream, 1, MessagePrefix(0)));
  const std::string reset = BigEndian(4, 3) + kResetFrame + '\0' + BigEndian(1, 4);
  std::string received;
  while (received.find(reset) == std::string::npos && client.ReadSome(1 << 16, &received) > 0) {
  }
  EXPECT_THAT(received, HasSubstr(reset));
}

TEST_F(GrpcHealthTest, TheServersStopEndsWatchesWithASentence) {
  Watch watch(*stub_, About(""));
  EXPECT_EQ(watch.Next(), HealthCheckResponse::SERVING);
  std::thread stopping([&] { server_->Stop(std::chrono::steady_clock::now()); });
  EXPECT_EQ(watch.Next(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(watch.Next(), -1);
  EXPECT_EQ(watch.End().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(watch.End().error_message(), HasSubstr("going down"));
  stopping.join();
}

}  // namespace
}  // namespace baram::testing
