// Finds stop strings in text that arrives in pieces, without ever letting out the beginning of one.
#ifndef BARAM_SERVER_TEXT_STOP_MATCHER_H_
#define BARAM_SERVER_TEXT_STOP_MATCHER_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace baram::text {

// Stop strings made ready to be looked for. Immutable: the outputs of a reply share them.
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

// The match that ends first wins; of several that end at the same byte, the one that starts first.
// The choice does not depend on how the text was cut into pieces. At most the longest stop string
// less one byte waits inside, plus the start of one character. One owner, one thread at a time.
class StopMatcher {
 public:
  struct Match {
    size_t stop_index;  // in the list given to StopStrings
    size_t position;    // bytes before the match, counted from the start of the reply
  };

  // `include_stop` lets the matched string itself out too.
  StopMatcher(std::shared_ptr<const StopStrings> stops, bool include_stop);

  // Takes the next piece (valid UTF-8) and appends to `text` what may be shown, always whole
  // characters. After a match nothing more is taken or let out.
  void Feed(std::string_view piece, std::string* text);
  // The reply ended without a match: appends what still waits.
  void End(std::string* text);

  const std::optional<Match>& match() const { return match_; }
  const std::string& stop(size_t index) const { return stops_->stops_[index].text; }

 private:
  // Moves every automaton by one byte. Where stop strings end here, sets match_ (but for its
  // position) to the longest of them and returns its size; else 0.
  size_t Advance(char byte);

  std::shared_ptr<const StopStrings> stops_;
  std::vector<size_t> matched_;  // of each: length of the prefix that ends at the last byte fed
  bool include_stop_;
  std::string waiting_;  // the last bytes fed, not let out yet
  size_t consumed_ = 0;  // bytes of the pieces fed so far
  std::optional<Match> match_;
};

}  // namespace baram::text

#endif  // BARAM_SERVER_TEXT_STOP_MATCHER_H_
