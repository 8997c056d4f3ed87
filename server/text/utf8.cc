// UTF-8: validity, and where text may be cut.
#include "server/text/utf8.h"

#include <algorithm>

namespace baram::text {
namespace {

bool IsContinuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

// What a character's first byte determines. The second byte's range excludes overlong forms,
// surrogates and code points above U+10FFFF.
struct Lead {
  size_t size = 0;  // in bytes; 0 if no character begins with it
  unsigned char low = 0x80, high = 0xBF;
};

Lead LeadOf(unsigned char byte) {
  if (byte < 0x80) return {1};
  if (byte >= 0xC2 && byte <= 0xDF) return {2};
  if (byte == 0xE0) return {3, 0xA0};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {3};
  if (byte == 0xF0) return {4, 0x90};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  if (byte >= 0xF1 && byte <= 0xF3) return {4};
  return {};
}

}  // namespace

size_t CharacterSize(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const Lead lead = LeadOf(byte(0));
  if (lead.size < 2) return lead.size;
  if (text.size() - at < lead.size || byte(1) < lead.low || byte(1) > lead.high) return 0;
  for (size_t i = 2; i < lead.size; ++i) {
    if (!IsContinuation(byte(i))) return 0;
  }
  return lead.size;
}

void CodePointCounter::Add(std::string_view bytes) {
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (missing_ > 0 && byte >= low_ && byte <= high_) {
      --missing_;
      low_ = 0x80, high_ = 0xBF;
      continue;
    }
    const Lead lead = LeadOf(byte);
    ++count_;
    missing_ = lead.size > 1 ? static_cast<int>(lead.size) - 1 : 0;
    low_ = lead.low, high_ = lead.high;
  }
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
