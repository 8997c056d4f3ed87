// UTF-8: whether a text is valid, how to make it so, where it may be cut.
#ifndef BARAM_SERVER_TEXT_UTF8_H_
#define BARAM_SERVER_TEXT_UTF8_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace baram::text {

// No overlong forms, no surrogates, nothing above U+10FFFF.
bool IsValidUtf8(std::string_view text);

// The size in bytes of the character at `text[at]`, or 0 if it is invalid. `at` must be within the
// text.
size_t CharacterSize(std::string_view text, size_t at);

// The text with each byte that is not part of a valid character replaced by U+FFFD.
std::string MendUtf8(std::string_view text);

// Counts the code points of a text that arrives in pieces, which may cut characters: a code point
// counts at its first byte. Invalid bytes count as byte decoders show them, as one U+FFFD per
// maximal prefix of a character, or per byte.
class CodePointCounter {
 public:
  void Add(std::string_view bytes);
  size_t count() const { return count_; }

 private:
  size_t count_ = 0;
  int missing_ = 0;                   // continuation bytes missing from the last character
  unsigned char low_ = 0, high_ = 0;  // allowed range of the next one
};

// The largest offset, at most `limit`, where valid text may be cut between two code points.
size_t FloorToCodePoint(std::string_view text, size_t limit);

}  // namespace baram::text

#endif  // BARAM_SERVER_TEXT_UTF8_H_
