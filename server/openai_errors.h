// OpenAI's errors: their JSON, and the HTTP status of a call's status.
#ifndef BARAM_SERVER_OPENAI_ERRORS_H_
#define BARAM_SERVER_OPENAI_ERRORS_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace baram::server {

// {"error": {...}} of a status; `param` may be empty.
std::string OpenAiError(int status, std::string_view message, std::string_view param);
// The HTTP status of a call's status.
int HttpStatusOf(const absl::Status& status);

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_ERRORS_H_
