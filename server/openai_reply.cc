// OpenAI's replies: see the header.
#include "server/openai_reply.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/text/utf8.h"

namespace baram::server {

namespace {

// JSON has no infinity; clients of this field know the number.
constexpr double kNoLogprob = -9999.0;

double Logprob(float value) {
  return std::isfinite(value) ? std::max<double>(value, kNoLogprob) : kNoLogprob;
}

Json Bytes(const std::string& text) {
  Json bytes = Json::array();
  for (unsigned char c : text) bytes.push_back(c);
  return bytes;
}

Json Ids(const std::vector<TokenResult>& tokens) {
  Json ids = Json::array();
  for (const TokenResult& token : tokens) ids.push_back(token.token);
  return ids;
}

const char* ReasonName(EndReason reason) {
  switch (reason) {
    case EndReason::kStop: return "stop";
    case EndReason::kLength: return "length";
    case EndReason::kAbort: return "abort";
  }
  return "stop";
}

std::string Sse(const Json& json) { return absl::StrCat("data: ", Dump(json), "\n\n"); }

}  // namespace

OpenAiReply::OpenAiReply(const OpenAiRequest& request, OpenAiHeader header,
                         const text::Tokenizer& tokenizer, int32_t primary_eos)
    : request_(request),
      header_(std::move(header)),
      tokenizer_(tokenizer),
      primary_eos_(primary_eos),
      prompts_(request.calls.size()),
      choices_(request.calls.size() * static_cast<size_t>(request.n)) {}

void OpenAiReply::SetPrompt(size_t prompt, PromptFacts facts) {
  prompts_[prompt].facts = std::move(facts);
}

// Valid UTF-8: a piece of a character is U+FFFD.
std::string OpenAiReply::TokenName(int32_t id) const {
  if (request_.tokens_as_ids) return absl::StrCat("token_id:", id);
  const std::string bytes = tokenizer_.TokenBytes(id);
  return text::IsValidUtf8(bytes) ? bytes : Json::parse(Dump(Json(bytes))).get<std::string>();
}

Json OpenAiReply::Usage(int64_t prompt_tokens, int64_t completion_tokens, int64_t cached) const {
  return {{"prompt_tokens", prompt_tokens},
          {"completion_tokens", completion_tokens},
          {"total_tokens", prompt_tokens + completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", cached}}}};
}

Json OpenAiReply::TotalUsage() const {
  int64_t prompt_tokens = 0, completion_tokens = 0, cached = 0;
  for (const Prompt& prompt : prompts_) {
    prompt_tokens += static_cast<int64_t>(prompt.facts.ids.size());
    completion_tokens += request_.prompt_only ? 0 : prompt.completion_tokens;
    cached += prompt.cached_tokens;
  }
  return Usage(prompt_tokens, completion_tokens, cached);
}

std::string OpenAiReply::Event(Json choice, size_t prompt) {
  Json event = {{"id", header_.id},
                {"object", chat() ? "chat.completion.chunk" : "text_completion"},
                {"created", header_.created},
                {"model", header_.model}};
  if (request_.continuous_usage) {
    const Choice& current = choices_[choice["index"].get<size_t>()];
    event["usage"] = Usage(static_cast<int64_t>(prompts_[prompt].facts.ids.size()),
                           current.completion_tokens, prompts_[prompt].cached_tokens);
  }
  event["choices"] = Json::array({std::move(choice)});
  return Sse(event);
}

Json OpenAiReply::ChatLogprobs(const std::vector<TokenResult>& tokens) const {
  Json content = Json::array();
  const auto entry = [&](int32_t id, float logprob) -> Json {
    return {{"token", TokenName(id)},
            {"logprob", Logprob(logprob)},
            {"bytes", Bytes(tokenizer_.TokenBytes(id))}};
  };
  for (const TokenResult& token : tokens) {
    Json one = entry(token.token, token.logprob);
    Json top = Json::array();
    for (int i = 0; i < token.top_count; ++i) top.push_back(entry(token.top_ids[i], token.top_logprobs[i]));
    one["top_logprobs"] = std::move(top);
    content.push_back(std::move(one));
  }
  return {{"content", std::move(content)}};
}

Json OpenAiReply::CompletionLogprobs(Choice& choice, size_t prompt,
                                     const std::vector<TokenResult>& tokens, bool with_prompt) const {
  Json offsets = Json::array(), values = Json::array(), names = Json::array(), tops = Json::array();
  const auto add = [&](int32_t id, const TokenResult* result) {
    const std::string name = TokenName(id);
    names.push_back(name);
    offsets.push_back(choice.code_points);
    // A piece of a character counts with the piece that begins it.
    for (unsigned char c : tokenizer_.TokenBytes(id)) choice.code_points += (c & 0xC0) != 0x80;
    if (result == nullptr) {
      values.push_back(nullptr);
      tops.push_back(nullptr);
      return;
    }
    values.push_back(Logprob(result->logprob));
    Json top = Json::object();
    // Pieces of characters may share one text: the likeliest keeps it.
    const auto put = [&](int32_t top_id, float logprob) {
      const double value = Logprob(logprob);
      const auto [it, fresh] = top.emplace(TokenName(top_id), value);
      if (!fresh && it->get<double>() < value) *it = value;
    };
    for (int i = 0; i < result->top_count; ++i) put(result->top_ids[i], result->top_logprobs[i]);
    put(id, result->logprob);
    tops.push_back(std::move(top));
  };
  if (with_prompt) {
    const Prompt& facts = prompts_[prompt];
    for (size_t i = 0; i < facts.facts.ids.size(); ++i) {
      const bool scored = i > 0 && i - 1 < facts.scores.size();
      add(facts.facts.ids[i], scored ? &facts.scores[i - 1] : nullptr);
    }
  }
  for (const TokenResult& token : tokens) add(token.token, &token);
  return {{"text_offset", std::move(offsets)},
          {"token_logprobs", std::move(values)},
          {"tokens", std::move(names)},
          {"top_logprobs", std::move(tops)}};
}

Json OpenAiReply::Logprobs(Choice& choice, size_t prompt, const std::vector<TokenResult>& tokens,
                           bool with_prompt) const {
  if (!request_.logprobs) return nullptr;
  if (chat()) return tokens.empty() ? Json(nullptr) : ChatLogprobs(tokens);
  if (tokens.empty() && !with_prompt) return nullptr;
  return CompletionLogprobs(choice, prompt, tokens, with_prompt);
}

Json OpenAiReply::PromptLogprobs(const Prompt& prompt) const {
  Json list = Json::array({nullptr});
  for (const TokenResult& score : prompt.scores) {
    Json entry = Json::object();
    const auto put = [&](int32_t id, float logprob, int rank) {
      entry[std::to_string(id)] = {{"logprob", Logprob(logprob)},
                                   {"rank", rank},
                                   {"decoded_token", TokenName(id)}};
    };
    for (int i = 0; i < score.top_count; ++i) put(score.top_ids[i], score.top_logprobs[i], i + 1);
    put(score.token, score.logprob, score.rank);
    list.push_back(std::move(entry));
  }
  return list;
}

void OpenAiReply::SetFinish(Json& choice, const EndEvent& end) const {
  choice["finish_reason"] = request_.prompt_only ? "length" : ReasonName(end.reason);
  if (end.stop_string) {
    choice["stop_reason"] = *end.stop_string;
  } else if (end.reason == EndReason::kStop && end.stop_id >= 0 && end.stop_id != primary_eos_) {
    choice["stop_reason"] = end.stop_id;
  } else {
    choice["stop_reason"] = nullptr;
  }
}

// The first event of a choice comes with its first token: benchmark clients take it for the TTFT.
std::string OpenAiReply::BeginChoice(size_t index, size_t prompt) {
  Choice& choice = choices_[index];
  choice.begun = true;
  const PromptFacts& facts = prompts_[prompt].facts;
  if (chat()) {
    Json first = {{"index", index},
                  {"delta", {{"role", "assistant"}, {"content", ""}}},
                  {"logprobs", nullptr},
                  {"finish_reason", nullptr}};
    std::string event = Event(std::move(first), prompt);
    if (request_.token_ids && index == 0) {
      // At the top level, in the first chunk only.
      event.insert(event.rfind("}\n\n"), absl::StrCat(",\"prompt_token_ids\":", Dump(Json(facts.ids))));
    }
    return event;
  }
  if (!request_.echo && !request_.token_ids) return "";
  Json first = {{"index", index},
                {"text", request_.echo ? facts.text : ""},
                {"logprobs", request_.echo ? Logprobs(choice, prompt, {}, true) : Json(nullptr)},
                {"finish_reason", nullptr}};
  if (request_.token_ids) {
    first["prompt_token_ids"] = facts.ids;
    first["token_ids"] = Json::array();
  }
  return Event(std::move(first), prompt);
}

Json OpenAiReply::ChoiceDelta(size_t index, size_t prompt, const std::string& text,
                              const std::vector<TokenResult>& tokens) {
  Json json = {{"index", index}};
  if (chat()) {
    json["delta"] = {{"content", text}};
  } else {
    json["text"] = text;
  }
  json["logprobs"] = Logprobs(choices_[index], prompt, tokens, false);
  json["finish_reason"] = nullptr;
  if (request_.token_ids) json["token_ids"] = Ids(tokens);
  return json;
}

std::string OpenAiReply::Take(size_t prompt, const ReplyChunk& chunk) {
  Prompt& facts = prompts_[prompt];
  const size_t base = prompt * static_cast<size_t>(request_.n);
  if (chunk.prompt) {
    facts.cached_tokens = std::max(0, chunk.prompt->cached_tokens);
    facts.scores.insert(facts.scores.end(), chunk.prompt->scores.begin(), chunk.prompt->scores.end());
  }
  std::string events;
  const auto end_of = [&](int32_t index) -> const EndEvent* {
    for (const EndEvent& end : chunk.ends) {
      if (end.index == index) return &end;
    }
    return nullptr;
  };
  std::vector<int32_t> seen;
  const auto take = [&](int32_t output, const std::string& text, const std::vector<TokenResult>& tokens,
                        const EndEvent* end) {
    const size_t index = base + static_cast<size_t>(output);
    Choice& choice = choices_[index];
    choice.completion_tokens += static_cast<int64_t>(tokens.size());
    if (end != nullptr) choice.end = *end;
    if (!request_.stream) {
      if (request_.prompt_only) return;
      choice.text += text;
      choice.tokens.insert(choice.tokens.end(), tokens.begin(), tokens.end());
      return;
    }
    if (!choice.begun) events += BeginChoice(index, prompt);
    const bool shown = !request_.prompt_only;
    // Tokens without text yet are told only to who asked for tokens.
    if ((!shown || (text.empty() && !request_.logprobs && !request_.token_ids)) && end == nullptr) return;
    Json json = shown ? ChoiceDelta(index, prompt, text, tokens) : ChoiceDelta(index, prompt, "", {});
    if (end != nullptr) SetFinish(json, *end);
    events += Event(std::move(json), prompt);
  };
  for (const DeltaEvent& delta : chunk.deltas) {
    seen.push_back(delta.index);
    take(delta.index, delta.text, delta.tokens, end_of(delta.index));
  }
  for (const EndEvent& end : chunk.ends) {
    if (std::find(seen.begin(), seen.end(), end.index) == seen.end()) take(end.index, "", {}, &end);
  }
  if (chunk.usage) facts.completion_tokens = chunk.usage->completion_tokens;
  return events;
}

std::string OpenAiReply::StreamEnd() {
  std::string events;
  if (request_.include_usage) {
    events += Sse({{"id", header_.id},
                   {"object", chat() ? "chat.completion.chunk" : "text_completion"},
                   {"created", header_.created},
                   {"model", header_.model},
                   {"choices", Json::array()},
                   {"usage", TotalUsage()}});
  }
  return events + "data: [DONE]\n\n";
}

std::string OpenAiReply::Whole() {
  Json choices = Json::array();
  for (size_t index = 0; index < choices_.size(); ++index) {
    Choice& choice = choices_[index];
    const size_t prompt = index / static_cast<size_t>(request_.n);
    const Prompt& facts = prompts_[prompt];
    Json json = {{"index", index}};
    if (chat()) {
      json["message"] = {{"role", "assistant"}, {"content", choice.text}};
    } else {
      json["text"] = (request_.echo ? facts.facts.text : "") + choice.text;
      if (request_.prompt_logprobs) json["prompt_logprobs"] = PromptLogprobs(facts);
    }
    json["logprobs"] = Logprobs(choice, prompt, choice.tokens, request_.echo);
    SetFinish(json, choice.end);
    if (request_.token_ids) {
      json["token_ids"] = Ids(choice.tokens);
      if (!chat()) json["prompt_token_ids"] = facts.facts.ids;
    }
    choices.push_back(std::move(json));
  }
  Json reply = {{"id", header_.id},
                {"object", chat() ? "chat.completion" : "text_completion"},
                {"created", header_.created},
                {"model", header_.model},
                {"choices", std::move(choices)},
                {"usage", TotalUsage()}};
  if (chat() && request_.token_ids) reply["prompt_token_ids"] = prompts_[0].facts.ids;
  if (chat() && request_.prompt_logprobs) reply["prompt_logprobs"] = PromptLogprobs(prompts_[0]);
  return Dump(reply);
}

std::string OpenAiError(int status, std::string_view message, std::string_view param) {
  const char* type = "InternalServerError";
  switch (status) {
    case 400: case 405: case 413: case 431: type = "BadRequestError"; break;
    case 401: type = "AuthenticationError"; break;
    case 403: type = "PermissionDeniedError"; break;
    case 404: type = "NotFoundError"; break;
    case 408: case 504: type = "TimeoutError"; break;
    case 429: type = "RateLimitError"; break;
    case 499: type = "ClientClosedRequest"; break;
    case 503: type = "ServiceUnavailableError"; break;
  }
  return Dump({{"error",
                {{"message", std::string(message)},
                 {"type", type},
                 {"param", param.empty() ? Json(nullptr) : Json(std::string(param))},
                 {"code", status}}}});
}

int HttpStatusOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk: return 200;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented: return 400;
    case absl::StatusCode::kUnauthenticated: return 401;
    case absl::StatusCode::kPermissionDenied: return 403;
    case absl::StatusCode::kNotFound: return 404;
    case absl::StatusCode::kResourceExhausted: return 429;
    case absl::StatusCode::kCancelled: return 499;
    case absl::StatusCode::kUnavailable: return 503;
    case absl::StatusCode::kDeadlineExceeded: return 504;
    default: return 500;
  }
}

}  // namespace baram::server
