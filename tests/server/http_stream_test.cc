// Streams of the HTTP listener, clients that disconnect, and the listener's own end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/server/http_bed.h"
#include "tests/server/peak_memory.h"

namespace baram::server {
namespace {

class HttpStreamTest : public HttpBed {
 protected:
  // Sends a request that is held, and returns its exchange.
  Exchange Hold(RawClient& client, const std::string& request = RawRequest("POST", "/hold")) {
    client.Send(request);
    return held_.Take();
  }
  // Writes, and waits for the outcome.
  bool Write(const Exchange& exchange, const std::string& piece) {
    Mailbox<HttpEnd> written;
    EXPECT_TRUE(exchange->Write(piece, [&](HttpEnd end) { written.Put(end); }));
    return written.Take() == HttpEnd::kSent;
  }
  // Records the calls of OnGone.
  void Watch(const Exchange& exchange) {
    exchange->OnGone([this](HttpEnd how) { gone_.Put(how); });
  }

  Mailbox<HttpEnd> gone_;
};

TEST_F(HttpStreamTest, SendsPiecesAndKeepsTheConnection) {
  Listen();
  RawClient client(server_->address());
  for (int round = 0; round < 3; ++round) {
    const Exchange exchange = Hold(client);
    exchange->StartStream(200, {{"Content-Type", "text/event-stream"}});
    EXPECT_TRUE(Write(exchange, "data: 1\n\n"));
    EXPECT_TRUE(Write(exchange, ""));
    EXPECT_TRUE(Write(exchange, std::string(100000, 'x')));
    exchange->EndStream(round == 1 ? "" : "data: [DONE]\n\n");
    const RawResponse response = client.Read();
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.headers.at("content-type"), "text/event-stream");
    EXPECT_EQ(response.body,
              "data: 1\n\n" + std::string(100000, 'x') + (round == 1 ? "" : "data: [DONE]\n\n"));
    EXPECT_TRUE(response.whole);
  }
}

TEST_F(HttpStreamTest, HeadersLeaveWithTheFirstPiece) {
  Listen();
  RawClient client(server_->address());
  const Exchange exchange = Hold(client);
  exchange->StartStream(200, {});
  exchange->EndStream("all");
  const RawResponse response = client.Read();
  EXPECT_EQ(response.body, "all");
  EXPECT_TRUE(response.whole);
}

TEST_F(HttpStreamTest, EndsAStreamOfHttp10ByClosing) {
  Listen();
  RawClient client(server_->address());
  const Exchange exchange = Hold(client, "GET /hold HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  exchange->StartStream(200, {});
  EXPECT_TRUE(Write(exchange, "one"));
  exchange->EndStream("two");
  const RawResponse response = client.Read();
  EXPECT_EQ(response.headers.count("transfer-encoding"), 0u);
  EXPECT_EQ(response.headers.at("connection"), "close");
  EXPECT_EQ(response.body, "onetwo");
}

TEST_F(HttpStreamTest, StreamsNothingToHead) {
  Listen();
  RawClient client(server_->address());
  const Exchange exchange = Hold(client, RawRequest("HEAD", "/hold"));
  exchange->StartStream(200, {});
  EXPECT_TRUE(Write(exchange, "one"));
  EXPECT_TRUE(Write(exchange, "two"));
  exchange->EndStream("three");
  EXPECT_EQ(client.Read(/*head=*/true).status, 200);
  client.Send(RawRequest("POST", "/echo", "next"));
  EXPECT_EQ(client.Read().body, "next");
}

TEST_F(HttpStreamTest, AnswersOnceOnly) {
  Listen();
  RawClient client(server_->address());
  const Exchange exchange = Hold(client);
  exchange->Respond(200, {}, "one");
  exchange->Respond(200, {}, "two");
  exchange->StartStream(200, {});
  EXPECT_FALSE(Write(exchange, "three"));
  exchange->EndStream("four");
  EXPECT_EQ(client.Read().body, "one");
  client.Send(RawRequest("POST", "/echo", "next"));
  EXPECT_EQ(client.Read().body, "next");
}

TEST_F(HttpStreamTest, AnExchangeThatIsDroppedAnswers500) {
  Listen();
  RawClient client(server_->address());
  client.Send(RawRequest("POST", "/drop"));
  const RawResponse response = client.Read();
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(response.headers.at("x-should-retry"), "false");
  client.Send(RawRequest("POST", "/echo", "next"));
  EXPECT_EQ(client.Read().body, "next");
}

TEST_F(HttpStreamTest, AStreamThatIsDroppedIsCutShort) {
  Listen();
  RawClient client(server_->address());
  Exchange exchange = Hold(client);
  exchange->StartStream(200, {});
  EXPECT_TRUE(Write(exchange, "begin"));
  exchange.reset();
  const RawResponse response = client.Read();
  EXPECT_EQ(response.body, "begin");
  EXPECT_FALSE(response.whole);
}

TEST_F(HttpStreamTest, NoticesAClientThatGoesBeforeTheAnswer) {
  Listen();
  for (const bool resets : {false, true}) {
    RawClient client(server_->address());
    const Exchange exchange = Hold(client);
    Watch(exchange);
    resets ? client.Reset() : client.Close();
    EXPECT_EQ(gone_.Take(), HttpEnd::kGone);
    exchange->Respond(200, {}, "too late");
    Watch(exchange);  // it is already gone
    EXPECT_EQ(gone_.Take(), HttpEnd::kGone);
  }
  EXPECT_EQ(gone_.size(), 0u);
}

// Data after its request does not hide its disconnection.
TEST_F(HttpStreamTest, NoticesAClientThatGoesAfterPipelining) {
  Listen();
  RawClient client(server_->address());
  const Exchange exchange = Hold(client, RawRequest("POST", "/hold") + RawRequest("POST", "/echo"));
  Watch(exchange);
  client.Close();
  EXPECT_EQ(gone_.Take(), HttpEnd::kGone);
}

// However much it has pipelined.
TEST_F(HttpStreamTest, NoticesAClientThatGoesAfterALotOfPipelining) {
  Listen();
  for (const bool streaming : {false, true}) {
    RawClient client(server_->address());
    const Exchange exchange = Hold(client);
    Watch(exchange);
    if (streaming) {
      exchange->StartStream(200, {});
      EXPECT_TRUE(Write(exchange, "one"));
    }
    EXPECT_TRUE(client.Send(std::string(200 << 10, 'x')));
    client.ShutdownSend();
    for (int i = 0; i < 1000 && gone_.size() == 0; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ASSERT_EQ(gone_.size(), 1u);
    gone_.Take();
  }
}

TEST_F(HttpStreamTest, AnswersALotOfPipeliningThatNeedsNoWait) {
  Listen();
  RawClient client(server_->address());
  constexpr int kRequests = 5000;
  std::thread sender([&] {
    std::string requests;
    for (int i = 0; i < kRequests; ++i) requests += RawRequest("GET", "/path/one");
    EXPECT_TRUE(client.Send(requests));
  });
  int answers = 0;
  while (answers < kRequests && client.Read().body == "/path/one") ++answers;
  sender.join();
  EXPECT_EQ(answers, kRequests);
}

// More than a little is not kept, and so can't be answered.
TEST_F(HttpStreamTest, ALotOfPipeliningEndsTheConnectionWithItsAnswer) {
  Listen();
  RawClient client(server_->address());
  const Exchange exchange = Hold(client);
  std::string requests;
  while (requests.size() < 16 << 20) requests += RawRequest("GET", "/path/dropped");
  EXPECT_TRUE(client.Send(requests));  // more than the sockets hold: it has been read
  exchange->Respond(200, {}, "all");
  const RawResponse response = client.Read();
  EXPECT_EQ(response.body, "all");
  EXPECT_EQ(response.headers.count("connection"), 1u);
  EXPECT_EQ(client.ReadToEnd(), "");
}

TEST_F(HttpStreamTest, NoticesAClientThatGoesWithinAStream) {
  Listen();
  for (const bool resets : {false, true}) {
    RawClient client(server_->address());
    const Exchange exchange = Hold(client);
    Watch(exchange);
    exchange->StartStream(200, {});
    EXPECT_TRUE(Write(exchange, "begin"));
    resets ? client.Reset() : client.Close();
    EXPECT_EQ(gone_.Take(), HttpEnd::kGone);
    EXPECT_FALSE(Write(exchange, "more"));
    exchange->EndStream("");
  }
  EXPECT_EQ(gone_.size(), 0u);
}

TEST_F(HttpStreamTest, AClientThatClosesItsSideHasGone) {
  Listen();
  RawClient client(server_->address());
  const Exchange exchange = Hold(client);
  Watch(exchange);
  client.ShutdownSend();
  EXPECT_EQ(gone_.Take(), HttpEnd::kGone);
  EXPECT_EQ(client.ReadToEnd(), "");
}

// A client that has read everything may close before the server learns that all was sent.
TEST_F(HttpStreamTest, WhatIsInFlightSaysHowItEnded) {
  Listen();
  const std::string body(8 << 20, 'x');  // more than the sockets' buffers hold
  {
    RawClient client(server_->address(), /*receive_buffer_bytes=*/32 << 10);
    const Exchange exchange = Hold(client);
    Watch(exchange);
    Mailbox<HttpEnd> ended;
    exchange->Respond(200, {}, body, [&](HttpEnd end) { ended.Put(end); });
    EXPECT_EQ(client.ReadSome(1), 1u);
    client.ShutdownSend();
    while (client.ReadSome(64 << 10) > 0) {
    }
    EXPECT_EQ(ended.Take(), HttpEnd::kSent);
    EXPECT_EQ(gone_.size(), 0u);
  }
  // Within a stream there is more to come, and no client for it.
  RawClient client(server_->address(), /*receive_buffer_bytes=*/32 << 10);
  const Exchange exchange = Hold(client);
  Watch(exchange);
  exchange->StartStream(200, {});
  Mailbox<HttpEnd> written;
  EXPECT_TRUE(exchange->Write(body, [&](HttpEnd end) { written.Put(end); }));
  EXPECT_EQ(client.ReadSome(1), 1u);
  client.ShutdownSend();
  while (client.ReadSome(64 << 10) > 0) {
  }
  EXPECT_EQ(written.Take(), HttpEnd::kSent);
  EXPECT_EQ(gone_.Take(), HttpEnd::kGone);
}

TEST_F(HttpStreamTest, ACompleteAnswerIsNotGone) {
  Listen();
  {
    RawClient client(server_->address());
    const Exchange exchange = Hold(client);
    Watch(exchange);
    exchange->Respond(200, {}, "done");
    EXPECT_EQ(client.Read().body, "done");
  }
  // The end of another connection is processed after that of the first one.
  RawClient other(server_->address());
  const Exchange exchange = Hold(other);
  exchange->Respond(200, {}, "");
  EXPECT_EQ(other.Read().status, 200);
  server_.reset();
  EXPECT_EQ(gone_.size(), 0u);
}

TEST_F(HttpStreamTest, CutsASlowReaderOff) {
  Listen({.write_s = 0.1});
  RawClient slow(server_->address(), /*receive_buffer_bytes=*/4096);
  const Exchange exchange = Hold(slow);
  Watch(exchange);
  exchange->StartStream(200, {});
  // More than the two sockets' buffers hold.
  while (Write(exchange, std::string(200 << 10, 'x'))) {
  }
  EXPECT_EQ(gone_.Take(), HttpEnd::kSlow);
  EXPECT_EQ(gone_.size(), 0u);
}

// A reader that occasionally reads a little holds a connection no longer than one that reads
// nothing.
// However long the whole may take.
TEST_F(HttpStreamTest, CutsAReaderOffWhoStopsWithinALargeAnswer) {
  Listen({.write_s = 0.1});  // and 6 s for all of it
  RawClient slow(server_->address(), /*receive_buffer_bytes=*/4096);
  const Exchange exchange = Hold(slow);
  Mailbox<HttpEnd> ended;
  const auto began = std::chrono::steady_clock::now();
  exchange->Respond(200, {}, std::string(64 << 20, 'x'), [&](HttpEnd end) { ended.Put(end); });
  EXPECT_EQ(ended.Take(), HttpEnd::kSlow);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
}

TEST_F(HttpStreamTest, CutsAReaderOffWhoIsTooSlowForTheWhole) {
  Listen({.write_s = 0.2});
  RawClient slow(server_->address(), /*receive_buffer_bytes=*/32 << 10);
  const Exchange exchange = Hold(slow);
  Mailbox<HttpEnd> ended;
  exchange->Respond(200, {}, std::string(4 << 20, 'x'), [&](HttpEnd end) { ended.Put(end); });
  // Fast enough that something is sent every 0.2 s, too slow for everything to be sent within a
  // second.
  while (ended.size() == 0 && slow.ReadSome(16 << 10) > 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(ended.Take(), HttpEnd::kSlow);
}

// For an unread stream the kernel buffers little, so that its end comes soon.
TEST_F(HttpStreamTest, KeepsLittleForAReaderWhoStopped) {
  Listen({.write_s = 0.1});
  RawClient stopped(server_->address());
  const Exchange exchange = Hold(stopped);
  exchange->StartStream(200, {});
  size_t out = 0;
  while (Write(exchange, std::string(16 << 10, 'x'))) out += 16 << 10;
  EXPECT_LT(out, size_t{1} << 20);
}

// A large answer is held in memory once while it is sent.
TEST_F(HttpStreamTest, AnAnswerIsNotCopied) {
  Listen();
  RawClient client(server_->address());
  const Exchange exchange = Hold(client);
  std::string body(64 << 20, 'x');
  if (!ForgetPeak()) GTEST_SKIP() << "the kernel does not forget the peak";
  const int64_t before = PeakBytes();
  exchange->Respond(200, {}, std::move(body));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // the client reads nothing
  EXPECT_LT(PeakBytes() - before, 32 << 20);
  const RawResponse response = client.Read();
  EXPECT_EQ(response.body.size(), size_t{64} << 20);
  EXPECT_EQ(response.body.find_first_not_of('x'), std::string::npos);
}

// Each answer's end is reported once, whatever it is.
TEST_F(HttpStreamTest, TellsHowAnAnswerEnded) {
  Listen();
  Mailbox<HttpEnd> ended;
  const auto tell = [&](HttpEnd end) { ended.Put(end); };
  RawClient client(server_->address());
  Hold(client)->Respond(200, {}, "whole", tell);
  EXPECT_EQ(client.Read().body, "whole");
  EXPECT_EQ(ended.Take(), HttpEnd::kSent);

  Exchange exchange = Hold(client);
  exchange->StartStream(200, {});
  EXPECT_TRUE(Write(exchange, "piece"));
  EXPECT_EQ(ended.size(), 0u);
  exchange->EndStream("", tell);
  EXPECT_EQ(client.Read().body, "piece");
  EXPECT_EQ(ended.Take(), HttpEnd::kSent);

  // Disconnected before the answer; during it; with the listener.
  exchange = Hold(client);
  Watch(exchange);
  client.Close();
  EXPECT_EQ(gone_.Take(), HttpEnd::kGone);
  exchange->Respond(200, {}, "late", tell);
  EXPECT_EQ(ended.Take(), HttpEnd::kGone);
  RawClient second(server_->address(), /*receive_buffer_bytes=*/4096);
  Hold(second)->Respond(200, {}, std::string(4 << 20, 'x'), tell);
  EXPECT_EQ(second.ReadSome(1), 1u);
  second.Reset();
  EXPECT_EQ(ended.Take(), HttpEnd::kGone);
  RawClient third(server_->address());
  exchange = Hold(third);
  server_.reset();
  exchange->Respond(200, {}, "late", tell);
  EXPECT_EQ(ended.Take(), HttpEnd::kGone);
  EXPECT_EQ(ended.size(), 0u);
}

// A large answer gets more time.
TEST_F(HttpStreamTest, LetsAReaderThatGoesOnTakeItsTime) {
  Listen({.write_s = 5});
  RawClient client(server_->address(), /*receive_buffer_bytes=*/4096);
  const Exchange exchange = Hold(client);
  const std::string body(32 << 20, 'y');
  exchange->Respond(200, {}, body);
  EXPECT_EQ(client.Read().body.size(), body.size());
}

// Whenever some of it is sent, the rest may stall as long again.
TEST_F(HttpStreamTest, LetsAReaderPause) {
  Listen({.write_s = 3});
  RawClient client(server_->address(), /*receive_buffer_bytes=*/32 << 10);
  const Exchange exchange = Hold(client);
  Mailbox<HttpEnd> ended;
  exchange->Respond(200, {}, std::string(4 << 20, 'x'), [&](HttpEnd end) { ended.Put(end); });
  for (int pause = 0; pause < 3; ++pause) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1200));
    std::string some;
    while (some.size() < 1 << 20 && client.ReadSome(16 << 10, &some) > 0) {
    }
  }
  client.ReadToEnd();
  EXPECT_EQ(ended.Take(), HttpEnd::kSent);
}

TEST_F(HttpStreamTest, StopAcceptingLetsAnswersEnd) {
  Listen();
  RawClient idle(server_->address()), fresh(server_->address());
  idle.Send(RawRequest("POST", "/echo", "x"));
  EXPECT_EQ(idle.Read().body, "x");
  RawClient busy(server_->address()), whole(server_->address());
  const Exchange stream = Hold(busy);
  stream->StartStream(200, {});
  EXPECT_TRUE(Write(stream, "begin "));
  const Exchange held = Hold(whole);

  server_->StopAccepting();
  EXPECT_EQ(idle.ReadToEnd(), "");
  EXPECT_EQ(fresh.ReadToEnd(), "");
  RawClient late(server_->address());
  late.Send(RawRequest("POST", "/echo", "x"));
  EXPECT_EQ(late.ReadToEnd(), "");

  EXPECT_TRUE(Write(stream, "middle "));
  stream->EndStream("end");
  held->Respond(200, {}, "held");
  const RawResponse streamed = busy.Read();
  EXPECT_EQ(streamed.body, "begin middle end");
  EXPECT_TRUE(streamed.whole);
  const RawResponse answered = whole.Read();
  EXPECT_EQ(answered.body, "held");
  EXPECT_EQ(answered.headers.at("connection"), "close");
  EXPECT_EQ(busy.ReadToEnd(), "");
  EXPECT_EQ(whole.ReadToEnd(), "");
}

// The end of its connection is read before its answer is reported as sent.
TEST_F(HttpStreamTest, AClientThatEndsBehindItsAnswerIsNotHeld) {
  Listen();
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(Ask(RawRequest("POST", "/echo", "x")).body, "x");
  }
  // Long before they would be considered idle.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (server_->connections() > 0 && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(server_->connections(), 0);
}

