// HttpHead: finds where a request's line and headers end, in bytes as they come.
#ifndef BARAM_SERVER_HTTP_HEAD_H_
#define BARAM_SERVER_HTTP_HEAD_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace baram::server {

// Beast's parser takes headers one by one and bounds only the one that it waits for, so it is given
// them once all have come. Names, values and the request line are left to it.
class HttpHead {
 public:
  enum class State : uint8_t {
    kMore,      // no end yet
    kWhole,     // ends where an empty line does
    kTooLarge,  // no end within max_bytes
    kTooMany,   // more than max_headers
    kFolded,    // a header continues on the next line: not all servers read those alike
    kNotText,   // a control character, or a line end that is not CR LF
  };

  HttpHead(size_t max_bytes, int max_headers)
      : max_bytes_(max_bytes), max_lines_(max_headers + 1) {}

  // Takes the bytes that follow those of the call before, as far as they matter. Not after a state
  // other than kMore.
  State Add(std::string_view bytes);
  // Bytes taken: with kWhole the head's, its empty line included.
  size_t size() const { return size_; }

 private:
  const size_t max_bytes_;
  const int max_lines_;
  size_t size_ = 0;
  int lines_ = 0;  // that have ended
  char last_ = 0;  // byte taken
  bool line_empty_ = true;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_HTTP_HEAD_H_
