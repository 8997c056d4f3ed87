// The HTTP listener: requests, routes, kept-alive connections, headers.
#include "server/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/http_bed.h"

namespace baram::server {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using HttpServerTest = HttpBed;

TEST_F(HttpServerTest, KeepsAConnection) {
  Listen();
  RawClient client(server_->address());
  for (const std::string body : {"one", "", "three"}) {
    client.Send(RawRequest("POST", "/echo", body));
    const RawResponse response = client.Read();
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, body);
    EXPECT_EQ(response.headers.count("connection"), 0u);
    EXPECT_THAT(response.headers.at("date"), HasSubstr(" GMT"));
  }
}

// The limit is one body's.
TEST_F(HttpServerTest, TakesManyBodiesOnOneConnection) {
  Listen({.max_body_bytes = 1000, .max_header_bytes = 1024});
  RawClient client(server_->address());
  const std::string body(900, 'b');
  for (int i = 0; i < 10; ++i) {
    client.Send(RawRequest("POST", "/echo", body));
    ASSERT_EQ(client.Read().body, body) << i;
  }
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  Listen();
  RawClient client(server_->address());
  std::string requests;
  for (int i = 0; i < 50; ++i) requests += RawRequest("POST", "/echo", "body " + std::to_string(i));
  client.Send(requests);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(client.Read().body, "body " + std::to_string(i));
}

// The second request arrives while the first is being answered, and is kept.
TEST_F(HttpServerTest, KeepsWhatComesWhileItAnswers) {
  Listen();
  RawClient client(server_->address());
  client.Send(RawRequest("POST", "/hold"));
  const Exchange exchange = held_.Take();
  const std::string second = RawRequest("POST", "/echo", "second", "x-request-id: b\r\n");
  client.Send(second.substr(0, 20));
  client.Send(second.substr(20));
  exchange->Respond(200, {}, "first");
  EXPECT_EQ(client.Read().body, "first");
  EXPECT_EQ(client.Read().body, "second");
}

TEST_F(HttpServerTest, SkipsEmptyLinesBetweenRequests) {
  Listen();
  RawClient client(server_->address());
  client.Send(RawRequest("POST", "/echo", "one") + "\r\n\r\n" + RawRequest("POST", "/echo", "two"));
  EXPECT_EQ(client.Read().body, "one");
  EXPECT_EQ(client.Read().body, "two");
}

TEST_F(HttpServerTest, TakesChunkedBodies) {
  Listen();
  RawClient client(server_->address());
  client.Send(
      "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3\r\nabc\r\n4;note=x\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n");
  EXPECT_EQ(client.Read().body, "abcdefg");
  client.Send(RawRequest("POST", "/echo", "next"));
  EXPECT_EQ(client.Read().body, "next");
}

TEST_F(HttpServerTest, KeepsTheHeadersThatAreRead) {
  Listen();
  RawClient client(server_->address());
  std::string others;
  for (int i = 0; i < 90; ++i) others += absl::StrCat("x-other-", i, ": v\r\n");
  client.Send(RawRequest("POST", "/hold", "",
                         others + "X-Request-Id: first\r\nx-request-id: second\r\n"
                                  "Content-Type: text/plain\r\n"));
  const Exchange exchange = held_.Take();
  EXPECT_EQ(exchange->request().headers.size(), 2u);
  EXPECT_EQ(exchange->request().Header("x-request-id"), "first");
  EXPECT_EQ(exchange->request().Header("content-type"), "text/plain");
  EXPECT_EQ(exchange->request().Header("x-request-timeout"), "");
}

// A proxy that removes headers may leave trailers in.
TEST_F(HttpServerTest, TrailersAreNoHeaders) {
  Listen();
  RawClient client(server_->address());
  client.Send(
      "POST /hold HTTP/1.1\r\nHost: a\r\nx-request-timeout: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
      "1\r\na\r\n0\r\nx-request-timeout: 2\r\ncontent-type: late\r\nx-request-id: late\r\n"
      "Connection: close\r\n\r\n");
  const Exchange exchange = held_.Take();
  EXPECT_EQ(exchange->request().body, "a");
  EXPECT_EQ(exchange->request().Header("x-request-timeout"), "1");
  EXPECT_EQ(exchange->request().Header("content-type"), "");
  EXPECT_EQ(exchange->request().Header("x-request-id"), "");
  exchange->Respond(200, {}, "");
  const RawResponse response = client.Read();
  EXPECT_EQ(response.headers.count("x-request-id"), 0u);
  EXPECT_EQ(response.headers.count("connection"), 0u);
}

