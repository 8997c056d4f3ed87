// Finds the route of an HTTP request.
#ifndef BARAM_SERVER_HTTP_ROUTES_H_
#define BARAM_SERVER_HTTP_ROUTES_H_

#include <span>
#include <string_view>
#include <variant>

#include "server/http_server.h"

namespace baram::server {

// The answer to a request that no route takes.
struct NoRoute {
  HttpError error;
  HttpHeaders headers;
};

// The first of `routes` that takes the request; if there is none, 405 for a path that takes other
// methods, else 404.
std::variant<const HttpRoute*, NoRoute> FindRoute(std::span<const HttpRoute> routes,
                                                  std::string_view method, std::string_view path);

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP_ROUTES_H_
