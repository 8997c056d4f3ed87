// Glue between absl and the C ABI of the text library; private to server/text.
#ifndef BARAM_SERVER_TEXT_FFI_H_
#define BARAM_SERVER_TEXT_FFI_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "server/text/rust/baram_text.h"

namespace baram::text {

inline BaramView ToView(std::string_view text) { return {text.data(), text.size()}; }

inline std::string_view FromView(BaramView view) { return {view.data, view.size}; }

// Copies, then frees the buffer.
inline std::string TakeBuffer(BaramBuffer buffer) {
  std::string text(buffer.data, buffer.size);
  baram_buffer_free(buffer);
  return text;
}

// The status of a failed call, whose sentence is in `error`. Frees `error`.
absl::Status TakeError(int32_t code, BaramBuffer error);

}  // namespace baram::text

#endif  // BARAM_SERVER_TEXT_FFI_H_
