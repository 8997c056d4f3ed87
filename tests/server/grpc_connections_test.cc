// The bound on gRPC's connections, and that none is counted after its end.
#include <dirent.h>
#include <gmock/gmock.h>
#include <netdb.h>
#include <netinet/in.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/server/http_client.h"
#include "tests/server/server_fixture.h"

namespace baram::testing {
namespace {

using server::RawClient;
using ::testing::HasSubstr;

class GrpcConnectionsTest : public ServerFixture {
 protected:
  static constexpr int kLimit = 3;
  void SetUp() override {
    StartServer([](server::Config& config) { config.max_connections = kLimit; });
  }
  std::unique_ptr<RawClient> Connect() {
    return std::make_unique<RawClient>(server_->grpc_address());
  }
  // Waits, without a limit of its own, until so many are open.
  void AwaitConnections(int64_t count) {
    while (server().grpc().connections() != count) std::this_thread::yield();
  }
  static int OpenDescriptors() {
    int count = 0;
    DIR* const directory = opendir("/proc/self/fd");
    while (readdir(directory) != nullptr) ++count;
    closedir(directory);
    return count;
  }
};

TEST_F(GrpcConnectionsTest, NeverMoreThanTheLimit) {
  std::vector<std::unique_ptr<RawClient>> held;
  for (int i = 0; i < kLimit; ++i) held.push_back(Connect());
  AwaitConnections(kLimit);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Connect()->ReadToEnd(), "");
  EXPECT_EQ(server().grpc().connections(), kLimit);
  EXPECT_EQ(Stream(TextRequest("hello", 2)).status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(server().metrics().Text(), HasSubstr("reason=\"TOO_MANY_CONNECTIONS\""));
  // One that ends makes room.
  held.pop_back();
  AwaitConnections(kLimit - 1);
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  EXPECT_TRUE(Stream(TextRequest("hello", 2), context).status.ok());
  EXPECT_EQ(server().grpc().connections(), kLimit);
}

// gRPC closes what does not speak HTTP/2: the client sees it, and so does the count.
TEST_F(GrpcConnectionsTest, WhatGrpcClosesIsClosed) {
  const auto client = Connect();
  client->Send(std::string(4096, '?'));
  client->ReadToEnd();
  AwaitConnections(0);
  EXPECT_TRUE(Stream(TextRequest("hello", 2)).status.ok());
}

TEST_F(GrpcConnectionsTest, ConnectionsThatComeAndGoLeaveNothing) {
  EXPECT_TRUE(Stream(TextRequest("hello", 2)).status.ok());
  AwaitConnections(1);
  const int before = OpenDescriptors();
  for (int i = 0; i < 2000; ++i) {
    const auto client = Connect();
    if (i % 3 == 1) client->Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    if (i % 3 == 2) client->Reset();
  }
  AwaitConnections(1);
  // gRPC closes its own of the last ones a moment later.
  while (OpenDescriptors() > before) std::this_thread::yield();
  EXPECT_TRUE(Stream(TextRequest("hello", 2)).status.ok());
}

TEST_F(GrpcConnectionsTest, AStoppedServerTakesNone) {
  const auto open = Connect();
  AwaitConnections(1);
  server().Stop(std::chrono::steady_clock::now());
  open->ReadToEnd();
  AwaitConnections(0);
  EXPECT_FALSE(Connect()->Send("x"));
}

TEST_F(GrpcConnectionsTest, AnAddressThatComesTwiceIsBoundOnce) {
  sockaddr_in loopback{};
  loopback.sin_family = AF_INET;
  loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  addrinfo first{};
  first.ai_family = AF_INET;
  first.ai_addr = reinterpret_cast<sockaddr*>(&loopback);
  first.ai_addrlen = sizeof(loopback);
  addrinfo second = first;
  first.ai_next = &second;
  const auto acceptor = server::GrpcAcceptor::Bind(&first, 0);
  EXPECT_TRUE(acceptor.ok()) << acceptor.status();
}

// Of a name with several addresses one in use is told before the model, which there is none of.
TEST_F(GrpcConnectionsTest, EachOfItsAddressesIsCheckedBeforeLoading) {
  server::Config config = TestConfig();
  config.model = "/none";
  config.grpc_listen =
      "localhost" + server_->grpc_address().substr(server_->grpc_address().rfind(':'));
  const auto started = server::Server::Start(config);
  ASSERT_FALSE(started.ok());
  EXPECT_THAT(std::string(started.status().message()), HasSubstr("gRPC can't listen on localhost"));
}

}  // namespace
}  // namespace baram::testing
