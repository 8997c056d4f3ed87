// Knuth-Morris-Pratt over bytes, one automaton per stop string; text that may still match is held
// back.
#include "server/text/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "server/text/utf8.h"

namespace baram::text {
namespace {

std::vector<size_t> Borders(std::string_view text) {
  std::vector<size_t> border(text.size(), 0);
  for (size_t i = 1, length = 0; i < text.size(); ++i) {
    while (length > 0 && text[i] != text[length]) length = border[length - 1];
    if (text[i] == text[length]) ++length;
    border[i] = length;
  }
  return border;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> stops) {
  stops_.reserve(stops.size());
  for (std::string& stop : stops) {
    std::vector<size_t> border = Borders(stop);
    stops_.push_back({std::move(stop), std::move(border)});
  }
}

StopMatcher::StopMatcher(std::shared_ptr<const StopStrings> stops, bool include_stop)
    : stops_(std::move(stops)), matched_(stops_->stops_.size(), 0), include_stop_(include_stop) {}

void StopMatcher::Feed(std::string_view piece, std::string* text, bool may_match) {
  if (match_ != nullptr) return;
  for (size_t i = 0; i < piece.size(); ++i) {
    Advance(piece[i], may_match);
    if (match_ == nullptr) continue;
    waiting_.append(piece.substr(0, i + 1));
    text->append(waiting_, 0, waiting_.size() - (include_stop_ ? 0 : match_->size()));
    waiting_.clear();
    return;
  }
  waiting_.append(piece);
  size_t held = 0;
  for (const size_t matched : matched_) held = std::max(held, matched);
  const size_t sure = FloorToCodePoint(waiting_, waiting_.size() - held);
  text->append(waiting_, 0, sure);
  waiting_.erase(0, sure);
}

void StopMatcher::Advance(char byte, bool may_match) {
  for (size_t index = 0; index < matched_.size(); ++index) {
    const auto& [text, border] = stops_->stops_[index];
    size_t& matched = matched_[index];
    if (text.empty()) continue;
    while (matched > 0 && text[matched] != byte) matched = border[matched - 1];
    if (text[matched] == byte) ++matched;
    if (matched < text.size()) continue;
    if (may_match && match_ == nullptr) match_ = &text;
    matched = border[matched - 1];  // continues after a match that was not allowed
  }
}

void StopMatcher::End(std::string* text) {
  text->append(waiting_);
  waiting_.clear();
}

}  // namespace baram::text
