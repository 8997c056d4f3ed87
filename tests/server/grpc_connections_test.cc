// The limit on gRPC's connections, and that none is counted after its end.
#include <gmock/gmock.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "server/errors.h"
#include "tests/server/few_descriptors.h"
#include "tests/server/http2_frames.h"
#include "tests/server/http_client.h"
#include "tests/server/server_fixture.h"

namespace baram::testing {
namespace {

using server::RawClient;
using ::testing::HasSubstr;

class GrpcConnectionsTest : public ServerFixture {
 protected:
  static constexpr int kLimit = 3;
  static constexpr server::Http2Limits kLimits = {
      .max_header_bytes = 16 << 10, .max_streams = 256, .max_half_sent_bytes = 1 << 20};
  void SetUp() override {
    StartServer([](server::Config& config) { config.max_connections = kLimit; });
  }
  std::unique_ptr<RawClient> Connect() {
    return std::make_unique<RawClient>(server_->grpc_address());
  }
  void AwaitConnections(int64_t count) {
    Comes([&] { return server().grpc().connections() == count; });
    EXPECT_EQ(server().grpc().connections(), count);
  }
  // The kernel's view of the only connection, on the server's side.
  struct Socket {
    bool client_ended = false;
    unsigned long unread = 0;  // bytes
  };
  Socket ServerSide() const {
    const std::string& address = server_->grpc_address();
    const int port = std::stoi(address.substr(address.rfind(':') + 1));
    std::ifstream table("/proc/net/tcp");
    std::string line, word, local, remote, state, queues;
    std::getline(table, line);
    while (std::getline(table, line)) {  // "0: 0100007F:C383 0100007F:9C40 08 00000000:00000000"
      std::istringstream(line) >> word >> local >> remote >> state >> queues;
      const bool open = state == "01" || state == "08";  // ESTABLISHED, CLOSE_WAIT
      if (!open || std::stoi(local.substr(local.find(':') + 1), nullptr, 16) != port) continue;
      return {state == "08", std::stoul(queues.substr(queues.find(':') + 1), nullptr, 16)};
    }
    return {};
  }
  struct Descriptors {
    int sockets = 0, others = 0;
  };
  static Descriptors OpenDescriptors() {
    Descriptors open;
    std::error_code gone;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", gone)) {
      const std::string what = std::filesystem::read_symlink(entry.path(), gone);
      ++(what.starts_with("socket:") ? open.sockets : open.others);
    }
    return open;
  }
};

TEST_F(GrpcConnectionsTest, NeverMoreThanTheLimit) {
  std::vector<std::unique_ptr<RawClient>> held;
  for (int i = 0; i < kLimit; ++i) {
    held.push_back(Connect());
    held.back()->Send(Preface() + PathHeaders(1, "/grpc.health.v1.Health/Watch") +
                      Frame(kDataFrame, kEndStream, 1, MessagePrefix(0)));
    std::string received;
    while (received.find("application/grpc") == std::string::npos &&
           held.back()->ReadSome(1 << 16, &received) > 0) {
    }
  }
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
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  EXPECT_TRUE(Stream(TextRequest("hello", 2), context).status.ok());
  EXPECT_EQ(server().grpc().connections(), kLimit);
}

TEST_F(GrpcConnectionsTest, TheOldestWithoutACallMakesRoom) {
  std::vector<std::unique_ptr<RawClient>> silent;
  for (int i = 0; i < kLimit; ++i) {
    silent.push_back(Connect());
    AwaitConnections(i + 1);
  }
  EXPECT_TRUE(Stream(TextRequest("hello", 2)).status.ok());
  EXPECT_EQ(server().grpc().connections(), kLimit);
  silent[0]->ReadToEnd();
  EXPECT_TRUE(Comes([&] {
    return server().metrics().Text().find("reason=\"TOO_MANY_CONNECTIONS\"} 1\n") !=
           std::string::npos;
  }));
  const auto open = [](RawClient& client) {
    client.Send(Preface() + Frame(kPingFrame, 0, 0, BigEndian(5, 8)));
    std::string received;
    while (received.find(BigEndian(5, 8)) == std::string::npos) {
      if (client.ReadSome(1 << 16, &received) == 0) return false;
    }
    return true;
  };
  EXPECT_TRUE(open(*silent[1]));
  EXPECT_TRUE(open(*silent[2]));
}

// gRPC closes connections that do not speak HTTP/2: the client sees that, and so does the count.
TEST_F(GrpcConnectionsTest, WhatGrpcClosesIsClosed) {
  const auto client = Connect();
  client->Send(std::string(4096, '?'));
  client->ReadToEnd();
  AwaitConnections(0);
  EXPECT_TRUE(Stream(TextRequest("hello", 2)).status.ok());
}

// A client that shuts down its side but leaves data unread still holds the connection. Once answers
// fill the buffers, gRPC can't acknowledge settings, and past 10,000 of them it stops reading.
TEST_F(GrpcConnectionsTest, HalfAConnectionCounts) {
  constexpr uint64_t kWindow = 1 << 30;
  constexpr uint32_t kCalls = 200;  // each with an answer of 40 KB
  v1::TokenizeRequest request;
  request.set_text(std::string(15'000, 'a'));
  const std::string message = request.SerializeAsString();
  std::string calls = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" +
                      Frame(kSettingsFrame, 0, 0, BigEndian(4, 2) + BigEndian(kWindow, 4)) +
                      Frame(kWindowFrame, 0, 0, BigEndian(kWindow, 4));
  for (uint32_t stream = 1; stream < 2 * kCalls; stream += 2) {
    calls += CallHeaders(stream, "Tokenize") +
             Frame(kDataFrame, kEndStream, stream, MessagePrefix(message.size()) + message);
  }
  const auto is_stuck = [&] {
    for (int look = 0; look < 300; ++look) {
      if (ServerSide().unread == 0) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  };
  // On a busy machine gRPC may merely have been slow, and then ends the connection.
  for (int attempt = 0; attempt < 3; ++attempt) {
    RawClient client(server_->grpc_address(), /*receive_buffer_bytes=*/4096);
    client.Send(calls);
    for (int sent = 0; sent < 30 && !is_stuck(); ++sent) {
      // Not more than is allowed: a burst once the answers are there, then 600 in each pause.
      std::this_thread::sleep_for(std::chrono::milliseconds(sent == 0 ? 1000 : 300));
      std::string settings;
      for (int i = sent == 0 ? -8500 : 0; i < 500; ++i) settings += Frame(kSettingsFrame, 0, 0, "");
      client.Send(settings);
    }
    client.ShutdownSend();
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    if (ServerSide().client_ended) {
      EXPECT_EQ(server().grpc().connections(), 1);
      client.ReadToEnd();
      AwaitConnections(0);
      return;
    }
    client.Reset();
    AwaitConnections(0);
  }
  FAIL() << "no buffer is ever full";
}

TEST_F(GrpcConnectionsTest, ConnectionsThatComeAndGoLeaveNothing) {
  EXPECT_TRUE(Stream(TextRequest("hello", 2)).status.ok());
  AwaitConnections(1);
  const Descriptors before = OpenDescriptors();
  for (int i = 0; i < 2000; ++i) {
    const auto client = Connect();
    if (i % 3 == 1) client->Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    if (i % 3 == 2) client->Reset();
  }
  AwaitConnections(1);
  // gRPC closes its own descriptors of the last ones a moment later.
  EXPECT_TRUE(Comes([&] { return OpenDescriptors().sockets <= before.sockets; }));
  // Its threads keep some descriptors to wake each other, depending on how many were awake at once.
  constexpr int kOfThreads = 16;
  EXPECT_LE(OpenDescriptors().others, before.others + kOfThreads);
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

// A connection costs two descriptors; with one left it is refused, with its own reason, and with
// none it waits, with the same reason.
TEST_F(GrpcConnectionsTest, WithoutDescriptorsItRefuses) {
  for (const int left : {1, 0}) {
    auto sockets = server::ListeningSockets::Bind("127.0.0.1:0");
    ASSERT_TRUE(sockets.ok()) << sockets.status();
    const uint16_t port = sockets->port();
    server::GrpcAcceptor acceptor(*std::move(sockets));
    std::atomic<const char*> why{nullptr};
    ASSERT_TRUE(
        acceptor.Start(left * kLimit, 1, kLimits, [&](const char* told) { why = told; }).ok());
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int client = socket(AF_INET, SOCK_STREAM, 0);
    auto few = std::make_unique<server::FewDescriptors>(left);
    EXPECT_EQ(connect(client, reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
    EXPECT_TRUE(Comes([&] { return why.load() != nullptr; }));
    const char* const reason = why;
    char byte;
    if (left > 0) {
      EXPECT_LE(recv(client, &byte, 1, 0), 0) << "it was closed";
    }
    few.reset();
    close(client);
    ASSERT_NE(reason, nullptr);
    EXPECT_STREQ(reason, server::kNoDescriptors);
    EXPECT_EQ(acceptor.connections(), 0);
  }
}

// A listener that can't be watched would accept connections and never answer: epoll has it already.
TEST_F(GrpcConnectionsTest, AListenerThatCantBeWatchedIsAnError) {
  auto sockets = server::ListeningSockets::Bind("127.0.0.1:0");
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  server::GrpcAcceptor acceptor(*std::move(sockets));
  ASSERT_TRUE(acceptor.Start(kLimit, 1, kLimits, [](const char*) {}).ok());
  EXPECT_FALSE(acceptor.Start(kLimit, 1, kLimits, [](const char*) {}).ok());
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
  const auto bound = server::ListeningSockets::Bind(&first, 0);
  ASSERT_TRUE(bound.ok()) << bound.status();
  EXPECT_EQ(bound->sockets().size(), 1u);
}

// For a name with several addresses, one in use is reported before the model, which does not exist.
TEST_F(GrpcConnectionsTest, EachOfItsAddressesIsCheckedBeforeLoading) {
  server::Config config = TestConfig();
  config.model = "/none";
  config.grpc_listen =
      "localhost" + server_->grpc_address().substr(server_->grpc_address().rfind(':'));
  const auto started = server::Server::Start(config);
  ASSERT_FALSE(started.ok());
  EXPECT_THAT(std::string(started.status().message()),
              HasSubstr("--grpc-listen: can't listen on localhost"));
}

}  // namespace
}  // namespace baram::testing
