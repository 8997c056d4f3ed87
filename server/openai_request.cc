// Converts OpenAI's request bodies to native calls: see the header.
#include "server/openai_request.h"

#include <algorithm>
#include <charconv>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "server/openai_messages.h"
#include "server/openai_unserved.h"
#include "server/request_id.h"
#include "server/text/utf8.h"
#include "server/text_piece.h"

namespace baram::server {

namespace {

constexpr size_t kMaxPrompts = 128;  // of one completions call

// Text quoted from a client in an error, truncated to what a line holds.
std::string Shown(const std::string& text) {
  constexpr size_t kMaxBytes = 40;
  if (text.size() <= kMaxBytes) return text;
  return text.substr(0, text::FloorToCodePoint(text, kMaxBytes)) + "...";
}

// vLLM's -1 means no seed; other negative seeds wrap around, so that all of int64 and of uint64 is
// accepted.
std::optional<uint64_t> ReadSeed(JsonFields& fields) {
  const Json* value = fields.Find("seed");
  if (value == nullptr) return std::nullopt;
  if (value->is_number_unsigned()) return value->get<uint64_t>();
  const std::optional<int64_t> seed = AsInteger(*value);
  if (!seed) fields.Fail("seed", "seed must be an integer from -2^63 to 2^64 - 1.");
  if (!seed || *seed == -1) return std::nullopt;
  return static_cast<uint64_t>(*seed);
}

// Fills call.logit_bias.
void ReadLogitBias(JsonFields& fields, Call& call) {
  const Json* bias = fields.Object("logit_bias");
  if (bias == nullptr) return;
  for (const auto& [key, value] : bias->items()) {
    int64_t id = -1;
    const char* end = key.data() + key.size();
    const auto read = std::from_chars(key.data(), end, id);
    if (read.ec != std::errc() || read.ptr != end || !value.is_number()) {
      fields.Fail("logit_bias",
                  absl::StrCat("logit_bias must map token ids to numbers, as in ",
                               R"({"15": -100}; its key ")", Shown(key), R"(" does not.)"));
      break;
    }
    call.logit_bias[id] = value.get<double>();
  }
}

// Requires format.stream to be set.
void ReadStreamOptions(JsonFields& fields, OpenAiFormat& format) {
  const Json* options = fields.Object("stream_options");
  if (options == nullptr) return;
  if (!format.stream) {
    fields.Fail("stream_options",
                "stream_options is allowed only with stream: true; leave it out.");
  }
  JsonFields inner(*options, "stream_options.");
  format.include_usage = inner.Bool("include_usage").value_or(false);
  format.continuous_usage =
      inner.Bool("continuous_usage_stats").value_or(false) && format.include_usage;
  if (!inner.status().ok()) fields.Fail("stream_options", std::string(inner.status().message()));
}

// What chat and completions have in common.
void ReadShared(JsonFields& fields, int32_t max_n, OpenAiRequest& request) {
  Call& call = request.call;
  OpenAiFormat& format = request.format;
  RefuseUnserved(fields, &request.shows_tools);
  call.model = fields.String("model").value_or("");
  if (auto id = fields.String("request_id"); id && !id->empty()) {
    if (absl::Status status = CheckRequestId(*id); !status.ok()) {
      fields.Fail("request_id", std::string(status.message()));
    }
    call.request_id = *std::move(id);
  }
  call.temperature = fields.Number("temperature");
  call.top_p = fields.Number("top_p");
  call.top_k = fields.Integer("top_k");
  call.min_p = fields.Number("min_p");
  call.repetition_penalty = fields.Number("repetition_penalty");
  call.presence_penalty = fields.Number("presence_penalty");
  call.frequency_penalty = fields.Number("frequency_penalty");
  call.seed = ReadSeed(fields);
  format.n = fields.Integer("n").value_or(1);
  if (format.n < 1 || format.n > max_n) {
    fields.Fail("n", absl::StrCat("n is ", format.n, " but must be from 1 to ", max_n,
                                  ", this server's --max-n."));
  }
  call.n = format.n;
  if (const auto best_of = fields.Integer("best_of"); best_of && *best_of != call.n) {
    fields.Fail("best_of", "best_of is not served unless it equals n; leave it out.");
  }
  ReadLogitBias(fields, call);
  call.min_tokens = fields.Integer("min_tokens").value_or(0);
  call.stop = fields.Strings("stop", kMaxStops, kMaxStopBytes);
  call.stop_token_ids = fields.Integers("stop_token_ids", kMaxStopTokenIds);
  call.include_stop = fields.Bool("include_stop_str_in_output").value_or(false);
  call.ignore_eos = fields.Bool("ignore_eos").value_or(false);
  call.skip_special_tokens = format.skip_special_tokens =
      fields.Bool("skip_special_tokens").value_or(true);
  call.priority = fields.Integer("priority").value_or(0);
  call.cache_salt = fields.String("cache_salt", kMaxSaltBytes).value_or("");
  call.truncate_prompt_tokens = fields.Integer("truncate_prompt_tokens");
  call.prompt_logprobs = format.prompt_logprobs = fields.Integer("prompt_logprobs");
  call.token_ids = format.token_ids = fields.Bool("return_token_ids").value_or(false);
  format.tokens_as_ids = fields.Bool("return_tokens_as_token_ids").value_or(false);

  format.stream = fields.Bool("stream").value_or(false);
  ReadStreamOptions(fields, format);
  if (format.stream && format.prompt_logprobs) {
    fields.Fail("prompt_logprobs",
                "prompt_logprobs is not served with stream: true; leave one of them out.");
  }
}

bool IsIdList(const Json& value) {
  return value.is_array() && !value.empty() && value[0].is_number();
}

std::vector<int32_t> ReadIds(const Json& list, JsonFields& fields) {
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const Json& item : list) {
    const std::optional<int64_t> id = AsInteger(item);
    if (!id || *id < 0 || *id > INT32_MAX) {
      fields.Fail("prompt", absl::StrCat("prompt holds ", Shown(Dump(item)), " as its entry ",
                                         ids.size(), ", which is no token id."));
      break;
    }
    ids.push_back(static_cast<int32_t>(*id));
  }
  return ids;
}

// A text, a list of texts, a list of ids, or a list of lists of ids.
std::vector<Prompt> ReadPrompts(JsonFields& fields) {
  const bool add_special_tokens = fields.Bool("add_special_tokens").value_or(true);
  std::vector<Prompt> prompts;
  const Json* value = fields.Find("prompt");
  if (value != nullptr && value->is_string()) {
    prompts.push_back(TextPrompt{value->get<std::string>(), add_special_tokens});
  } else if (value != nullptr && IsIdList(*value)) {
    prompts.push_back(ReadIds(*value, fields));
  } else if (value != nullptr && value->is_array() && !value->empty()) {
    if (value->size() > kMaxPrompts) {
      fields.Fail("prompt", absl::StrCat("prompt has ", value->size(), " entries but at most ",
                                         kMaxPrompts, " are allowed: send them in several calls."));
      return prompts;
    }
    for (const Json& item : *value) {
      if (item.is_string()) {
        prompts.push_back(TextPrompt{item.get<std::string>(), add_special_tokens});
      } else if (IsIdList(item)) {
        prompts.push_back(ReadIds(item, fields));
      } else {
        fields.Fail("prompt", "prompt must hold texts or non-empty lists of token ids.");
        break;
      }
    }
  } else {
    const bool empty = value != nullptr && value->is_array();
    fields.Fail(
        "prompt",
        absl::StrCat("prompt ",
                     value == nullptr ? "is missing"
                     : empty          ? "is empty"
                                      : "is wrong",
                     ": send a text, a list of texts, a list of token ids or a list of those.",
                     fields.Find("messages") == nullptr
                         ? ""
                         : " Messages are sent to /v1/chat/completions instead."));
  }
  return prompts;
}

void ReadChatRequest(JsonFields& fields, int32_t max_n, OpenAiRequest& request) {
  Call& call = request.call;
  OpenAiFormat& format = request.format;
  ReadShared(fields, max_n, request);
  call.prompts.emplace_back(ReadChat(fields, &request.reasoning_effort));
  call.max_tokens = fields.Integer("max_tokens");
  if (const auto newer = fields.Integer("max_completion_tokens")) {
    call.max_tokens = newer;
    call.max_tokens_name = "max_completion_tokens";
  }
  format.logprobs = fields.Bool("logprobs").value_or(false);
  const auto top = fields.Integer("top_logprobs");
  if (top && *top != 0 && !format.logprobs) {
    fields.Fail("top_logprobs", "top_logprobs needs logprobs: true.");
  }
  format.top_logprobs = top.value_or(0);
  if (format.logprobs) call.logprobs = format.top_logprobs;
  if (fields.Bool("echo").value_or(false)) {
    fields.Fail("echo", "echo is served by /v1/completions only.");
  }
}

// Default max_tokens of a completion.
constexpr int64_t kCompletionTokens = 16;

void ReadCompletionRequest(JsonFields& fields, int32_t max_n, OpenAiRequest& request) {
  Call& call = request.call;
  OpenAiFormat& format = request.format;
  ReadShared(fields, max_n, request);
  call.max_tokens = fields.Integer("max_tokens");
  if (!call.max_tokens) {
    call.max_tokens = kCompletionTokens;
    call.may_end_sooner = true;
  }
  format.echo = fields.Bool("echo").value_or(false);
  if (format.echo && call.max_tokens == 0) {
    format.prompt_only = true;
    call.max_tokens = 1;
  }
  if (const Json* value = fields.Find("logprobs"); value != nullptr && *value != false) {
    call.logprobs = fields.Integer("logprobs");
    format.logprobs = call.logprobs.has_value();
    format.top_logprobs = call.logprobs.value_or(0);
  }
  if (format.echo && format.logprobs) {
    call.prompt_logprobs = std::max(call.prompt_logprobs.value_or(0), *call.logprobs);
  }
  if (fields.status().ok()) call.prompts = ReadPrompts(fields);
}

}  // namespace

