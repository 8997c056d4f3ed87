// The memory of a request's body.
#include "server/http_body.h"

#include <gtest/gtest.h>

#include <boost/beast/http/parser.hpp>
#include <string>

namespace baram::server {
namespace {

namespace http = boost::beast::http;

class HttpBodyTest : public testing::Test {
 protected:
  void Put(const std::string& text) {
    boost::system::error_code error;
    parser_.eager(true);
    EXPECT_EQ(parser_.put(boost::asio::buffer(text), error), text.size());
    EXPECT_FALSE(error && error != http::error::need_more) << error.message();
  }
  int64_t held() const { return HeldBytes(parser_.get().body()); }

  http::request_parser<HttpBody> parser_;
};

TEST_F(HttpBodyTest, TakesMemoryAsBytesCome) {
  Put("POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n");
  EXPECT_EQ(held(), 0);
  std::string all;
  for (int i = 0; i < 1000; ++i) {
    const std::string piece(1000, static_cast<char>('a' + i % 26));
    Put(piece);
    all += piece;
    EXPECT_GE(held(), std::ssize(all));
    EXPECT_LE(held(), 2 * std::ssize(all));
  }
  EXPECT_TRUE(parser_.is_done());
  EXPECT_TRUE(parser_.get().body() == all);
  EXPECT_EQ(held(), 1000000);  // what was announced
}

TEST_F(HttpBodyTest, CountsWhatChunksTake) {
  Put("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
  std::string all;
  std::string end;
  for (int i = 0; i < 33; ++i) {
    Put(end + "3e8\r\n" + std::string(1000, 'a'));
    all.append(1000, 'a');
    end = "\r\n";
  }
  Put("\r\n0\r\n\r\n");
  EXPECT_TRUE(parser_.get().body() == all);
  EXPECT_EQ(held(), 64000);
}

}  // namespace
}  // namespace baram::server
