// Makes text safe for terminals.
#include "server/terminal_text.h"

#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "server/text/utf8.h"

namespace baram::server {

bool HoldsControl(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    if (absl::ascii_iscntrl(byte) || (byte == 0xC2 && next >= 0x80 && next <= 0x9F)) return true;
  }
  return false;
}

std::string ForTerminal(std::string_view text) {
  std::string shown;
  shown.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t size = text::CharacterSize(text, at);
    if (size == 0) {
      absl::StrAppendFormat(&shown, "\\x%02x", static_cast<unsigned char>(text[at]));
      ++at;
      continue;
    }
    const std::string_view character = text.substr(at, size);
    if (character == "\n" || character == "\t" || !HoldsControl(character)) {
      shown += character;
    } else {
      // The last byte of a C1 character, C2 80 to C2 9F, is its code point.
      absl::StrAppendFormat(&shown, "\\u%04x", static_cast<unsigned char>(character.back()));
    }
    at += size;
  }
  return shown;
}

}  // namespace baram::server
