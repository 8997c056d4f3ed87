// Framing of HTTP requests: see the header.
#include "server/http_framing.h"

#include <algorithm>
#include <boost/beast/http/error.hpp>

#include "absl/strings/str_cat.h"
#include "server/http_text.h"

namespace baram::server {

namespace http = boost::beast::http;

namespace {

size_t Count(const http::fields& header, http::field name) {
  return static_cast<size_t>(std::count_if(
      header.begin(), header.end(), [name](const auto& field) { return field.name() == name; }));
}

// Whether a header delimits its body in the one way that all implementations agree on (6.3).
bool EndIsClear(const http::fields& header, bool http11) {
  const size_t lengths = Count(header, http::field::content_length);
  const size_t codings = Count(header, http::field::transfer_encoding);
  if (lengths + codings > 1) return false;
  if (codings > 0) return http11 && LowerCase(header[http::field::transfer_encoding]) == "chunked";
  const auto length = header[http::field::content_length];
  return std::all_of(length.begin(), length.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

HttpError HeadFault(HttpHead::State state, const HttpLimits& limits) {
  switch (state) {
    case HttpHead::State::kTooLarge:
      return {431, "HEADERS_TOO_LARGE",
              absl::StrCat("The request's line and headers exceed the limit of ",
                           limits.max_header_bytes, " bytes.")};
    case HttpHead::State::kTooMany:
      return {431, "TOO_MANY_HEADERS",
              absl::StrCat("The request has more than ", limits.max_headers, " headers.")};
    case HttpHead::State::kFolded:
      return {400, "FOLDED_HEADER",
              "This is not an HTTP/1.1 request: a header continues on the next line. Send each in "
              "one line."};
    default:
      return {400, "NOT_HTTP",
              "This is not an HTTP/1.1 request: there is a control character in its line or "
              "headers, or a line that does not end with CR LF."};
  }
}

std::optional<HttpError> FramingFault(const http::fields& header, bool http11) {
  if (!EndIsClear(header, http11)) {
    return HttpError{400, "UNCLEAR_BODY_END",
                     "This is not an HTTP/1.1 request: the end of its body is not clear. Send one "
                     "Content-Length, or Transfer-Encoding: chunked."};
  }
  const size_t hosts = Count(header, http::field::host);
  if (hosts > 1 || (hosts == 0 && http11)) {  // 3.2
    return HttpError{400, "UNCLEAR_HOST",
                     absl::StrCat("This is not an HTTP/1.1 request: it has ", hosts,
                                  " Host headers. Send one.")};
  }
  return std::nullopt;
}

void CheckChunk(uint64_t /*size*/, boost::beast::string_view extensions,
                boost::system::error_code& error) {
  if (std::any_of(extensions.begin(), extensions.end(), IsControl)) {
    error = http::error::bad_chunk_extension;
  }
}

}  // namespace baram::server
