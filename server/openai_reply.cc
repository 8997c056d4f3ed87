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

// About how many bytes of JSON tokens take: each is an entry, as each of its alternatives is.
size_t EntryBytes(const std::vector<TokenResult>& tokens) {
  constexpr size_t kEntryBytes = 100;
  return tokens.empty() ? 0 : tokens.size() * (1 + tokens[0].top_count) * kEntryBytes;
}

int64_t KeptBytes(const std::vector<TokenResult>& tokens) {
  return static_cast<int64_t>(tokens.size() * sizeof(TokenResult));
}

std::string Sse(const std::string& json) { return absl::StrCat("data: ", json, "\n\n"); }

Json UsageOf(int64_t prompt_tokens, int64_t completion_tokens, int64_t cached) {
  return {{"prompt_tokens", prompt_tokens},
          {"total_tokens", prompt_tokens + completion_tokens},
          {"completion_tokens", completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", cached}}}};
}

}  // namespace

OpenAiReply::OpenAiReply(const OpenAiFormat& format, size_t prompts, OpenAiHeader header,
                         const text::Tokenizer& tokenizer, int32_t primary_eos, int64_t max_bytes)
    : format_(format),
      header_(std::move(header)),
      tokenizer_(tokenizer),
      primary_eos_(primary_eos),
      max_bytes_(max_bytes),
      prompts_(prompts),
      choices_(prompts * static_cast<size_t>(format.n)) {}

void OpenAiReply::SetPrompt(size_t prompt, OpenAiPrompt facts) {
  prompts_[prompt].facts = std::move(facts);
}

size_t OpenAiReply::PromptBytes(const Prompt& prompt) const {
  constexpr size_t kIdBytes = 8;
  size_t bytes = prompt.facts.text.size();
  if (format_.token_ids) bytes += prompt.facts.ids.size() * kIdBytes;
  if (format_.echo && format_.logprobs) bytes += EntryBytes(prompt.scores);
  return bytes;
}

size_t OpenAiReply::SizeOf(size_t prompt, const ReplyChunk& chunk) const {
  // Of a whole reply, choices that end are written.
  if (!format_.stream && chunk.ends.empty()) return 0;
  const size_t first = prompt * static_cast<size_t>(format_.n);
  size_t bytes = 0;
  size_t opened = 0;
  for (const DeltaEvent& delta : chunk.deltas) {
    bytes += delta.text.size() + EntryBytes(delta.tokens);
    opened += !choices_[first + static_cast<size_t>(delta.index)].begun;
  }
  // An output that ends without a delta opens too; one that does both in one chunk counts twice.
  for (const EndEvent& end : chunk.ends) {
    const Choice& choice = choices_[first + static_cast<size_t>(end.index)];
    opened += !choice.begun;
    bytes += choice.text.size() + EntryBytes(choice.tokens);
  }
  size_t shown = PromptBytes(prompts_[prompt]);
  if (format_.prompt_logprobs) shown += EntryBytes(prompts_[prompt].scores);
  if (chunk.prompt && ((format_.echo && format_.logprobs) || format_.prompt_logprobs)) {
    shown += EntryBytes(chunk.prompt->scores);
  }
  return bytes + opened * shown;
}

size_t OpenAiReply::WholeSize() const {
  size_t bytes = chat() ? prompts_[0].logprobs.size() : 0;
  for (const Choice& choice : choices_) bytes += choice.json.size();
  return bytes;
}

// --- events

std::string OpenAiReply::Take(size_t prompt, const ReplyChunk& chunk) {
  Prompt& facts = prompts_[prompt];
  if (chunk.prompt) {
    facts.cached_tokens = chunk.prompt->cached_tokens;
    facts.scores.insert(facts.scores.end(), chunk.prompt->scores.begin(),
                        chunk.prompt->scores.end());
    bytes_ += KeptBytes(chunk.prompt->scores);
  }
  const size_t first = prompt * static_cast<size_t>(format_.n);
  std::string events;
  std::vector<const EndEvent*> ends(static_cast<size_t>(format_.n), nullptr);
  for (const EndEvent& end : chunk.ends) ends[static_cast<size_t>(end.index)] = &end;
  for (const DeltaEvent& delta : chunk.deltas) {
    const auto output = static_cast<size_t>(delta.index);
    events += TakeDelta(first + output, delta, std::exchange(ends[output], nullptr));
  }
  for (const EndEvent* end : ends) {
    if (end == nullptr) continue;
    events += TakeDelta(first + static_cast<size_t>(end->index), DeltaEvent{}, end);
  }
  return events;
}

std::string OpenAiReply::TakeDelta(size_t index, const DeltaEvent& delta, const EndEvent* end) {
  Choice& choice = choices_[index];
  // A reply that is its prompt alone does not show the one token that the engine had to draw.
  const DeltaEvent nothing;
  const DeltaEvent& shown = format_.prompt_only ? nothing : delta;
  const std::string& text = shown.text;
  const std::vector<TokenResult>& tokens = shown.tokens;
  choice.completion_tokens += shown.count;
  if (!format_.stream) {
    Keep(choice, shown);
    if (end != nullptr) WriteChoice(index, *end);
    return "";
  }

  const bool first = !std::exchange(choice.begun, true);
  std::string events = first && chat() ? RoleEvent(index) : "";
  // An echo and the prompt's ids come with a completion's first event.
  const bool opens = first && !chat() && (format_.echo || format_.token_ids);
  // A token without text yet makes an event as well: clients take events for tokens.
  const bool tells = !text.empty() || shown.count > 0;
  if (!opens && !tells && end == nullptr) return events;

  JsonObjectText json;
  json.Add("index", index);
  const bool echoes = opens && format_.echo;
  if (chat()) {
    json.Add("delta", {{"content", text}});
  } else {
    json.Add("text", echoes ? PromptOf(index).facts.text + text : text);
  }
  json.AddText("logprobs", tokens.empty() && !echoes ? "null" : Logprobs(index, tokens, echoes));
  if (end != nullptr) {
    AddFinish(json, *end);
  } else {
    json.Add("finish_reason", nullptr);
  }
  if (format_.token_ids) {
    json.Add("token_ids", Ids(tokens));
    if (opens) json.Add("prompt_token_ids", PromptOf(index).facts.ids);
  }
  return events + Event(index, json.Take());
}

// Nothing more of a reply that is refused for its size.
void OpenAiReply::Keep(Choice& choice, const DeltaEvent& delta) {
  bytes_ += static_cast<int64_t>(delta.text.size()) + KeptBytes(delta.tokens);
  if (too_large()) return;
  choice.text += delta.text;
  choice.tokens.insert(choice.tokens.end(), delta.tokens.begin(), delta.tokens.end());
}

void OpenAiReply::WriteChoice(size_t index, const EndEvent& end) {
  if (too_large()) return;
  Choice& choice = choices_[index];
  Prompt& prompt = PromptOf(index);
  if (format_.prompt_logprobs && prompt.logprobs.empty()) {
    prompt.logprobs = PromptLogprobs(prompt);
    bytes_ += std::ssize(prompt.logprobs);
  }
  const std::string text = std::exchange(choice.text, "");
  const std::vector<TokenResult> tokens = std::exchange(choice.tokens, {});
  JsonObjectText json;
  json.Add("index", index);
  if (chat()) {
    json.Add("message", {{"role", "assistant"}, {"content", text}});
  } else {
    json.Add("text", (format_.echo ? prompt.facts.text : "") + text);
  }
  json.AddText("logprobs", Logprobs(index, tokens, format_.echo));
  AddFinish(json, end);
  if (format_.token_ids) json.Add("token_ids", Ids(tokens));
  if (!chat() && format_.token_ids) json.Add("prompt_token_ids", prompt.facts.ids);
  if (!chat() && format_.prompt_logprobs) json.AddText("prompt_logprobs", prompt.logprobs);
  choice.json = json.Take();
  bytes_ += std::ssize(choice.json) - std::ssize(text) - KeptBytes(tokens);
}

// A chat's choice begins with its role, together with its first token: benchmark clients take the
// first event with a choice for the time to the first token.
std::string OpenAiReply::RoleEvent(size_t index) {
  return Event(index, Dump({{"index", index},
                            {"delta", {{"role", "assistant"}, {"content", ""}}},
                            {"logprobs", nullptr},
                            {"finish_reason", nullptr}}));
}

std::string OpenAiReply::Event(size_t index, std::string_view choice) {
  JsonObjectText event = Envelope("chat.completion.chunk");
  JsonArrayText choices;
  choices.AddText(choice);
  event.AddText("choices", choices.Take());
  if (chat() && format_.token_ids && !std::exchange(told_prompt_, true)) {
    event.Add("prompt_token_ids", PromptOf(index).facts.ids);
  }
  if (format_.continuous_usage) {
    const Prompt& prompt = PromptOf(index);
    event.Add("usage", UsageOf(std::ssize(prompt.facts.ids), choices_[index].completion_tokens,
                               prompt.cached_tokens));
  }
  return Sse(event.Take());
}

std::string OpenAiReply::StreamEnd() const {
  std::string events;
  if (format_.include_usage) {
    JsonObjectText event = Envelope("chat.completion.chunk");
    event.Add("choices", Json::array());
    event.Add("usage", TotalUsage());
    events = Sse(event.Take());
  }
  return events + "data: [DONE]\n\n";
}

std::string OpenAiReply::Whole() {
  std::vector<std::string> choices;
  choices.reserve(choices_.size());
  for (Choice& choice : choices_) choices.push_back(std::exchange(choice.json, ""));
  JsonObjectText reply = Envelope("chat.completion");
  reply.AddArray("choices", std::move(choices));
  reply.Add("usage", TotalUsage());
  if (chat() && format_.token_ids) reply.Add("prompt_token_ids", prompts_[0].facts.ids);
  if (chat() && format_.prompt_logprobs) reply.AddText("prompt_logprobs", prompts_[0].logprobs);
  return reply.Take();
}

JsonObjectText OpenAiReply::Envelope(const char* chat_object) const {
  JsonObjectText reply;
  reply.Add("id", header_.id);
  reply.Add("object", chat() ? chat_object : "text_completion");
  reply.Add("created", header_.created);
  reply.Add("model", header_.model);
  return reply;
}

void OpenAiReply::AddFinish(JsonObjectText& choice, const EndEvent& end) const {
  choice.Add("finish_reason", format_.prompt_only ? "length" : NameOf(end.reason));
  Json reason;
  if (!format_.prompt_only && end.reason == EndReason::kStop) {
    if (end.stop_string) {
      reason = *end.stop_string;
    } else if (end.stop_id >= 0 && end.stop_id != primary_eos_) {
      reason = end.stop_id;
    }
  }
  choice.Add("stop_reason", reason);
}

Json OpenAiReply::TotalUsage() const {
  int64_t prompt_tokens = 0, completion_tokens = 0, cached = 0;
  for (const Prompt& prompt : prompts_) {
    prompt_tokens += std::ssize(prompt.facts.ids);
    cached += prompt.cached_tokens;
  }
  for (const Choice& choice : choices_) completion_tokens += choice.completion_tokens;
  return UsageOf(prompt_tokens, completion_tokens, cached);
}

// --- log-probabilities

// Valid UTF-8: a piece of a character is U+FFFD.
std::string OpenAiReply::TokenName(int32_t id) const {
  if (format_.tokens_as_ids) return absl::StrCat("token_id:", id);
  std::string bytes = tokenizer_.TokenBytes(id);
  if (text::IsValidUtf8(bytes)) return bytes;
  const auto text = tokenizer_.Decode({&id, 1}, /*skip_special_tokens=*/false);
  return text.ok() ? *text : "\uFFFD";
}

std::string OpenAiReply::Logprobs(size_t index, const std::vector<TokenResult>& tokens,
                                  bool with_prompt) {
  if (!format_.logprobs) return "null";
  return chat() ? ChatLogprobs(tokens) : CompletionLogprobs(index, tokens, with_prompt);
}

std::string OpenAiReply::ChatLogprobs(const std::vector<TokenResult>& tokens) const {
  const auto entry = [&](int32_t id, float logprob) -> Json {
    return {{"token", TokenName(id)},
            {"logprob", Logprob(logprob)},
            {"bytes", Bytes(tokenizer_.TokenBytes(id))}};
  };
  JsonArrayText content;
  for (const TokenResult& token : tokens) {
    Json one = entry(token.token, token.logprob);
    Json& top = one["top_logprobs"] = Json::array();
    for (int i = 0; i < token.top_count; ++i) {
      top.push_back(entry(token.top_ids[i], token.top_logprobs[i]));
    }
    content.Add(one);
  }
  JsonObjectText logprobs;
  logprobs.AddText("content", content.Take());
  return logprobs.Take();
}

std::string OpenAiReply::CompletionLogprobs(size_t index, const std::vector<TokenResult>& tokens,
                                            bool with_prompt) {
  Choice& choice = choices_[index];
  JsonArrayText offsets, values, names, tops;
  const auto add = [&](int32_t id, const TokenResult* result) {
    names.Add(TokenName(id));
    offsets.Add(choice.code_points);
    // A piece of a character counts with the piece that begins it.
    for (unsigned char c : tokenizer_.TokenBytes(id)) choice.code_points += (c & 0xC0) != 0x80;
    if (result == nullptr) {
      values.Add(nullptr);
      tops.Add(nullptr);
      return;
    }
    values.Add(Logprob(result->logprob));
    Json top = Json::object();
    // Pieces of characters may share one text: the likeliest keeps it.
    const auto put = [&](int32_t top_id, float logprob) {
      const double value = Logprob(logprob);
      const auto [it, fresh] = top.emplace(TokenName(top_id), value);
      if (!fresh && it->get<double>() < value) *it = value;
    };
    put(id, result->logprob);
    const int count = std::min<int>(result->top_count, static_cast<int>(format_.top_logprobs));
    for (int i = 0; i < count; ++i) put(result->top_ids[i], result->top_logprobs[i]);
    tops.Add(top);
  };
  if (with_prompt) {
    const Prompt& prompt = PromptOf(index);
    for (size_t i = 0; i < prompt.facts.ids.size(); ++i) {
      const bool scored = i > 0 && i - 1 < prompt.scores.size();
      add(prompt.facts.ids[i], scored ? &prompt.scores[i - 1] : nullptr);
    }
  }
  for (const TokenResult& token : tokens) add(token.token, &token);
  JsonObjectText logprobs;
  logprobs.AddText("text_offset", offsets.Take());
  logprobs.AddText("token_logprobs", values.Take());
  logprobs.AddText("tokens", names.Take());
  logprobs.AddText("top_logprobs", tops.Take());
  return logprobs.Take();
}

std::string OpenAiReply::PromptLogprobs(const Prompt& prompt) const {
  JsonArrayText list;
  list.Add(nullptr);
  for (const TokenResult& score : prompt.scores) {
    Json entry = Json::object();
    const auto put = [&](int32_t id, float logprob, int rank) {
      entry[std::to_string(id)] = {
          {"logprob", Logprob(logprob)}, {"rank", rank}, {"decoded_token", TokenName(id)}};
    };
    put(score.token, score.logprob, score.rank);
    const int count = std::min<int>(score.top_count, static_cast<int>(*format_.prompt_logprobs));
    for (int i = 0; i < count; ++i) {
      if (score.top_ids[i] != score.token) put(score.top_ids[i], score.top_logprobs[i], i + 1);
    }
    list.Add(entry);
  }
  return list.Take();
}

}  // namespace baram::server
