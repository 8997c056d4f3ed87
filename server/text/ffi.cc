// Which absl code each status of the text library is.
#include "server/text/ffi.h"

#include <string>
#include <string_view>

#include "absl/strings/str_format.h"

namespace baram::text {
namespace {

// Messages repeat what stands in a folder's files, and are shown in terminals: no control character
// but the end of a line may reach them, neither an ASCII one nor U+0080 to U+009F.
std::string Visible(std::string_view message) {
  std::string visible;
  for (size_t i = 0; i < message.size(); ++i) {
    const auto byte = static_cast<unsigned char>(message[i]);
    const auto next = static_cast<unsigned char>(i + 1 < message.size() ? message[i + 1] : 0);
    if (byte == 0xc2 && next >= 0x80 && next <= 0x9f) {
      absl::StrAppendFormat(&visible, "\\u%04x", next);
      ++i;
    } else if ((byte < 0x20 && byte != '\n') || byte == 0x7f) {
      absl::StrAppendFormat(&visible, "\\u%04x", byte);
    } else {
      visible += message[i];
    }
  }
  return visible;
}

}  // namespace

absl::Status TakeError(int32_t code, BaramBuffer error) {
  const std::string message = Visible(TakeBuffer(error));
  switch (code) {
    case BARAM_TEXT_NOT_FOUND:
      return absl::NotFoundError(message);
    case BARAM_TEXT_BAD_FILE:
      return absl::DataLossError(message);
    case BARAM_TEXT_BAD_INPUT:
    case BARAM_TEXT_BAD_ARGUMENTS:
    case BARAM_TEXT_RAISED:
    case BARAM_TEXT_TOO_LARGE:
      return absl::InvalidArgumentError(message);
    case BARAM_TEXT_DENIED:
      return absl::PermissionDeniedError(message);
    case BARAM_TEXT_NO_THREAD:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::InternalError(message);
  }
}

}  // namespace baram::text
