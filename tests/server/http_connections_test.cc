// How many connections the HTTP listener holds: which of them make room, and whom they keep out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/errors.h"
#include "tests/server/few_descriptors.h"
#include "tests/server/http_bed.h"

namespace baram::server {
namespace {

using HttpConnectionsTest = HttpBed;

TEST_F(HttpConnectionsTest, RefusesConnectionsAboveTheLimit) {
  Listen({.max_connections = 3});
  std::vector<std::unique_ptr<RawClient>> clients;
  std::vector<Exchange> held;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->address()));
    clients.back()->Send(RawRequest("POST", "/hold"));
    held.push_back(held_.Take());
  }
  {
    RawClient fourth(server_->address());
    const RawResponse response = fourth.Read();
    EXPECT_EQ(response.status, 503);
    EXPECT_EQ(response.headers.at("retry-after"), "1");
    EXPECT_EQ(fourth.ReadToEnd(), "");
  }
  for (int i = 0; i < 3; ++i) {
    held[i]->Respond(200, {}, "y");
    EXPECT_EQ(clients[i]->Read().body, "y");
  }
}

// Of those the one that has waited longest, and none whose request is whole.
TEST_F(HttpConnectionsTest, ConnectionsWithoutARequestMakeRoom) {
  Listen({.max_connections = 3});
  RawClient called(server_->address());
  called.Send(RawRequest("POST", "/hold"));
  const Exchange exchange = held_.Take();
  RawClient oldest(server_->address()), second(server_->address());
  for (RawClient* client : {&second, &oldest, &second}) {
    client->Send(RawRequest("POST", "/echo", "x"));
    EXPECT_EQ(client->Read().body, "x");
    // It waits for the next request soon after its answer has come.
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  RawClient fourth(server_->address());
  EXPECT_EQ(oldest.ReadToEnd(), "");
  second.Send(RawRequest("POST", "/echo", "y"));
  EXPECT_EQ(second.Read().body, "y");
  fourth.Send(RawRequest("POST", "/echo", "y"));
  EXPECT_EQ(fourth.Read().body, "y");
  exchange->Respond(200, {}, "z");
  EXPECT_EQ(called.Read().body, "z");
}

// Those that made room count no more.
TEST_F(HttpConnectionsTest, TheLimitHoldsAfterSomeMadeRoom) {
  Listen({.max_connections = 2});
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->address()));
    clients.back()->Send(RawRequest("POST", "/echo", "x"));
    ASSERT_EQ(clients.back()->Read().body, "x");
    // It waits for the next request soon after its answer has come.
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  for (int i = 0; i < 6; ++i) EXPECT_EQ(clients[i]->ReadToEnd(), "");
  std::vector<Exchange> held;
  for (int i = 6; i < 8; ++i) {
    clients[i]->Send(RawRequest("POST", "/hold"));
    held.push_back(held_.Take());
  }
  EXPECT_EQ(Ask(RawRequest("POST", "/echo", "y")).status, 503);
}

// One that sends a body goes only if none waits for a request's head.
TEST_F(HttpConnectionsTest, HalfSentBodiesMakeRoomLast) {
  Listen({.max_connections = 2});
  RawClient sending(server_->address());
  sending.Send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx");
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  RawClient silent(server_->address());
  RawClient third(server_->address());
  third.Send(RawRequest("POST", "/echo", "z"));
  EXPECT_EQ(third.Read().body, "z");
  EXPECT_EQ(silent.ReadToEnd(), "");
  sending.Send("y");
  EXPECT_EQ(sending.Read().body, "xy");
}

// Busy connections do not keep new ones in the kernel's queue, however many come at once.
TEST_F(HttpConnectionsTest, NewConnectionsAreAcceptedBesideBusyOnes) {
  std::atomic<int> turns{0};
  const HttpRoute slow{"GET", "/slow", [&turns](Exchange exchange) {
                         ++turns;
                         std::this_thread::sleep_for(std::chrono::milliseconds(2));
                         exchange->Respond(200, {}, "slow");
                       }};
  auto sockets = ListeningSockets::Bind("127.0.0.1:0");
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  auto server = HttpServer::Listen(
      *std::move(sockets), {.routes = {slow},
                            .error_body = [](const HttpError& error) { return error.message; },
                            .threads = 1});
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string request = RawRequest("GET", "/slow");
  std::vector<std::unique_ptr<RawClient>> busy, silent;
  for (int i = 0; i < 20; ++i) {
    busy.push_back(std::make_unique<RawClient>((*server)->address()));
    std::string many;
    for (int j = 0; j < 100; ++j) many += request;
    busy.back()->Send(many);
  }
  for (const auto& client : busy) EXPECT_EQ(client->Read().body, "slow");
  const int before = turns;
  for (int i = 0; i < 60; ++i) {
    silent.push_back(std::make_unique<RawClient>((*server)->address()));
  }
  RawClient asking((*server)->address());
  asking.Send(request);
  EXPECT_EQ(asking.Read().body, "slow");
  EXPECT_LT(turns - before, 20 * 5) << "not a turn of all the busy ones for each new one";
}

