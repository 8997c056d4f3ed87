// UTF-8: what is valid, and where it may be cut.
#include "server/text/utf8.h"

#include <algorithm>

namespace baram::text {
namespace {

bool IsContinuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

}  // namespace

size_t CharacterSize(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const size_t left = text.size() - at;
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  size_t size = 0;
  // The second byte's range shuts out overlong forms, surrogates and what lies above U+10FFFF.
  unsigned char low = 0x80, high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    size = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    size = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    size = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  }
  if (size == 0 || left < size || byte(1) < low || byte(1) > high) return 0;
  for (size_t i = 2; i < size; ++i) {
    if (!IsContinuation(byte(i))) return 0;
  }
  return size;
}

bool IsValidUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t size = CharacterSize(text, at);
    if (size == 0) return false;
    at += size;
  }
  return true;
}

std::string MendUtf8(std::string_view text) {
  std::string mended;
  mended.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t size = CharacterSize(text, at);
    mended += size > 0 ? text.substr(at, size) : "\uFFFD";
    at += std::max<size_t>(size, 1);
  }
  return mended;
}

size_t FloorToCodePoint(std::string_view text, size_t limit) {
  if (limit >= text.size()) return text.size();
  while (limit > 0 && IsContinuation(static_cast<unsigned char>(text[limit]))) --limit;
  return limit;
}

}  // namespace baram::text
