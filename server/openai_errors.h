// OpenAI's errors: their JSON, their HTTP status, and invalid fields under their JSON names.
#ifndef BARAM_SERVER_OPENAI_ERRORS_H_
#define BARAM_SERVER_OPENAI_ERRORS_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "server/http_server.h"
#include "server/openai_request.h"

namespace baram::server {

// {"error": {...}} for an HTTP status; `param` may be empty.
std::string OpenAiError(int status, std::string_view message, std::string_view param);
// The same for a call's status in the form sent to the client: see InJsonNames.
std::string OpenAiError(const absl::Status& told);
// The HTTP status of a call's status.
int HttpStatusOf(const absl::Status& status);

// The JSON name of a native field path: "sampling.top_p" is "top_p". JSON names stay as they are.
std::string OpenAiParam(OpenAiEndpoint endpoint, std::string_view native);
// The status in the form sent to a client of this front end: its field has the JSON name.
// `max_tokens_name`: see Call.
absl::Status InJsonNames(const absl::Status& status, OpenAiEndpoint endpoint,
                         std::string_view max_tokens_name = "max_tokens");

// Answers a call that failed before its stream started, with hints for clients that retry by
// themselves. `request_id` may be empty; `ended` is as in HttpExchange::Respond.
void RespondOpenAiError(HttpExchange& exchange, const absl::Status& told,
                        const std::string& request_id, OnHttpEnd ended);

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_ERRORS_H_
