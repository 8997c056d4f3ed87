// Requests that exceed the limits of a head, or that a proxy in front of us might read differently
// (RFC 9112).
#ifndef BARAM_SERVER_HTTP_FRAMING_H_
#define BARAM_SERVER_HTTP_FRAMING_H_

#include <boost/beast/core/string.hpp>
#include <boost/beast/http/fields.hpp>
#include <boost/system/error_code.hpp>
#include <cstdint>
#include <optional>

#include "server/http_head.h"
#include "server/http_server.h"

namespace baram::server {

// The fault of a head in a state other than kMore and kWhole.
HttpError HeadFault(HttpHead::State state, const HttpLimits& limits);

// The fault of a request whose body's end or whose Host is ambiguous: a proxy may have seen, and
// admitted, different requests than we would.
std::optional<HttpError> FramingFault(const boost::beast::http::fields& header, bool http11);

// For Beast's parser, which accepts any byte inside quotes: an error for control characters in the
// extensions of a chunk. A proxy that reads a line end there sees a different body.
void CheckChunk(uint64_t size, boost::beast::string_view extensions,
                boost::system::error_code& error);

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP_FRAMING_H_
