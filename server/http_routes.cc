// HTTP routes: see the header.
#include "server/http_routes.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/setting_values.h"
#include "server/text/utf8.h"

namespace baram::server {

namespace {

bool Matches(std::string_view pattern, std::string_view path) {
  if (!pattern.ends_with('*')) return path == pattern;
  pattern.remove_suffix(1);
  return path.starts_with(pattern);
}

// Most unknown paths come from a client's base URL without "/v1", or with it twice, or with a
// trailing slash or the whole path.
std::string NothingAt(std::span<const HttpRoute> routes, const std::string& path) {
  std::string message = "There is nothing at " + path + ".";
  std::string plain;  // without redundant slashes
  for (const char c : path) {
    if (c != '/' || !plain.ends_with('/')) plain += c;
  }
  if (plain.ends_with('/')) plain.pop_back();
  if (plain.empty()) return message;
  std::vector<std::string_view> known;
  for (const HttpRoute& route : routes) {
    if (route.path.ends_with('*')) continue;
    const bool near = plain.ends_with(route.path) || route.path.ends_with(plain) ||
                      plain.starts_with(route.path + "/");
    if (near) return message + " Did you mean " + route.path + "?";
    known.push_back(route.path);
  }
  const std::string_view nearest = Nearest(plain, known);
  if (!nearest.empty()) message += " Did you mean " + std::string(nearest) + "?";
  return message;
}

}  // namespace

std::variant<const HttpRoute*, NoRoute> FindRoute(std::span<const HttpRoute> routes,
                                                  std::string_view method, std::string_view path) {
  std::string allowed;
  for (const HttpRoute& route : routes) {
    if (!Matches(route.path, path)) continue;
    if (route.method == method) return &route;
    allowed += (allowed.empty() ? "" : ", ") + route.method;
  }
  constexpr size_t kShownBytes = 256;
  const std::string shown(path.substr(0, text::FloorToCodePoint(path, kShownBytes)));
  if (allowed.empty()) return NoRoute{{404, "NO_SUCH_PATH", NothingAt(routes, shown)}, {}};
  return NoRoute{{405, "WRONG_METHOD", absl::StrCat(shown, " takes ", allowed, " only.")},
                 {{"Allow", allowed}}};
}

}  // namespace baram::server
