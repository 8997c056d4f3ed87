// OpenAI's errors: see the header.
#include "server/openai_errors.h"

#include <utility>

#include "server/errors.h"
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

std::string OpenAiError(const absl::Status& told) {
  return OpenAiError(HttpStatusOf(told), std::string(told.message()), FactsOf(told).field);
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

std::string OpenAiParam(OpenAiEndpoint endpoint, std::string_view native) {
  const bool chat = endpoint == OpenAiEndpoint::kChat;
  if (native == "output.logprobs") return chat ? "top_logprobs" : "logprobs";
  if (native == "stopping.include_stop") return "include_stop_str_in_output";
  if (native == "cache.salt") return "cache_salt";
  if (native == "prompt" || native == "text") return chat ? "messages" : "prompt";
  if (native == "token_ids") return "prompt";
  if (native == "chat.template_arguments_json") return "chat_template_kwargs";
  if (native == "chat") return "messages";
  for (std::string_view group : {"sampling.", "stopping.", "output.", "chat."}) {
    if (native.rfind(group, 0) == 0) return std::string(native.substr(group.size()));
  }
  return std::string(native);
}

absl::Status InJsonNames(const absl::Status& status, OpenAiEndpoint endpoint,
                         std::string_view max_tokens_name) {
  const std::string native = FactsOf(status).field;
  if (native.empty()) return status;
  const std::string param = OpenAiParam(endpoint, native);
  return RenameField(status, param == "max_tokens" ? max_tokens_name : param);
}

void RespondOpenAiError(HttpExchange& exchange, const absl::Status& told,
                        const std::string& request_id, OnHttpEnd ended) {
  HttpHeaders headers = {{"Content-Type", "application/json"}};
  if (!request_id.empty()) headers.emplace_back("X-Request-Id", request_id);
  const int64_t retry_ms = FactsOf(told).retry_ms;
  if (retry_ms >= 0) {
    headers.emplace_back("Retry-After", std::to_string((retry_ms + 999) / 1000));
    headers.emplace_back("Retry-After-Ms", std::to_string(retry_ms));
  } else {
    headers.emplace_back("x-should-retry", "false");
  }
  exchange.Respond(HttpStatusOf(told), std::move(headers), OpenAiError(told), std::move(ended));
}

}  // namespace baram::server
