// OpenAI's log-probabilities: see the header.
#include "server/openai_logprobs.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/text/utf8.h"

namespace baram::server {

namespace {

// JSON has no infinity; clients of this field know this value.
constexpr double kNoLogprob = -9999.0;

double Logprob(float value) {
  return std::isfinite(value) ? std::max<double>(value, kNoLogprob) : kNoLogprob;
}

Json Bytes(const std::string& text) {
  Json bytes = Json::array();
  for (unsigned char c : text) bytes.push_back(c);
  return bytes;
}

}  // namespace

std::string OpenAiLogprobs::TokenName(int32_t id) const {
  return format_.tokens_as_ids ? absl::StrCat("token_id:", id) : TokenText(id);
}

// Valid UTF-8: a partial character becomes U+FFFD.
std::string OpenAiLogprobs::TokenText(int32_t id) const {
  std::string bytes = tokenizer_.TokenBytes(id);
  if (text::IsValidUtf8(bytes)) return bytes;
  const auto text = tokenizer_.Decode({&id, 1}, /*skip_special_tokens=*/false);
  return text.ok() ? *text : "\uFFFD";
}

void OpenAiLogprobs::AddToChat(LogprobsText& text, const TokenResult& result) const {
  const auto entry = [&](int32_t id, float logprob) -> Json {
    return {{"token", TokenName(id)},
            {"logprob", Logprob(logprob)},
            {"bytes", Bytes(tokenizer_.TokenBytes(id))}};
  };
  Json one = entry(result.token, result.logprob);
  Json& top = one["top_logprobs"] = Json::array();
  for (int i = 0; i < result.top_count; ++i) {
    top.push_back(entry(result.top_ids[i], result.top_logprobs[i]));
  }
  text.content.Add(one);
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
  const std::string bytes = tokenizer_.TokenBytes(id);
  std::string_view shown = bytes;
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
  text.names.Add(TokenName(id));
  text.offsets.Add(text.shown.count());
  text.shown.Add(shown);
  if (result == nullptr) {
    text.values.Add(nullptr);
    text.tops.Add(nullptr);
    return;
  }
  text.values.Add(Logprob(result->logprob));
  Json top = Json::object();
  // Partial characters may share one text: the most likely keeps it.
  const auto put = [&](int32_t top_id, float logprob) {
    const double value = Logprob(logprob);
    const auto [it, fresh] = top.emplace(TokenName(top_id), value);
    if (!fresh && it->get<double>() < value) *it = value;
  };
  put(id, result->logprob);
  const int count = std::min<int>(result->top_count, static_cast<int>(format_.top_logprobs));
  for (int i = 0; i < count; ++i) put(result->top_ids[i], result->top_logprobs[i]);
  text.tops.Add(top);
}

void OpenAiLogprobs::AddToPrompt(JsonArrayText& list, const TokenResult& score) const {
  Json entry = Json::object();
  const auto put = [&](int32_t id, float logprob, int rank) {
    entry[std::to_string(id)] = {
        {"logprob", Logprob(logprob)}, {"rank", rank}, {"decoded_token", TokenText(id)}};
  };
  put(score.token, score.logprob, score.rank);
  const int count = std::min<int>(score.top_count, static_cast<int>(*format_.prompt_logprobs));
  for (int i = 0; i < count; ++i) {
    if (score.top_ids[i] != score.token) put(score.top_ids[i], score.top_logprobs[i], i + 1);
  }
  list.Add(entry);
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