// A page in a browser may send any other type anywhere without a preflight.
absl::Status CheckContentType(std::string_view type) {
  const absl::string_view media = Piece(type.substr(0, type.find(';')));
  if (absl::EqualsIgnoreCase(absl::StripAsciiWhitespace(media), "application/json")) {
    return absl::OkStatus();
  }
  return InvalidBody("Send JSON, with the header Content-Type: application/json.");
}

absl::StatusOr<Json> ParseOpenAiBody(std::string_view body) {
  absl::StatusOr<Json> json = ParseBody(body);
  if (!json.ok()) return InvalidBody(std::string(json.status().message()));
  return json;
}

absl::StatusOr<OpenAiRequest> ParseOpenAiRequest(OpenAiEndpoint endpoint, std::string_view body,
                                                 int32_t max_n) {
  const absl::StatusOr<Json> json = ParseOpenAiBody(body);
  if (!json.ok()) return json.status();
  JsonFields fields(*json);
  OpenAiRequest request;
  request.format.endpoint = endpoint;
  if (endpoint == OpenAiEndpoint::kChat) {
    ReadChatRequest(fields, max_n, request);
  } else {
    ReadCompletionRequest(fields, max_n, request);
  }
  if (!fields.status().ok()) return fields.status();
  return request;
}

absl::StatusOr<TokenizeRequest> ParseTokenizeRequest(const Json& body) {
  JsonFields fields(body);
  RefuseUnserved(fields);
  TokenizeRequest request;
  request.model = fields.String("model").value_or("");
  if (fields.Find("messages") != nullptr) {
    request.prompt = ReadChat(fields, &request.reasoning_effort);
  } else if (const auto text = fields.String("prompt")) {
    request.prompt = TextPrompt{*text, fields.Bool("add_special_tokens").value_or(true)};
  } else {
    fields.Fail("prompt", "prompt is missing: send a prompt, which is a text, or messages.");
  }
  if (!fields.status().ok()) return fields.status();
  return request;
}

absl::Status CheckReasoningEffort(const std::string& effort, bool taken) {
  if (taken || effort.empty() || effort == "none") return absl::OkStatus();
  return InvalidField("reasoning_effort",
                      "reasoning_effort is not served: this model's chat template does not read "
                      "it; leave it out.");
}

}  // namespace baram::server
