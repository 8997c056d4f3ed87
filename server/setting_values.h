// Reads and writes values of settings: byte sizes, endpoints, names.
#ifndef BARAM_SERVER_SETTING_VALUES_H_
#define BARAM_SERVER_SETTING_VALUES_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace baram::server {

inline constexpr double kMaxSettingBytes = 1LL << 50;

// "4GiB", "0.5g", "500MB", "1024", rounded down to a byte; of sizes below one byte only 0.
std::optional<int64_t> ParseBytes(std::string text);
// true, on, yes, enable, t, y, 1 or their opposites, in any case.
std::optional<bool> ParseSwitch(std::string text);
// In a unit that keeps the number whole: "8MiB", "4GB".
std::string FormatBytes(int64_t bytes);
std::string FormatNumber(double value);

// The name a folder is served under by default: `org/name` inside a Hugging Face cache, else the
// folder's own name.
std::string DefaultModelName(const std::string& folder);

// The parts of "127.0.0.1:8000" or "[::1]:8000".
struct Endpoint {
  std::string host;
  uint16_t port = 0;
};
absl::StatusOr<Endpoint> ParseEndpoint(std::string_view text);

// An origin as sent by browsers: scheme://host[:port] in lower case, without a path and without the
// scheme's default port; or "null", which pages opened from files send.
bool IsOrigin(std::string_view text);

// The closest of `known` if it is near enough to `word` to suggest a typo, else empty.
std::string_view Nearest(std::string_view word, std::span<const std::string_view> known);

}  // namespace baram::server

#endif  // BARAM_SERVER_SETTING_VALUES_H_