// Those who say nothing, or not all of a request, keep nobody out.
TEST_F(HttpConnectionsTest, SilentConnectionsKeepNobodyOut) {
  Listen({.max_connections = 4, .max_refused = 2});
  for (const std::string start : {"", "G", "\r\n", "GET /echo HTTP/1.1\r\nHost: a\r\n",
                                  "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx"}) {
    std::vector<std::unique_ptr<RawClient>> silent;
    for (int i = 0; i < 50; ++i) {
      silent.push_back(std::make_unique<RawClient>(server_->address()));
      silent.back()->Send(start);
    }
    EXPECT_EQ(Ask(RawRequest("POST", "/echo", "x")).body, "x") << start;
  }
}

TEST_F(HttpConnectionsTest, AFloodOfConnectionsDisturbsNobody) {
  Listen({.max_connections = 50});
  std::vector<std::unique_ptr<RawClient>> served, flood;
  std::vector<Exchange> held;
  for (int i = 0; i < 50; ++i) {
    served.push_back(std::make_unique<RawClient>(server_->address()));
    served.back()->Send(RawRequest("POST", "/hold"));
    held.push_back(held_.Take());
  }
  for (int i = 0; i < 400; ++i) flood.push_back(std::make_unique<RawClient>(server_->address()));
  // Of the flood some get the reason, and the rest are closed without a reply.
  for (const auto& client : flood) EXPECT_THAT(client->Read().status, testing::AnyOf(503, 0));
  for (int i = 0; i < 50; ++i) {
    held[i]->Respond(200, {}, "y");
    EXPECT_EQ(served[i]->Read().body, "y");
  }
  EXPECT_LE(server_->connections(), 50 + HttpLimits().max_refused);
}

// It waits in the kernel until there is one again; meanwhile the operator sees why.
TEST_F(HttpConnectionsTest, TellsThatItHasNoDescriptors) {
  std::atomic<int> told{0};
  const HttpRoute echo{"GET", "/echo",
                       [](Exchange exchange) { exchange->Respond(200, {}, "echo"); }};
  const auto on_error = [&](const HttpError& error) {
    told += error.status == 503 && std::string(error.reason) == kNoDescriptors;
  };
  auto sockets = ListeningSockets::Bind("127.0.0.1:0");
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  auto server = HttpServer::Listen(
      *std::move(sockets), {.routes = {echo},
                            .error_body = [](const HttpError& error) { return error.message; },
                            .on_error = on_error});
  ASSERT_TRUE(server.ok()) << server.status();
  auto few = std::make_unique<FewDescriptors>(1);  // for the client
  RawClient client((*server)->address());
  client.Send(RawRequest("GET", "/echo"));
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (told == 0 && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
  few.reset();
  EXPECT_GT(told.load(), 0);
  EXPECT_EQ(client.Read().body, "echo");
}

TEST_F(HttpConnectionsTest, Serves200Connections) {
  Listen();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 200; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->address()));
    clients.back()->Send(RawRequest("POST", i % 2 == 0 ? "/hold" : "/echo", "x"));
  }
  std::vector<Exchange> held;
  for (int i = 0; i < 100; ++i) held.push_back(held_.Take());
  for (int i = 1; i < 200; i += 2) EXPECT_EQ(clients[i]->Read().body, "x");
  for (const Exchange& exchange : held) exchange->Respond(200, {}, "held");
  for (int i = 0; i < 200; i += 2) EXPECT_EQ(clients[i]->Read().body, "held");
  EXPECT_EQ(server_->connections(), 200);
}

}  // namespace
}  // namespace baram::server
