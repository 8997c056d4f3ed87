// HttpHead: one pass over the bytes, a line at a time.
#include "server/http_head.h"

#include "server/http_text.h"

namespace baram::server {

HttpHead::State HttpHead::Add(std::string_view bytes) {
  for (const char c : bytes) {
    if (size_ == max_bytes_) return State::kTooLarge;
    ++size_;
    if ((last_ == '\r') != (c == '\n')) return State::kNotText;
    last_ = c;
    if (c == '\n') {
      if (line_empty_) return State::kWhole;
      if (++lines_ > max_lines_) return State::kTooMany;
      line_empty_ = true;
    } else if (c != '\r') {
      if (IsControl(c)) return State::kNotText;
      if (line_empty_ && lines_ > 0 && (c == ' ' || c == '\t')) return State::kFolded;
      line_empty_ = false;
    }
  }
  return size_ == max_bytes_ ? State::kTooLarge : State::kMore;
}

}  // namespace baram::server
