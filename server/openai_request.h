// OpenAI's request bodies, with vLLM's further fields, as native calls. JSON stops here.
#ifndef BARAM_SERVER_OPENAI_REQUEST_H_
#define BARAM_SERVER_OPENAI_REQUEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/call.h"
#include "server/json_fields.h"

namespace baram::server {

enum class OpenAiEndpoint : uint8_t { kChat, kCompletions };

// How a call is answered.
struct OpenAiFormat {
  OpenAiEndpoint endpoint = OpenAiEndpoint::kChat;
  int64_t n = 1;  // outputs of a prompt; index of a choice: prompt * n + output
  bool stream = false;
  bool include_usage = false;     // a last chunk with the usage
  bool continuous_usage = false;  // and the usage so far in every chunk
  bool logprobs = false;
  int64_t top_logprobs = 0;
  // Asked for by that name; calls may ask for more, since echo shows them too.
  std::optional<int64_t> prompt_logprobs;
  bool echo = false;         // completions: the prompt stands before the text
  bool prompt_only = false;  // echo with max_tokens 0: nothing is generated
  bool token_ids = false;
  bool skip_special_tokens = true;  // the text of a reply lacks them
  bool tokens_as_ids = false;       // "token_id:123" for token texts in log-probabilities
};

struct OpenAiRequest {
  Call call;
  OpenAiFormat format;
  std::string reasoning_effort;  // chat: among the template's arguments; empty if not named
  // There are tools, and tool_choice forbids to call them: a template may show them all the same.
  bool shows_tools = false;
};

// The header Content-Type of a body; the error is InvalidBody.
absl::Status CheckContentType(std::string_view type);
// A body as JSON; the error is InvalidBody.
absl::StatusOr<Json> ParseOpenAiBody(std::string_view body);

// Errors are InvalidArgument whose field is the JSON name at fault. `max_n`: most outputs of a
// prompt, checked here because a reply's memory grows with them.
absl::StatusOr<OpenAiRequest> ParseOpenAiRequest(OpenAiEndpoint endpoint, std::string_view body,
                                                 int32_t max_n);

// What /tokenize is asked: {prompt | messages, add_special_tokens, ...}. What would change the
// prompt and is not served is refused here too.
struct TokenizeRequest {
  std::string model;  // empty if not named
  Prompt prompt;
  std::string reasoning_effort;  // as in OpenAiRequest
};
absl::StatusOr<TokenizeRequest> ParseTokenizeRequest(const Json& body);

// The reasoning_effort of a chat, also of one that is only counted. `taken`: the model's chat
// template reads it.
absl::Status CheckReasoningEffort(const std::string& effort, bool taken);

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_REQUEST_H_