// So that a client of a draining server reaches another server next time.
TEST_F(HttpStreamTest, SendAwayEndsConnectionsWithTheirAnswers) {
  Listen();
  RawClient idle(server_->address()), fresh(server_->address()), half(server_->address());
  idle.Send(RawRequest("POST", "/echo", "x"));
  EXPECT_EQ(idle.Read().body, "x");
  half.Send("POST /echo HTTP/1.1\r\nHost: a\r\n");
  RawClient busy(server_->address()), later(server_->address());
  const Exchange stream = Hold(busy);
  stream->StartStream(200, {});
  EXPECT_TRUE(Write(stream, "begin "));
  const Exchange held = Hold(later);
  RawClient hasty(server_->address());
  const Exchange first = Hold(hasty);
  first->StartStream(200, {});
  EXPECT_TRUE(Write(first, "first"));

  server_->SendAway();
  EXPECT_EQ(idle.ReadToEnd(), "");
  // The next request arrives before the answer in progress ends.
  hasty.Send(RawRequest("POST", "/echo", "y"));
  first->EndStream("");
  EXPECT_EQ(hasty.Read().body, "first");
  RawResponse next = hasty.Read();
  EXPECT_EQ(next.body, "y");
  EXPECT_EQ(next.headers["connection"], "close");
  EXPECT_EQ(hasty.ReadToEnd(), "");
  // Running answers continue; a stream whose header was sent can't announce that it is the last.
  EXPECT_TRUE(Write(stream, "middle "));
  stream->EndStream("end");
  EXPECT_EQ(busy.Read().body, "begin middle end");
  EXPECT_EQ(busy.ReadToEnd(), "");
  held->StartStream(200, {});
  EXPECT_TRUE(Write(held, "begin "));
  held->EndStream("end");
  RawResponse streamed = later.Read();
  EXPECT_EQ(streamed.body, "begin end");
  EXPECT_EQ(streamed.headers["connection"], "close");
  EXPECT_EQ(later.ReadToEnd(), "");
  // A connection that had no answer yet gets one; so does a new one.
  half.Send("Content-Length: 1\r\n\r\nx");
  fresh.Send(RawRequest("POST", "/echo", "x"));
  RawClient late(server_->address());
  late.Send(RawRequest("POST", "/echo", "x") + RawRequest("POST", "/echo", "y"));
  for (RawClient* const client : {&half, &fresh, &late}) {
    RawResponse response = client->Read();
    EXPECT_EQ(response.body, "x");
    EXPECT_EQ(response.headers["connection"], "close");
    EXPECT_EQ(client->ReadToEnd(), "");
  }
}

