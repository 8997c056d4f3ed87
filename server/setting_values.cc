// Reads and writes values of settings: byte sizes, endpoints, names.
#include "server/setting_values.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/text_piece.h"

namespace baram::server {

std::string FormatNumber(double v) {
  if (v == std::floor(v) && std::abs(v) < 1e15) return absl::StrCat(static_cast<int64_t>(v));
  return absl::StrCat(v);
}

std::string FormatBytes(int64_t v) {
  constexpr std::pair<int64_t, std::string_view> kUnits[] = {
      {1LL << 40, "TiB"},    {1LL << 30, "GiB"}, {1LL << 20, "MiB"}, {1'000'000'000'000, "TB"},
      {1'000'000'000, "GB"}, {1'000'000, "MB"},  {1LL << 10, "KiB"}};
  for (const auto& [bytes, unit] : kUnits) {
    if (v != 0 && v % bytes == 0) return absl::StrCat(v / bytes, Piece(unit));
  }
  return absl::StrCat(v);
}

// "4GiB", "500MB", "4g", "1024".
std::optional<int64_t> ParseBytes(std::string text) {
  constexpr std::pair<std::string_view, double> kSuffixes[] = {
      {"kib", 1024.0}, {"mib", 1048576.0}, {"gib", 1073741824.0}, {"tib", 1099511627776.0},
      {"kb", 1e3},     {"mb", 1e6},        {"gb", 1e9},           {"tb", 1e12},
      {"k", 1024.0},   {"m", 1048576.0},   {"g", 1073741824.0},   {"t", 1099511627776.0},
      {"b", 1},
  };
  absl::AsciiStrToLower(&text);
  double scale = 1;
  for (const auto& [suffix, factor] : kSuffixes) {
    if (text.size() > suffix.size() && text.ends_with(suffix)) {
      text.resize(text.size() - suffix.size());
      scale = factor;
      break;
    }
  }
  double value = 0;
  if (!absl::SimpleAtod(text, &value)) return std::nullopt;
  const double bytes = value * scale;
  if (!(std::abs(bytes) <= kMaxSettingBytes)) return std::nullopt;  // or not a number
  // Not "automatic", the meaning of 0 for some settings: 0.4 was meant as a share.
  if (bytes != 0 && std::abs(bytes) < 1) return std::nullopt;
  return static_cast<int64_t>(bytes);
}

std::optional<bool> ParseSwitch(std::string text) {
  absl::AsciiStrToLower(&text);
  for (const char* on : {"true", "on", "yes", "enable", "t", "y", "1"}) {
    if (text == on) return true;
  }
  for (const char* off : {"false", "off", "no", "disable", "f", "n", "0"}) {
    if (text == off) return false;
  }
  return std::nullopt;
}

std::string DefaultModelName(const std::string& folder) {
  std::error_code failed;
  std::filesystem::path path = std::filesystem::absolute(folder, failed).lexically_normal();
  if (failed) path = folder;
  if (path.filename().empty()) path = path.parent_path();
  // A Hugging Face cache: models--org--name/snapshots/<revision>.
  constexpr std::string_view kPrefix = "models--";
  for (const auto& part : path) {
    const std::string name = part.string();
    if (!name.starts_with(kPrefix) || name.size() == kPrefix.size()) continue;
    return absl::StrReplaceAll(name.substr(kPrefix.size()), {{"--", "/"}});
  }
  return path.filename().string();
}

absl::StatusOr<Endpoint> ParseEndpoint(std::string_view text) {
  const auto fail = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", Piece(text), "\" is not HOST:PORT, as in 127.0.0.1:8000."));
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return fail();
  Endpoint endpoint;
  endpoint.host = std::string(text.substr(0, colon));
  const bool bracketed = endpoint.host.front() == '[' && endpoint.host.back() == ']';
  if (bracketed) endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
  if (endpoint.host.empty()) return fail();
  if (!bracketed && endpoint.host.find(':') != std::string::npos) return fail();
  int32_t port = -1;
  if (!absl::SimpleAtoi(Piece(text.substr(colon + 1)), &port) || port < 0 || port > 65535) {
    return fail();
  }
  endpoint.port = static_cast<uint16_t>(port);
  return endpoint;
}

bool IsOrigin(std::string_view text) {
  if (text == "null") return true;
  // Whether `part` is not empty and consists of lower-case letters, digits and `more`.
  const auto made_of = [](std::string_view part, std::string_view more) {
    return !part.empty() && std::ranges::all_of(part, [more](char c) {
      const auto byte = static_cast<unsigned char>(c);
      return absl::ascii_islower(byte) || absl::ascii_isdigit(byte) || more.find(c) != more.npos;
    });
  };
  const size_t colon = text.find("://");
  if (colon == std::string_view::npos) return false;
  const std::string_view scheme = text.substr(0, colon);
  std::string_view host = text.substr(colon + 3);
  const size_t last = host.rfind(':');
  if (last != std::string_view::npos && !host.ends_with(']')) {
    const std::string port(host.substr(last + 1));
    host = host.substr(0, last);
    int32_t number = 0;
    // Compare with the canonical form, to rule out leading characters.
    if (!absl::SimpleAtoi(port, &number) || number < 1 || number > 65535 ||
        port != absl::StrCat(number) || (scheme == "http" && number == 80) ||
        (scheme == "https" && number == 443)) {
      return false;
    }
  }
  if (!made_of(scheme, "+-.") || !absl::ascii_islower(static_cast<unsigned char>(scheme[0]))) {
    return false;
  }
  if (!host.starts_with('[') || !host.ends_with(']')) return made_of(host, ".-_");
  host = host.substr(1, host.size() - 2);
  in6_addr address{};
  return made_of(host, ":.") && inet_pton(AF_INET6, std::string(host).c_str(), &address) == 1;
}

std::string_view Nearest(std::string_view word, std::span<const std::string_view> known) {
  std::string_view best;
  size_t best_distance = std::max<size_t>(2, word.size() / 4) + 1;
  std::vector<size_t> row;
  for (const std::string_view candidate : known) {
    // Levenshtein distance, one row of the table at a time.
    row.resize(candidate.size() + 1);
    for (size_t j = 0; j <= candidate.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= word.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j <= candidate.size(); ++j) {
        const size_t replaced = diagonal + (word[i - 1] == candidate[j - 1] ? 0 : 1);
        diagonal = row[j];
        row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

}  // namespace baram::server
