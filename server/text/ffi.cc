// Maps the text library's statuses to absl codes.
#include "server/text/ffi.h"

#include <string>

namespace baram::text {

absl::Status TakeError(int32_t code, BaramBuffer error) {
  const std::string message = TakeBuffer(error);
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
