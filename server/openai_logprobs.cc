// OpenAI's log-probabilities: see the header.
#include "server/openai_logprobs.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/text/utf8.h"

namespace baram::server {

namespace {

// JSON has no infinity; clients of this field know this value.
constexpr float kNoLogprob = -9999;

void AppendLogprob(std::string* json, float value) {
  AppendFloat(json, std::isfinite(value) ? std::max(value, kNoLogprob) : kNoLogprob);
}

void AppendBytes(std::string* json, std::string_view bytes) {
  *json += '[';
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i > 0) *json += ',';
    const auto byte = static_cast<unsigned char>(bytes[i]);
    if (byte >= 100) *json += static_cast<char>('0' + byte / 100);
    if (byte >= 10) *json += static_cast<char>('0' + byte / 10 % 10);
    *json += static_cast<char>('0' + byte % 10);
  }
  *json += ']';
}

}  // namespace

std::string OpenAiLogprobs::TokenName(int32_t id) const {
  return format_.tokens_as_ids ? absl::StrCat("token_id:", id) : TokenText(id);
}

// Valid UTF-8: a partial character becomes U+FFFD.
std::string OpenAiLogprobs::TokenText(int32_t id) const {
  const std::string_view bytes = tokenizer_.TokenBytes(id);
  if (text::IsValidUtf8(bytes)) return std::string(bytes);
  const auto text = tokenizer_.Decode({&id, 1}, /*skip_special_tokens=*/false);
  return text.ok() ? *text : "\uFFFD";
}

void OpenAiLogprobs::AppendEntry(std::string* json, int32_t id, float logprob) const {
  *json += R"({"token":)";
  AppendText(json, TokenName(id));
  *json += R"(,"logprob":)";
  AppendLogprob(json, logprob);
  *json += R"(,"bytes":)";
  AppendBytes(json, tokenizer_.TokenBytes(id));
}

void OpenAiLogprobs::AddToChat(LogprobsText& text, const TokenResult& result) const {
  std::string* const json = text.content.Next();
  AppendEntry(json, result.token, result.logprob);
  *json += R"(,"top_logprobs":[)";
  for (int i = 0; i < result.top_count; ++i) {
    if (i > 0) *json += ',';
    AppendEntry(json, result.top_ids[i], result.top_logprobs[i]);
    *json += '}';
  }
  *json += "]}";
}

void OpenAiLogprobs::Add(LogprobsText& text, const TokenResult& result) const {
  if (format_.endpoint == OpenAiEndpoint::kChat) return AddToChat(text, result);
  const int32_t id = result.token;
  const bool hidden = format_.skip_special_tokens && tokenizer_.IsSpecial(id);
  AddToCompletion(text, id, &result, hidden ? "" : tokenizer_.TokenBytes(id));
}

// Tokenizers may put a token or a blank before a text that is not part of it. If a normalizer
// changed the text, or it is cut within a character, each token is shown by itself from there on.
void OpenAiLogprobs::AddEchoed(LogprobsText& text, int32_t id, const TokenResult* result,
                               std::string_view echo, size_t* at) const {
  std::string_view shown = tokenizer_.TokenBytes(id);
  if (*at != std::string_view::npos) {
    const std::string_view rest = echo.substr(*at);
    const bool has_blank = shown.starts_with(' ') && !rest.starts_with(' ');
    const std::string_view in_text = shown.substr(has_blank ? 1 : 0);
    if (rest.starts_with(in_text)) {
      shown = in_text;
      *at += shown.size();
    } else if (tokenizer_.IsSpecial(id)) {
      shown = {};
    } else {
      *at = std::string_view::npos;
    }
  }
  AddToCompletion(text, id, result, shown);
}

void OpenAiLogprobs::AddToCompletion(LogprobsText& text, int32_t id, const TokenResult* result,
                                     std::string_view shown) const {
  std::vector<std::pair<std::string, float>> top;
  top.emplace_back(TokenName(id), result == nullptr ? 0 : result->logprob);
  AppendText(text.names.Next(), top[0].first);
  text.offsets.Add(text.shown.count());
  text.shown.Add(shown);
  if (result == nullptr) {
    text.values.Add(nullptr);
    text.tops.Add(nullptr);
    return;
  }
  AppendLogprob(text.values.Next(), result->logprob);
  const int count = std::min<int>(result->top_count, static_cast<int>(format_.top_logprobs));
  for (int i = 0; i < count; ++i) {
    if (result->top_ids[i] == id) continue;
    // Partial characters may share one text: the most likely keeps it.
    std::string name = TokenName(result->top_ids[i]);
    const float value = result->top_logprobs[i];
    const auto same = std::ranges::find(top, name, &std::pair<std::string, float>::first);
    if (same == top.end()) {
      top.emplace_back(std::move(name), value);
    } else {
      same->second = std::max(same->second, value);
    }
  }
  std::string* const json = text.tops.Next();
  char separator = '{';
  for (const auto& [name, value] : top) {
    json->push_back(std::exchange(separator, ','));
    AppendText(json, name);
    *json += ':';
    AppendLogprob(json, value);
  }
  *json += '}';
}

void OpenAiLogprobs::AddToPrompt(JsonArrayText& list, const TokenResult& score) const {
  std::string* const json = list.Next();
  const auto put = [&](char before, int32_t id, float logprob, int rank) {
    json->push_back(before);
    absl::StrAppend(json, "\"", id, R"(":{"logprob":)");
    AppendLogprob(json, logprob);
    absl::StrAppend(json, R"(,"rank":)", rank, R"(,"decoded_token":)");
    AppendText(json, TokenText(id));
    *json += '}';
  };
  put('{', score.token, score.logprob, score.rank);
  const int count = std::min<int>(score.top_count, static_cast<int>(*format_.prompt_logprobs));
  for (int i = 0; i < count; ++i) {
    if (score.top_ids[i] != score.token) put(',', score.top_ids[i], score.top_logprobs[i], i + 1);
  }
  *json += '}';
}

std::string OpenAiLogprobs::Take(LogprobsText& text, const LogprobsText* before) const {
  JsonObjectText logprobs;
  if (format_.endpoint == OpenAiEndpoint::kChat) {
    logprobs.AddText("content", text.content.Take());
    return logprobs.Take();
  }
  const auto add = [&](const char* name, JsonArrayText LogprobsText::*part) {
    JsonArrayText all = before != nullptr ? before->*part : JsonArrayText();
    all.AddAll(std::exchange(text.*part, {}));
    logprobs.AddText(name, all.Take());
  };
  add("text_offset", &LogprobsText::offsets);
  add("token_logprobs", &LogprobsText::values);
  add("tokens", &LogprobsText::names);
  add("top_logprobs", &LogprobsText::tops);
  return logprobs.Take();
}

}  // namespace baram::server
