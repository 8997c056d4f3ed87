// Converts OpenAI's request bodies, with vLLM's extensions, to native calls. JSON stops here.
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

// The format of a call's answer.
struct OpenAiFormat {
  OpenAiEndpoint endpoint = OpenAiEndpoint::kChat;
  int64_t n = 1;  // outputs per prompt; a choice's index is prompt * n + output
  bool stream = false;
  bool include_usage = false;     // a final chunk with the usage
  bool continuous_usage = false;  // and the usage so far in every chunk
  bool logprobs = false;
  int64_t top_logprobs = 0;
  // Requested by that name; the call may have more, since echo shows them too.
  std::optional<int64_t> prompt_logprobs;
  bool echo = false;         // completions: the text starts with the prompt
  bool prompt_only = false;  // echo with max_tokens 0: nothing is generated
  bool token_ids = false;
  bool skip_special_tokens = true;  // omitted from the text of a reply
  bool tokens_as_ids = false;       // "token_id:123" for token texts in log-probabilities
};

struct OpenAiRequest {
  Call call;
  OpenAiFormat format;
  std::string reasoning_effort;  // chat: one of the template's arguments; empty if absent
  // There are tools that tool_choice forbids to call: a template may show them nonetheless.
  bool shows_tools = false;
};

// Checks a body's Content-Type header; the error is InvalidBody.
absl::Status CheckContentType(std::string_view type);
// Parses a body; the error is InvalidBody.
absl::StatusOr<Json> ParseOpenAiBody(std::string_view body);

// Errors are InvalidArgument whose field is the invalid JSON name. `max_n` limits the outputs per
// prompt, checked here because a reply's memory grows with them.
absl::StatusOr<OpenAiRequest> ParseOpenAiRequest(OpenAiEndpoint endpoint, std::string_view body,
                                                 int32_t max_n);

// A /tokenize request: {prompt | messages, add_special_tokens, ...}. Unserved fields that would
// change the prompt are refused here too.
struct TokenizeRequest {
  std::string model;  // empty if absent
  Prompt prompt;
  std::string reasoning_effort;  // as in OpenAiRequest
};
absl::StatusOr<TokenizeRequest> ParseTokenizeRequest(const Json& body);

// Checks a chat's reasoning_effort, also for chats that are only tokenized. `taken`: whether the
// model's chat template reads it.
absl::Status CheckReasoningEffort(const std::string& effort, bool taken);

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_REQUEST_H_
