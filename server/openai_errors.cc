// OpenAI's errors: see the header.
#include "server/openai_errors.h"

#include "server/json_fields.h"

namespace baram::server {

std::string OpenAiError(int status, std::string_view message, std::string_view param) {
  const char* type = "InternalServerError";
  switch (status) {
    case 400:
    case 405:
    case 413:
    case 415:
    case 431:
      type = "BadRequestError";
      break;
    case 401:
      type = "AuthenticationError";
      break;
    case 403:
      type = "PermissionDeniedError";
      break;
    case 404:
      type = "NotFoundError";
      break;
    case 408:
    case 504:
      type = "TimeoutError";
      break;
    case 429:
      type = "RateLimitError";
      break;
    case 499:
      type = "ClientClosedRequest";
      break;
    case 503:
      type = "ServiceUnavailableError";
      break;
  }
  return Dump({{"error",
                {{"message", std::string(message)},
                 {"type", type},
                 {"param", param.empty() ? Json(nullptr) : Json(std::string(param))},
                 {"code", status}}}});
}

int HttpStatusOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kCancelled:
      return 499;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

}  // namespace baram::server