TEST_F(HttpServerTest, AnswersExpectContinue) {
  Listen();
  RawClient client(server_->address());
  client.Send(
      "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 4\r\n\r\n");
  EXPECT_EQ(client.Read().status, 100);
  client.Send("body");
  EXPECT_EQ(client.Read().body, "body");
  // HTTP/1.0 has no such answer.
  const std::string head =
      "POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
  EXPECT_EQ(Ask(head + "body").body, "body");
}

// Even if it arrives in two pieces.
TEST_F(HttpServerTest, IgnoresAnEmptyLineBeforeARequest) {
  Listen();
  RawClient client(server_->address());
  client.Send("\r\n" + RawRequest("POST", "/echo", "one") + "\r");
  EXPECT_EQ(client.Read().body, "one");
  client.Send("\n\r");
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  client.Send("\n" + RawRequest("POST", "/echo", "two"));
  EXPECT_EQ(client.Read().body, "two");
}

// One byte at a time, as a network may deliver it: the end of a body whose only chunk is the last.
TEST_F(HttpServerTest, TakesTheLastChunkInAnyPieces) {
  Listen();
  RawClient client(server_->address());
  client.Send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (const char byte : std::string_view("0\r\nx-trailer: y\r\n\r\n")) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    ASSERT_TRUE(client.Send({&byte, 1}));
  }
  EXPECT_EQ(client.Read().status, 200);
}

TEST_F(HttpServerTest, ClosesAfterHttp10UnlessAskedToKeep) {
  Listen();
  RawClient client(server_->address());
  client.Send("GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(client.Read().headers.at("connection"), "keep-alive");
  client.Send("GET /echo HTTP/1.0\r\n\r\n");
  EXPECT_EQ(client.Read().headers.at("connection"), "close");
  EXPECT_EQ(client.ReadToEnd(), "");
}

TEST_F(HttpServerTest, ClosesWhenAskedTo) {
  Listen();
  RawClient client(server_->address());
  client.Send(RawRequest("POST", "/echo", "x", "Connection: close\r\n"));
  const RawResponse response = client.Read();
  EXPECT_EQ(response.body, "x");
  EXPECT_EQ(response.headers.at("connection"), "close");
  const auto answered = std::chrono::steady_clock::now();
  EXPECT_EQ(client.ReadToEnd(), "");
  const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - answered;
  EXPECT_LT(waited.count(), HttpServer::kLingerS) << "it is told at once";
}

TEST_F(HttpServerTest, AnswersHeadWithoutABody) {
  Listen();
  RawClient client(server_->address());
  client.Send(RawRequest("HEAD", "/path/abc"));
  const RawResponse response = client.Read(/*head=*/true);
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.at("content-length"), "9");
  client.Send(RawRequest("POST", "/echo", "after"));
  EXPECT_EQ(client.Read().body, "after");
}

TEST_F(HttpServerTest, ReadsPaths) {
  Listen();
  EXPECT_EQ(Ask(RawRequest("GET", "/path/a?b=c")).body, "/path/a");
  EXPECT_EQ(Ask(RawRequest("GET", "/path/org%2Fname%20x%")).body, "/path/org/name x%");
  EXPECT_EQ(Ask(RawRequest("GET", "http://host:1/path/a")).body, "/path/a");
  // A proxy that inspects paths sees "/" here.
  EXPECT_EQ(Ask(RawRequest("GET", "http://host:1?q=/path/a")).status, 404);
  EXPECT_EQ(Ask(RawRequest("GET", "/path/%zz%4")).body, "/path/%zz%4");
}

TEST_F(HttpServerTest, SaysWhatIsNotThere) {
  Listen();
  RawResponse response = Ask(RawRequest("GET", "/nothing\"here"));
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(response.body, "404 NO_SUCH_PATH: There is nothing at /nothing\"here.");
  EXPECT_EQ(response.headers["x-should-retry"], "false");
  // A base URL with a component missing or repeated.
  for (const std::string path : {"/v1/echo", "/echo/", "//echo", "/echo/echo"}) {
    EXPECT_EQ(Ask(RawRequest("GET", path)).body,
              "404 NO_SUCH_PATH: There is nothing at " + path + ". Did you mean /echo?");
  }
  EXPECT_EQ(Ask(RawRequest("GET", "/ecko")).body,
            "404 NO_SUCH_PATH: There is nothing at /ecko. Did you mean /echo?");
  EXPECT_EQ(Ask(RawRequest("GET", "/")).body, "404 NO_SUCH_PATH: There is nothing at /.");
  response = Ask(RawRequest("DELETE", "/echo"));
  EXPECT_EQ(response.status, 405);
  EXPECT_EQ(response.headers.at("allow"), "GET, POST");
  EXPECT_EQ(response.headers["x-should-retry"], "false");
  EXPECT_EQ(response.headers.at("content-type"), "application/json");
}

