// HTTP text helpers: header values, request targets.
#ifndef BARAM_SERVER_HTTP_TEXT_H_
#define BARAM_SERVER_HTTP_TEXT_H_

#include <boost/beast/core/string.hpp>
#include <string>
#include <string_view>

namespace baram::server {

// A tab is none here: it may stand between words.
inline bool IsControl(char c) {
  return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F;
}

std::string LowerCase(boost::beast::string_view text);

// Makes a client's text safe as a header value: line ends would forge headers, and it could be
// arbitrarily long. At most 1024 bytes, none of them a control character.
std::string HeaderSafe(boost::beast::string_view text);

// The path of a request target, "/v1/models/org%2Fname?x=1" or "http://host/v1/models": without the
// query, percent-decoded.
std::string PathOf(boost::beast::string_view target);

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP_TEXT_H_
