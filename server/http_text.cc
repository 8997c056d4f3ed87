// HTTP text helpers: see the header.
#include "server/http_text.h"

#include <cstddef>

namespace baram::server {

namespace {

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string LowerCase(boost::beast::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
  }
  return lower;
}

std::string HeaderSafe(boost::beast::string_view text) {
  constexpr size_t kMaxBytes = 1024;
  std::string safe;
  for (const char c : text.substr(0, kMaxBytes)) {
    if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7F) safe.push_back(c);
  }
  return safe;
}

std::string PathOf(boost::beast::string_view target) {
  std::string_view rest(target.data(), target.size());
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (rest.substr(0, scheme.size()) != scheme) continue;
    // A query ends the host as well: what follows "?" never names a path.
    const size_t end = rest.find_first_of("/?", scheme.size());
    rest = end == std::string_view::npos || rest[end] == '?' ? "/" : rest.substr(end);
    break;
  }
  rest = rest.substr(0, rest.find('?'));
  std::string path;
  for (size_t i = 0; i < rest.size(); ++i) {
    const int high = rest[i] == '%' && i + 2 < rest.size() ? HexValue(rest[i + 1]) : -1;
    const int low = high >= 0 ? HexValue(rest[i + 2]) : -1;
    path.push_back(low >= 0 ? static_cast<char>(high * 16 + low) : rest[i]);
    if (low >= 0) i += 2;
  }
  return path;
}

}  // namespace baram::server
