// The HTTP listener's limits: a request that exceeds one is told so, and disturbs no other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <utility>

#include "server/text/utf8.h"
#include "tests/server/http_bed.h"

namespace baram::server {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using HttpLimitsTest = HttpBed;

// A slow request is told why, which a timer that closes the socket would not allow.
TEST_F(HttpLimitsTest, RefusesSlowRequests) {
  Listen({.request_s = 0.05});
  for (const std::string start : {
           "GET /ec",
           "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Le",
           "POST /echo HTTP/1.1\r\nHost: a\r\nx-request-id: slow\r\nContent-Length: 4\r\n\r\nab",
           "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nab",
       }) {
    const RawResponse response = Ask(start);
    EXPECT_EQ(response.status, 408) << start;
    EXPECT_EQ(response.headers.count("x-should-retry"), 0u);
    EXPECT_TRUE(response.whole);
    if (start.find("slow") != std::string::npos) {
      EXPECT_EQ(response.headers.at("x-request-id"), "slow");
    }
  }
}

// Reads an answer while a byte goes to the server every few milliseconds.
RawResponse ReadWhileTrickling(RawClient& client) {
  std::jthread trickle([&client](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      client.Send("a");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  return client.Read();
}

// Trickling bytes gain no time.
TEST_F(HttpLimitsTest, RefusesTrickledRequests) {
  Listen({.request_s = 0.1});
  for (const std::string start :
       {"GET /echo HTTP/1.1\r\nHost: a\r\nx-long: ",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n"}) {
    RawClient client(server_->address());
    client.Send(start);
    EXPECT_EQ(ReadWhileTrickling(client).status, 408) << start;
  }
}

// Nor does a byte that is read as the time ends, but processed after that.
TEST_F(HttpLimitsTest, RefusesARequestWhoseTimeEndsBehindAByte) {
  using std::chrono::milliseconds;
  Listen({.request_s = 0.1});
  for (const std::string start :
       {"GET /ec", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\nab"}) {
    RawClient client(server_->address());
    client.Send(RawRequest("POST", "/hold"));
    const Exchange answered = held_.Take();
    answered->Respond(200, {}, "");
    EXPECT_EQ(client.Read().status, 200);
    client.Send(start);
    std::this_thread::sleep_for(milliseconds(20));
    // A piece after an answer is refused on the connection's strand, which this blocks.
    std::promise<void> held;
    answered->Write("", [over = held.get_future().share()](HttpEnd) { over.wait(); });
    std::this_thread::sleep_for(milliseconds(120));
    client.Send("a");
    std::this_thread::sleep_for(milliseconds(20));
    held.set_value();
    EXPECT_EQ(ReadWhileTrickling(client).status, 408) << start;
  }
}

// The wait for a body after "100 Continue" is part of the same limit.
TEST_F(HttpLimitsTest, RefusesABodyThatNeverComes) {
  Listen({.request_s = 0.05});
  RawClient client(server_->address());
  client.Send(
      "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
  EXPECT_EQ(client.Read().status, 100);
  EXPECT_EQ(client.Read().status, 408);
}

TEST_F(HttpLimitsTest, ClosesIdleConnectionsInSilence) {
  Listen({.idle_s = 0.05});
  RawClient fresh(server_->address());
  EXPECT_EQ(fresh.ReadToEnd(), "");
  RawClient kept(server_->address());
  kept.Send(RawRequest("POST", "/echo", "x"));
  EXPECT_EQ(kept.Read().body, "x");
  EXPECT_EQ(kept.ReadToEnd(), "");
}

// Whether the server closes `client` within 4 s, who sends empty lines.
bool Closes(RawClient& client) {
  for (int i = 0; i < 200; ++i) {
    if (!client.Send("\r\n")) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

TEST_F(HttpLimitsTest, EmptyLinesBuyNoTime) {
  Listen({.idle_s = 0.2});
  RawClient client(server_->address());
  EXPECT_TRUE(Closes(client));
}

// An answer may take longer than a request may.
TEST_F(HttpLimitsTest, DoesNotLimitTheMakingOfAnAnswer) {
  Listen({.idle_s = 0.02, .request_s = 0.02, .write_s = 0.02});
  RawClient slow(server_->address());
  slow.Send(RawRequest("POST", "/hold"));
  const Exchange exchange = held_.Take();
  RawClient idle(server_->address());
  EXPECT_EQ(idle.ReadToEnd(), "");  // a later connection has timed out
  exchange->Respond(200, {}, "late");
  EXPECT_EQ(slow.Read().body, "late");
}

TEST_F(HttpLimitsTest, RefusesLargeHeaders) {
  Listen({.max_header_bytes = 2048});
  const std::string fits = "x-long: " + std::string(1500, 'a') + "\r\n";
  EXPECT_EQ(Ask(RawRequest("GET", "/echo", "", fits)).status, 200);
  const std::string large = "x-long: " + std::string(3000, 'a') + "\r\n";
  EXPECT_EQ(Ask(RawRequest("GET", "/echo", "", large)).status, 431);
  EXPECT_EQ(Ask(RawRequest("GET", "/path/" + std::string(1 << 20, 'a'))).status, 431);
  // Each fits; the limit applies to both together.
  const std::string path = "/path/" + std::string(1500, 'a');
  EXPECT_EQ(Ask(RawRequest("GET", path)).status, 200);
  EXPECT_EQ(Ask(RawRequest("GET", path, "", fits)).status, 431);
}

// Also if each field arrives whole, so that the parser consumes it at once.
TEST_F(HttpLimitsTest, RefusesHeadersWithoutEnd) {
  Listen({.request_s = 5});
  RawClient client(server_->address());
  std::string headers = "GET /echo HTTP/1.1\r\nHost: test\r\n";
  while (headers.size() < 64 << 10) headers += "ab:\r\n";
  for (size_t sent = 0; sent < headers.size(); sent += 4095) {
    client.Send(headers.substr(sent, 4095));
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_EQ(client.Read().status, 431);
}

// Each of them takes memory for as long as its request is read, however short it is.
TEST_F(HttpLimitsTest, RefusesManyHeaders) {
  Listen({.max_headers = 50});
  std::string many;
  for (int i = 0; i < 49; ++i) many += "a:\r\n";
  EXPECT_EQ(Ask(RawRequest("GET", "/echo", "", many)).status, 200);
  const RawResponse refused = Ask(RawRequest("GET", "/echo", "", many + "a:\r\n"));
  EXPECT_EQ(refused.status, 431);
  EXPECT_EQ(refused.body, "431 TOO_MANY_HEADERS: The request has more than 50 headers.");
  EXPECT_EQ(refused.headers.at("connection"), "close");
}

// An exception in a handler, from Beast's parser or a route, ends only its connection, and is
// logged once.
TEST_F(HttpLimitsTest, AnExceptionEndsItsConnectionAlone) {
  std::ostringstream log;
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::ostream_sink_mt>(log)));
  Listen({.max_header_bytes = 128 << 10});
  RawClient held(server_->address());
  held.Send(RawRequest("POST", "/hold"));
  Exchange exchange = held_.Take();
  // Beast keeps the lengths of a field in 16 bits.
  EXPECT_EQ(Ask(RawRequest("GET", "/echo", "", "x: " + std::string(64 << 10, 'a') + "\r\n")).status,
            0);
  EXPECT_EQ(Ask(RawRequest("POST", "/throw", "a secret")).status, 0);
  EXPECT_EQ(Ask(RawRequest("POST", "/echo", "b")).body, "b");
  exchange->Respond(200, {}, "c");
  EXPECT_EQ(held.Read().body, "c");
  exchange.reset();
  held.Close();
  for (int i = 0; i < 1000 && server_->connections() > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(server_->connections(), 0);
  server_.reset();
  spdlog::set_default_logger(before);
  const std::string lines = log.str();  // in either order
  EXPECT_THAT(lines, HasSubstr("[error] HTTP connection closed: std::runtime_error was thrown\n"));
  EXPECT_THAT(lines, HasSubstr("std::length_error> was thrown\n"));
  EXPECT_EQ(std::ranges::count(lines, '\n'), 2);
  EXPECT_THAT(lines, Not(HasSubstr("secret")));
}

// Every callback that waits for an answer is called at its end, also if another one throws.
TEST_F(HttpLimitsTest, AnExceptionIsToldToWhoeverWaits) {
  Listen();
  RawClient client(server_->address());
  client.Send(RawRequest("POST", "/hold"));
  const Exchange exchange = held_.Take();
  Mailbox<HttpEnd> gone, ended;
  exchange->OnGone([&](HttpEnd end) {
    gone.Put(end);
    throw std::runtime_error("gone");
  });
  exchange->StartStream(200, {});
  exchange->Write("a", [](HttpEnd) { throw std::runtime_error("written"); });
  EXPECT_EQ(gone.Take(), HttpEnd::kGone);
  exchange->EndStream("", [&](HttpEnd end) { ended.Put(end); });
  EXPECT_EQ(ended.Take(), HttpEnd::kGone);
}

// A body after such an answer would be read as the next answer.
TEST_F(HttpLimitsTest, RefusesAHeadWithoutABody) {
  Listen({.max_header_bytes = 2048, .request_s = 0.3});
  const std::string line = "HEAD /echo HTTP/1.1\r\nHost: a\r\n";
  for (const auto& [request, status] : std::vector<std::pair<std::string, std::string>>{
           {line + "x-long: " + std::string(3000, 'a') + "\r\n\r\n", "431"},
           {line + "broken header\r\n\r\n", "400"},
           {line + "x-unfinished: ", "408"}}) {
    RawClient client(server_->address());
    client.Send(request);
    const std::string answer = client.ReadToEnd();
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 " + status));
    EXPECT_THAT(answer, EndsWith("\r\n\r\n"));
  }
}

// Errors quote a path: briefly, and in whole characters.
TEST_F(HttpLimitsTest, ShowsTheBeginningOfALongPath) {
  Listen();
  std::string han;
  for (int i = 0; i < 400; ++i) han += "%ED%95%9C";  // 한
  const std::string nothing = Ask(RawRequest("GET", "/" + han)).body;
  EXPECT_THAT(nothing, HasSubstr("한."));
  EXPECT_LT(nothing.size(), 300u);
  EXPECT_TRUE(text::IsValidUtf8(nothing));
  const std::string wrong = Ask(RawRequest("POST", "/path/" + han)).body;
  EXPECT_THAT(wrong, HasSubstr("한 takes GET only."));
  EXPECT_LT(wrong.size(), 300u);
  EXPECT_TRUE(text::IsValidUtf8(wrong));
}

TEST_F(HttpLimitsTest, RefusesLargeBodies) {
  Listen({.max_body_bytes = 1000});
  EXPECT_EQ(Ask(RawRequest("POST", "/echo", std::string(1000, 'a'))).status, 200);
  const RawResponse named =
      Ask(RawRequest("POST", "/echo", std::string(1001, 'a'), "x-request-id: big\r\n"));
  EXPECT_EQ(named.status, 413);
  EXPECT_THAT(named.body, HasSubstr("1000 bytes"));
  EXPECT_EQ(named.headers.at("x-request-id"), "big");
  std::string chunks = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 20; ++i) chunks += "40\r\n" + std::string(64, 'a') + "\r\n";
  EXPECT_EQ(Ask(chunks).status, 413);
  const RawResponse waiting =
      Ask("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: "
          "99999999999\r\n\r\n");
  EXPECT_EQ(waiting.status, 413);
}

// What is not part of a body counts too: the line before a chunk, the trailers, their sum.
TEST_F(HttpLimitsTest, RefusesLargeFraming) {
  Listen({.max_body_bytes = 4000, .max_header_bytes = 2048, .request_s = 5});
  const std::string head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::string large(64 << 10, 'a');
  EXPECT_EQ(Ask(head + "1;" + large).status, 431);
  EXPECT_EQ(Ask(head + "1\r\nx\r\n0\r\nx-trailer: " + large).status, 431);
  EXPECT_EQ(Ask(head + "1;ext=1\r\nx\r\n0\r\nx-trailer: y\r\n\r\n").body, "x");
  std::string chunks;
  for (int i = 0; i < 100; ++i) chunks += "1;" + std::string(200, 'a') + "\r\nx\r\n";
  const RawResponse framed = Ask(head + chunks);
  EXPECT_EQ(framed.status, 413);
  EXPECT_THAT(framed.body, HasSubstr("chunks too small for their framing; send larger chunks."));
}

// Half-sent bodies and those not taken yet hold bounded memory together.
TEST_F(HttpLimitsTest, BoundsTheBodiesThatItHolds) {
  constexpr size_t kBytes = 128 << 10, kBodies = 32;
  Listen({.max_body_bytes = kBytes, .max_bodies_bytes = kBodies * kBytes});
  const std::string large(kBytes, 'a');
  const auto status_of = [&](const char* path) {
    return Ask(RawRequest("POST", path, large)).status;
  };
  const auto eventually = [&](int status) {
    for (int i = 0; i < 1000 && status_of("/echo") != status; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return status_of("/echo");
  };
  std::vector<std::unique_ptr<RawClient>> clients;
  const auto send = [&](const std::string& request) {
    clients.push_back(std::make_unique<RawClient>(server_->address()));
    clients.back()->Send(request);
  };
  // A body that breaks a rule, or has no route, is released.
  const std::string broken =
      "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n" + large +
      "broken";
  for (size_t i = 0; i < kBodies; ++i) {
    send(RawRequest("POST", "/nothing", large));
    EXPECT_EQ(clients.back()->Read().status, 404);
    send(broken);
    EXPECT_EQ(clients.back()->Read().status, 400);
  }
  const size_t first = clients.size();
  std::vector<Exchange> held;
  for (size_t i = 0; i < kBodies; ++i) {
    const bool half = i % 2 == 0;
    const std::string whole = RawRequest("POST", "/hold", large);
    send(half ? whole.substr(0, whole.size() - 1) : whole);
    if (!half) held.push_back(held_.Take());
  }
  EXPECT_EQ(eventually(503), 503);
  send(RawRequest("POST", "/echo", large));
  RawResponse refused = clients.back()->Read();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.body.substr(0, 21), "503 TOO_MANY_BODIES: ");
  EXPECT_EQ(refused.headers["retry-after"], "1");
  EXPECT_EQ(refused.headers["connection"], "close");
  const std::string small(HttpServer::kSmallBodyBytes, 'b');
  EXPECT_EQ(Ask(RawRequest("POST", "/echo", small)).body, small);

  // Each of these makes room for one.
  EXPECT_EQ(held.back()->TakeBody(), large);
  EXPECT_EQ(status_of("/echo"), 200);
  send(RawRequest("POST", "/hold", large));
  Exchange dropped = held_.Take();
  EXPECT_EQ(status_of("/echo"), 503);
  dropped.reset();
  EXPECT_EQ(eventually(200), 200);
  send(RawRequest("POST", "/hold", large));
  held.push_back(held_.Take());
  EXPECT_EQ(status_of("/echo"), 503);
  clients[first]->Close();
  EXPECT_EQ(eventually(200), 200);
}

// A Content-Length reserves no memory.
TEST_F(HttpLimitsTest, AnAnnouncedBodyTakesNothingUntilItComes) {
  Listen({.max_body_bytes = int64_t{1} << 60, .request_s = 0.1});
  EXPECT_EQ(
      Ask("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000000\r\n\r\na").status,
      408);
}

// Answers that are not read hold bounded memory together: the oldest make room.
TEST_F(HttpLimitsTest, BoundsTheAnswersOnTheirWay) {
  constexpr int64_t kBytes = 1 << 20, kAnswers = 4;
  Listen({.max_answers_bytes = kAnswers * kBytes});
  const std::string large(kBytes, 'a'), small(HttpServer::kSmallBodyBytes, 'b');
  Mailbox<std::pair<int, HttpEnd>> ended;
  std::vector<std::unique_ptr<RawClient>> clients;
  const auto answer = [&](const std::string& body) {
    const int number = static_cast<int>(clients.size());
    clients.push_back(std::make_unique<RawClient>(server_->address(), /*receive_buffer=*/4096));
    clients.back()->Send(RawRequest("POST", "/hold"));
    held_.Take()->Respond(200, {}, body, [&ended, number](HttpEnd end) {
      ended.Put({number, end});
    });
    // This ensures that the next one is younger.
    while (!clients.back()->HasMore()) std::this_thread::yield();
  };
  for (int i = 0; i < kAnswers; ++i) answer(large);
  answer(small);
  EXPECT_EQ(clients.back()->Read().body, small);
  EXPECT_EQ(ended.Take(), std::pair(4, HttpEnd::kSent));
  // An answer that was read makes room, and so does one whose client disconnected.
  EXPECT_EQ(clients[0]->Read().body, large);
  EXPECT_EQ(ended.Take(), std::pair(0, HttpEnd::kSent));
  answer(large);
  clients[1]->Reset();
  EXPECT_EQ(ended.Take(), std::pair(1, HttpEnd::kGone));
  answer(large);
  EXPECT_EQ(ended.size(), 0u);
  answer(large);
  EXPECT_EQ(ended.Take(), std::pair(2, HttpEnd::kSlow));
  EXPECT_FALSE(clients[2]->Read().whole);
  for (const int kept : {3, 5, 6, 7}) EXPECT_EQ(clients[kept]->Read().body, large);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(ended.Take().second, HttpEnd::kSent);
  // One larger than the total is sent if it is the only one.
  answer(std::string(2 * kAnswers * kBytes, 'c'));
  EXPECT_EQ(clients.back()->Read().body.size(), 2 * kAnswers * kBytes);
  EXPECT_EQ(ended.Take().second, HttpEnd::kSent);

  // So do the pieces of streams, whose framing takes them past the total.
  std::vector<Exchange> streams;
  for (int i = 0; i < kAnswers; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->address(), /*receive_buffer=*/4096));
    clients.back()->Send(RawRequest("POST", "/hold"));
    streams.push_back(held_.Take());
    streams.back()->StartStream(200, {});
    streams.back()->Write(large, [&ended, i](HttpEnd end) { ended.Put({i, end}); });
    while (!clients.back()->HasMore()) std::this_thread::yield();
  }
  // Long before it would be cut off as slow.
  for (int i = 0; i < 500 && ended.size() == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended.Take(), std::pair(0, HttpEnd::kSlow));
  // No callback outlives `ended`.
  clients.clear();
  for (int i = 1; i < kAnswers; ++i) ended.Take();
}

// The rest of the body is read and discarded; a reset would destroy the answer in flight.
TEST_F(HttpLimitsTest, AnswersThatWereReadCountNoMore) {
  Listen({.max_answers_bytes = 1200 << 10});
  const auto hold = [&](RawClient& client, size_t bytes) {
    client.Send(RawRequest("POST", "/hold"));
    held_.Take()->Respond(200, {}, std::string(bytes, 'a'));
  };
  RawClient later(server_->address(), /*receive_buffer_bytes=*/4096);
  hold(later, 600 << 10);
  RawClient quick(server_->address());
  for (int i = 0; i < 4; ++i) {
    hold(quick, 400 << 10);
    EXPECT_TRUE(quick.Read().whole);
  }
  EXPECT_TRUE(later.Read().whole);
}

TEST_F(HttpLimitsTest, AnswersReachAClientThatIsStillSending) {
  Listen({.max_body_bytes = 1000});
  RawClient client(server_->address());
  EXPECT_TRUE(client.Send(RawRequest("POST", "/echo", std::string(16 << 20, 'a'))));
  EXPECT_EQ(client.Read().status, 413);
}

TEST_F(HttpLimitsTest, TheFirstRequestMayHaveToComeSooner) {
  Listen({.first_idle_s = 0.05});
  RawClient kept(server_->address());
  kept.Send(RawRequest("POST", "/echo", "x"));
  EXPECT_EQ(kept.Read().body, "x");
  RawClient fresh(server_->address());
  EXPECT_TRUE(Closes(fresh));
  kept.Send(RawRequest("POST", "/echo", "y"));
  EXPECT_EQ(kept.Read().body, "y");
}

}  // namespace
}  // namespace baram::server