TEST_F(HttpServerTest, SendsTheRequestIdBackWithEveryAnswer) {
  Listen();
  const std::string id = "x-request-id: my-id/1\r\n";
  EXPECT_EQ(Ask(RawRequest("POST", "/echo", "", id)).headers.at("x-request-id"), "my-id/1");
  EXPECT_EQ(Ask(RawRequest("GET", "/none", "", id)).headers.at("x-request-id"), "my-id/1");
  EXPECT_EQ(Ask(RawRequest("GET", "/drop", "", id)).headers.at("x-request-id"), "my-id/1");
  EXPECT_EQ(Ask(RawRequest("POST", "/drop", "", id)).headers.at("x-request-id"), "my-id/1");
  EXPECT_EQ(Ask(RawRequest("POST", "/echo")).headers.count("x-request-id"), 0u);
}

// With one of ours: the client can still be told which call it was.
TEST_F(HttpServerTest, AnswersAnInvalidRequestIdWithAnother) {
  Listen();
  std::set<std::string> ids;
  const std::vector<std::string> invalid = {"two words", std::string(129, 'i'), ""};
  for (const std::string& id : invalid) {
    const std::string header = "X-Request-Id: " + id + "\r\n";
    for (const char* path : {"/echo", "/none"}) {
      const RawResponse response = Ask(RawRequest("GET", path, "", header));
      ASSERT_EQ(response.headers.count("x-request-id"), 1u) << path << " " << id;
      EXPECT_THAT(response.headers.at("x-request-id"), StartsWith("req-"));
      ids.insert(response.headers.at("x-request-id"));
    }
    RawClient client(server_->address());
    client.Send(RawRequest("POST", "/hold", "", header));
    const auto exchange = held_.Take();
    EXPECT_FALSE(exchange->request().id_is_clients);
    exchange->Respond(200, {}, "");
    EXPECT_EQ(client.Read().headers.at("x-request-id"), exchange->request().id);
    // The next request on the connection has none.
    client.Send(RawRequest("POST", "/echo"));
    EXPECT_EQ(client.Read().headers.count("x-request-id"), 0u);
  }
  EXPECT_EQ(ids.size(), 2 * invalid.size());
}

// A route's own id is sent only if the client sent none, or an invalid one.
TEST_F(HttpServerTest, SendsOneRequestId) {
  Listen();
  for (const std::string id : {"", "theirs", "two words"}) {
    RawClient client(server_->address());
    client.Send(RawRequest("POST", "/hold", "", "X-Request-Id: " + id + "\r\n"));
    held_.Take()->Respond(200, {{"X-Request-Id", "ours"}}, "");
    EXPECT_EQ(client.Read().headers.at("x-request-id"), id == "theirs" ? id : "ours");
    client.Send(RawRequest("POST", "/hold"));  // the next one has none
    held_.Take()->Respond(200, {{"X-Request-Id", "ours"}}, "");
    EXPECT_EQ(client.Read().headers["x-request-id"], "ours");
  }
}

TEST_F(HttpServerTest, HeadersCannotBeForged) {
  Listen({}, {"*"});
  RawClient client(server_->address());
  client.Send(RawRequest("POST", "/hold", "", "x-request-id: a\tb\xff\r\n"));
  held_.Take()->Respond(200, {{"X-Other", "v\r\nX-Forged: 1\r\n\r\nbody"}}, "end");
  const RawResponse response = client.Read();
  EXPECT_THAT(response.headers.at("x-request-id"), StartsWith("req-"));
  EXPECT_EQ(response.headers.count("x-forged"), 0u);
  EXPECT_EQ(response.headers.at("x-other"), "vX-Forged: 1body");
  EXPECT_EQ(response.body, "end");
  // A line end inside a header starts another header or breaks the request; it is never sent back.
  const RawResponse broken =
      Ask(RawRequest("POST", "/echo", "", "Origin: http://a\r\n X-Forged: 1\r\n"));
  EXPECT_EQ(broken.headers.count("x-forged"), 0u);
}

