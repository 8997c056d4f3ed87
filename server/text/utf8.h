// Small facts about UTF-8: is a text valid, how it becomes so, where may it be cut.
#ifndef BARAM_SERVER_TEXT_UTF8_H_
#define BARAM_SERVER_TEXT_UTF8_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace baram::text {

// No overlong forms, no surrogates, nothing above U+10FFFF.
bool IsValidUtf8(std::string_view text);

// Bytes of the character that begins at `text[at]`, or 0 if none does. `at` is within the text.
size_t CharacterSize(std::string_view text, size_t at);

// The text with U+FFFD in place of each byte that is of no character.
std::string MendUtf8(std::string_view text);

// Counts the code points of a text that comes in pieces, which may cut characters: one counts with
// its first byte. Bytes that are of no character count as decoders of bytes show them, as one
// U+FFFD for the longest piece of a character, or for a byte.
class CodePointCounter {
 public:
  void Add(std::string_view bytes);
  size_t count() const { return count_; }

 private:
  size_t count_ = 0;
  int missing_ = 0;                   // continuation bytes of the last character
  unsigned char low_ = 0, high_ = 0;  // what the next of them may be
};

// The largest offset not above `limit` where a valid text may be cut between two code points.
size_t FloorToCodePoint(std::string_view text, size_t limit);

}  // namespace baram::text

#endif  // BARAM_SERVER_TEXT_UTF8_H_
