// Requests that a proxy in front of the server might read differently are refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/server/http_bed.h"

namespace baram::server {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using HttpFramingTest = HttpBed;

TEST_F(HttpFramingTest, RefusesWhatIsNotHttp) {
  Listen();
  for (const std::string request : {
           "nonsense\r\n\r\n",
           "GET /echo HTTP/9\r\n\r\n",
           "GET /echo HTTP/1.1\r\nHost: a\r\nbroken header\r\n\r\n",
           "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
           "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
           "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: "
           "chunked\r\n\r\n0\r\n\r\n",
           "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
           "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           "GET /echo HTTP/1.1\r\nHost: a\r\nx: \x01\r\n\r\n",
           // Not after a wait for the headers' end: TLS, a foreign line end.
           "\x16\x03\x01\x02",
           "GET /echo HTTP/1.1\nHost: a\n\n",
       }) {
    RawResponse response = Ask(request);
    EXPECT_EQ(response.status, 400) << request;
    EXPECT_EQ(response.headers.at("connection"), "close") << request;
    EXPECT_EQ(response.headers["x-should-retry"], "false") << request;
    EXPECT_THAT(response.body, HasSubstr(": This is not an HTTP/1.1 request")) << request;
  }
}

// A proxy in front of us may have used a different one than we would, or none.
TEST_F(HttpFramingTest, RefusesRequestsWithoutOneHost) {
  Listen();
  for (const auto& [hosts, count] :
       {std::pair("", "0"), std::pair("Host: a\r\nhost: a\r\n", "2")}) {
    const RawResponse response = Ask(absl::StrCat("GET /echo HTTP/1.1\r\n", hosts, "\r\n"));
    EXPECT_EQ(response.status, 400) << hosts;
    EXPECT_EQ(response.body, absl::StrCat("400 UNCLEAR_HOST: This is not an HTTP/1.1 request: it "
                                          "has ",
                                          count, " Host headers. Send one."));
    EXPECT_EQ(response.headers.at("connection"), "close") << hosts;
  }
  EXPECT_EQ(Ask("GET /path/old HTTP/1.0\r\n\r\n").body, "/path/old");
}

// If a proxy and we saw different ends of a body, its remainder would become someone else's
// request.
TEST_F(HttpFramingTest, RefusesBodiesWhoseEndIsNotClear) {
  Listen();
  for (const std::string framing : {
           "Transfer-Encoding: gzip\r\n",
           "Transfer-Encoding: xchunked\r\n",
           "Transfer-Encoding: identity\r\n",
           "Transfer-Encoding: chunked, gzip\r\n",
           "Transfer-Encoding: gzip, chunked\r\n",
           "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
           "Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n",
           "Content-Length: 4\r\nTransfer-Encoding: xchunked\r\n",
           "Content-Length: 4\r\nContent-Length: 4\r\n",
           "Content-Length: 4, 4\r\n",
       }) {
    RawClient client(server_->address());
    client.Send("POST /echo HTTP/1.1\r\nHost: a\r\n" + framing + "\r\n" +
                RawRequest("GET", "/path/stolen"));
    const RawResponse response = client.Read();
    EXPECT_EQ(response.status, 400) << framing;
    EXPECT_THAT(response.body, HasSubstr(": This is not an HTTP/1.1 request")) << framing;
    EXPECT_EQ(client.ReadToEnd(), "") << framing;
  }
}

TEST_F(HttpFramingTest, RefusesFoldedHeaders) {
  Listen();
  for (const std::string folded :
       {"Host: a\r\nTransfer-Encoding:\r\n chunked\r\n", "Host: a\r\nContent-Length:\r\n\t45\r\n",
        "Host:\r\n a\r\n", "Host: a\r\nx-other: b\r\n c\r\n"}) {
    RawClient client(server_->address());
    client.Send("POST /echo HTTP/1.1\r\n" + folded + "\r\n" + RawRequest("GET", "/path/stolen"));
    const RawResponse response = client.Read();
    EXPECT_EQ(response.status, 400) << folded;
    EXPECT_THAT(response.body, StartsWith("400 FOLDED_HEADER: This is not an HTTP/1.1 request"));
    EXPECT_EQ(client.ReadToEnd(), "") << folded;
  }
}

// Some implementations read a line end there; a tab is allowed.
TEST_F(HttpFramingTest, RefusesControlCharactersBetweenChunks) {
  Listen();
  using std::string_literals::operator""s;
  const std::string head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const std::string& control : {"\n"s, "\0"s, "\x01"s, "\x7f"s}) {
    for (const std::string& chunks : {"2;a=\"x" + control + "y\"\r\nab\r\n0\r\n\r\n",
                                      "2\r\nab\r\n0;a=\"x" + control + "y\"\r\n\r\n",
                                      "2\r\nab\r\n0\r\na: x" + control + "y\r\n\r\n"}) {
      RawClient client(server_->address());
      client.Send(head + chunks + RawRequest("GET", "/path/stolen"));
      const RawResponse response = client.Read();
      EXPECT_EQ(response.status, 400) << chunks;
      EXPECT_THAT(response.body, StartsWith("400 NOT_HTTP: ")) << chunks;
      EXPECT_EQ(client.ReadToEnd(), "") << chunks;
    }
  }
  EXPECT_EQ(Ask(head + "2;a=\"x\ty\"\r\nab\r\n0\r\n\r\n").body, "ab");
}

TEST_F(HttpFramingTest, RefusesCompressedBodies) {
  Listen();
  const RawResponse refused =
      Ask(RawRequest("POST", "/echo", "\x1f\x8b", "Content-Encoding: gzip\r\n"));
  EXPECT_EQ(refused.status, 415);
  EXPECT_THAT(refused.body, HasSubstr("send the body uncompressed"));
  EXPECT_EQ(refused.headers.at("accept-encoding"), "identity");
  EXPECT_EQ(Ask(RawRequest("POST", "/echo", "x", "Content-Encoding: Identity\r\n")).body, "x");
  EXPECT_EQ(Ask(RawRequest("GET", "/echo", "", "Content-Encoding: gzip\r\n")).status, 200);
}

}  // namespace
}  // namespace baram::server