TEST_F(HttpServerTest, LetsNoPageReadByDefault) {
  Listen();
  const RawResponse response = Ask(RawRequest("POST", "/echo", "x", "Origin: http://page\r\n"));
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.count("access-control-allow-origin"), 0u);
  EXPECT_EQ(Ask(RawRequest("OPTIONS", "/echo", "", "Origin: http://page\r\n")).status, 405);
}

TEST_F(HttpServerTest, LetsNamedPagesRead) {
  Listen({}, {"http://one", "http://two"});
  RawResponse response = Ask(RawRequest("POST", "/echo", "x", "Origin: http://two\r\n"));
  EXPECT_EQ(response.headers.at("access-control-allow-origin"), "http://two");
  EXPECT_EQ(response.headers.at("access-control-expose-headers"),
            "X-Request-Id, Retry-After, Retry-After-Ms, x-should-retry");
  EXPECT_EQ(response.headers.at("vary"), "Origin");
  response = Ask(RawRequest("POST", "/echo", "x", "Origin: http://three\r\n"));
  EXPECT_EQ(response.headers.count("access-control-allow-origin"), 0u);
  EXPECT_EQ(response.headers.at("vary"), "Origin");
  response = Ask(RawRequest("OPTIONS", "/echo", "",
                            "Origin: http://one\r\n"
                            "Access-Control-Request-Method: POST\r\n"
                            "Access-Control-Request-Headers: x-stainless-lang, content-type\r\n"));
  EXPECT_EQ(response.status, 204);
  EXPECT_EQ(response.headers.at("access-control-allow-origin"), "http://one");
  EXPECT_EQ(response.headers.at("access-control-allow-headers"), "x-stainless-lang, content-type");
  EXPECT_THAT(response.headers.at("access-control-allow-methods"), HasSubstr("POST"));
}

// A proxy may send others' requests on a page's connection.
TEST_F(HttpServerTest, NamesAPageToItsOwnRequestsOnly) {
  Listen({}, {"http://one"});
  RawClient client(server_->address());
  for (const bool page : {true, false}) {
    client.Send(RawRequest("POST", "/echo", "x", page ? "Origin: http://one\r\n" : ""));
    EXPECT_EQ(client.Read().headers.count("access-control-allow-origin"), page ? 1u : 0u);
  }
}

TEST_F(HttpServerTest, SaysWhyItCannotListen) {
  Listen();
  const auto listen = [](const std::string& address) {
    return ListeningSockets::Bind(address).status();
  };
  EXPECT_THAT(std::string(listen(server_->address()).message()), HasSubstr(server_->address()));
  for (const char* bad : {"8000", "host:", "127.0.0.1:65536", "127.0.0.1:80x", "no such host:1"}) {
    EXPECT_THAT(std::string(listen(bad).message()), HasSubstr(bad));
  }
  EXPECT_THAT(server_->address(), Not(HasSubstr(":0")));
}

// Which of several addresses are bound: see listening_sockets_test.
TEST_F(HttpServerTest, AnswersUnderAName) {
  Listen({}, {}, "localhost:0");
  EXPECT_THAT(server_->address(), testing::StartsWith("localhost:"));
  RawClient client("127.0.0.1" + server_->address().substr(server_->address().rfind(':')));
  client.Send(RawRequest("POST", "/echo", "x"));
  EXPECT_EQ(client.Read().body, "x");
}

// If one of two addresses is in use, the other is not served in its stead.
TEST_F(HttpServerTest, RefusesAHostOneOfWhoseAddressesIsInUse) {
  Listen();
  const std::string port = server_->address().substr(server_->address().rfind(':'));
  const auto second = ListeningSockets::Bind("localhost" + port).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.message()), HasSubstr("localhost" + port));
}

TEST(HttpReasonTest, NamesStatuses) {
  for (const int status : {200, 204, 400, 401, 403, 404, 405, 408, 413, 429, 431, 500, 503, 504}) {
    EXPECT_THAT(std::string(HttpReason(status)), Not(HasSubstr("unknown"))) << status;
  }
  EXPECT_EQ(HttpReason(429), "Too Many Requests");
}

}  // namespace
}  // namespace baram::server
