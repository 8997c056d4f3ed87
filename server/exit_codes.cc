// Exit codes: which side is at fault.
#include "server/exit_codes.h"

namespace baram::server {

int ExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
      return kExitUsage;
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
      return kExitNoInput;
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kUnimplemented:  // a model that baram or the device can't serve
      return kExitData;
    case absl::StatusCode::kFailedPrecondition:
      return kExitConfig;
    case absl::StatusCode::kUnavailable:
      return kExitUnavailable;
    case absl::StatusCode::kResourceExhausted:
      return kExitOs;
    default:
      return kExitInternal;
  }
}

}  // namespace baram::server