// A half-sent request is soon told so; one that arrives in time is answered.
TEST_F(HttpStreamTest, StopAcceptingWaitsForNoHalfRequest) {
  Listen({.request_s = 600, .closing_s = 0.5});
  const auto begin = [](RawClient& client) {
    client.Send(
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    std::string proceed;
    while (!proceed.ends_with("\r\n\r\n")) ASSERT_GT(client.ReadSome(1, &proceed), 0u);
    client.Send("xx");
  };
  RawClient half(server_->address()), whole(server_->address());
  begin(half);
  begin(whole);
  const auto stopped = std::chrono::steady_clock::now();
  server_->StopAccepting();
  whole.Send("xx");
  EXPECT_EQ(whole.Read().body, "xxxx");
  EXPECT_EQ(half.Read().status, 408);
  EXPECT_EQ(half.ReadToEnd(), "");
  // Far below request_s, and far above what a busy machine adds.
  EXPECT_LT(std::chrono::steady_clock::now() - stopped, std::chrono::seconds(60));
}

TEST_F(HttpStreamTest, DestructionEndsEverything) {
  Listen();
  std::vector<std::unique_ptr<RawClient>> clients;
  std::vector<Exchange> exchanges;
  for (int i = 0; i < 9; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->address()));
    if (i % 3 == 0) {
      clients.back()->Send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
      continue;
    }
    exchanges.push_back(Hold(*clients.back()));
    Watch(exchanges.back());
    if (i % 3 == 1) {
      exchanges.back()->StartStream(200, {});
      EXPECT_TRUE(Write(exchanges.back(), "begin"));
    }
  }
  server_.reset();
  EXPECT_EQ(gone_.size(), exchanges.size());
  for (const Exchange& exchange : exchanges) {
    exchange->Respond(200, {}, "too late");
    EXPECT_FALSE(exchange->Write("too late", [](HttpEnd) { FAIL(); }));
    exchange->EndStream("too late");
    exchange->OnGone([](HttpEnd) { FAIL(); });
  }
  exchanges.clear();
  for (const auto& client : clients) client->ReadToEnd();
}

// Answers from other threads race with clients that disconnect and with the listener's end.
TEST_F(HttpStreamTest, SurvivesRacesWithItsEnd) {
  for (int round = 0; round < 20; ++round) {
    Listen();
    std::vector<std::unique_ptr<RawClient>> clients;
    std::vector<std::thread> answerers;
    for (int i = 0; i < 8; ++i) {
      clients.push_back(std::make_unique<RawClient>(server_->address()));
      Exchange exchange = Hold(*clients.back());
      answerers.emplace_back([exchange = std::move(exchange)]() mutable {
        exchange->OnGone([](HttpEnd) {});
        exchange->StartStream(200, {});
        for (int piece = 0; piece < 50; ++piece) {
          auto written = std::make_shared<Mailbox<HttpEnd>>();
          if (!exchange->Write("piece", [written](HttpEnd end) { written->Put(end); })) return;
          if (written->Take() != HttpEnd::kSent) return;
        }
        exchange->EndStream("");
      });
    }
    clients[0]->Reset();
    clients[1]->Close();
    server_.reset();
    for (std::thread& thread : answerers) thread.join();
  }
}

}  // namespace
}  // namespace baram::server
