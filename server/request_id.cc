// Request ids: see the header.
#include "server/request_id.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "server/random.h"

namespace baram::server {

bool IsRequestId(std::string_view text) {
  constexpr size_t kMaxBytes = 128;
  return !text.empty() && text.size() <= kMaxBytes && std::ranges::all_of(text, [](char c) {
    return c > ' ' && c <= '~' && c != '"' && c != '\'' && c != '\\';
  });
}

absl::Status CheckRequestId(std::string_view text) {
  if (IsRequestId(text)) return absl::OkStatus();
  return InvalidField("request_id",
                      "request_id must be 1 to 128 characters of printable ASCII, without blanks, "
                      "quotes and backslashes.");
}

std::string NewRequestId() {
  return absl::StrCat("req-", absl::Hex(RandomBits(), absl::kZeroPad16));
}

}  // namespace baram::server
