// Finds stop strings in text that arrives in pieces, without ever showing the beginning of one.
#ifndef BARAM_SERVER_TEXT_STOP_MATCHER_H_
#define BARAM_SERVER_TEXT_STOP_MATCHER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace baram::text {

// Preprocessed stop strings. Immutable: the outputs of a reply share them.
class StopStrings {
 public:
  // Empty strings never match.
  explicit StopStrings(std::vector<std::string> stops);

 private:
  friend class StopMatcher;

  // With the Knuth-Morris-Pratt automaton over its bytes.
  struct Stop {
    std::string text;
    std::vector<size_t> border;  // border[i]: longest proper prefix of text[0..i] that also ends it
  };
  std::vector<Stop> stops_;
};

// The match that ends first wins; among several that end at the same byte, the first in the list.
// The choice does not depend on how the text was cut into pieces. At most the longest stop string
// less one byte is held back, plus the start of one character. One owner, one thread at a time.
class StopMatcher {
 public:
  // `include_stop` also shows the matched string itself.
  StopMatcher(std::shared_ptr<const StopStrings> stops, bool include_stop);

  // Takes the next piece (valid UTF-8) and appends to `text` what may be shown, always whole
  // characters. Unless `may_match`, a stop string that ends within this piece does not match; one
  // may begin in it. After a match nothing more is taken or shown.
  void Feed(std::string_view piece, std::string* text, bool may_match = true);
  // The reply ended without a match: appends the text still held back.
  void End(std::string* text);

  // The stop string that matched, or null. It lives as long as `stops`.
  const std::string* match() const { return match_; }

 private:
  // Advances every automaton by one byte. If stop strings end here, the first becomes match_.
  void Advance(char byte, bool may_match);

  std::shared_ptr<const StopStrings> stops_;
  std::vector<size_t> matched_;  // of each: length of the prefix that ends at the last byte fed
  bool include_stop_;
  std::string waiting_;  // the last bytes fed, still held back
  const std::string* match_ = nullptr;
};

}  // namespace baram::text

#endif  // BARAM_SERVER_TEXT_STOP_MATCHER_H_
