// OpenAI's replies: see the header.
#include "server/openai_reply.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace baram::server {

namespace {

Json Ids(const std::vector<TokenResult>& tokens) {
  Json ids = Json::array();
  for (const TokenResult& token : tokens) ids.push_back(token.token);
  return ids;
}

// About how many bytes of JSON the tokens take: each token is an entry, and so is each alternative.
size_t EntryBytes(const std::vector<TokenResult>& tokens) {
  constexpr size_t kEntryBytes = 100;
  return tokens.empty() ? 0 : tokens.size() * (1 + tokens[0].top_count) * kEntryBytes;
}

// A JSON string without its quotes.
std::string StringContent(const std::string& text) {
  const std::string json = DumpText(text);
  return json.substr(1, json.size() - 2);
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
                         const text::Tokenizer& tokenizer, int32_t primary_eos, int64_t max_bytes,
                         KeptAnswers::One& kept)
    : format_(format),
      header_(std::move(header)),
      logprobs_(format_, tokenizer),
      primary_eos_(primary_eos),
      max_bytes_(max_bytes),
      kept_(kept),
      envelope_(Envelope()),
      prompts_(prompts),
      choices_(prompts * static_cast<size_t>(format.n)) {}

void OpenAiReply::SetPrompt(size_t prompt, OpenAiPrompt facts) {
  // An unstreamed reply counts its echo when it writes it.
  const std::string& text = facts.text;
  prompts_[prompt].text_bytes = format_.stream ? StringContent(text).size() : text.size();
  prompts_[prompt].facts = std::move(facts);
}

size_t OpenAiReply::PromptBytes(const Prompt& prompt) const {
  constexpr size_t kIdBytes = 8;
  size_t bytes = prompt.text_bytes + prompt.echo.size();
  if (!chat()) bytes += prompt.logprobs.size();
  if (!chat() && format_.token_ids) bytes += prompt.facts.ids.size() * kIdBytes;
  return bytes;
}

size_t OpenAiReply::SizeOf(size_t prompt, const ReplyChunk& chunk) const {
  const size_t first = prompt * static_cast<size_t>(format_.n);
  size_t bytes = 0;
  size_t shows = 0;  // how often the prompt is shown
  for (const DeltaEvent& delta : chunk.deltas) {
    bytes += delta.text.size() + EntryBytes(delta.tokens);
    if (format_.stream) shows += !choices_[first + static_cast<size_t>(delta.index)].begun;
  }
  // An output that ends without a delta opens too; one with both in a chunk counts twice.
  for (const EndEvent& end : chunk.ends) {
    const Choice& choice = choices_[first + static_cast<size_t>(end.index)];
    shows += !format_.stream || !choice.begun;
    bytes += choice.size();
  }
  const size_t scores = chunk.prompt ? EntryBytes(chunk.prompt->scores) : 0;
  return bytes + scores + shows * (PromptBytes(prompts_[prompt]) + scores);
}

size_t OpenAiReply::WholeSize() const {
  size_t bytes = chat() ? prompts_[0].logprobs.size() : 0;
  for (const Choice& choice : choices_) bytes += choice.json.size();
  return bytes;
}

// --- events

std::string OpenAiReply::OnChunk(size_t prompt, const ReplyChunk& chunk) {
  Prompt& facts = prompts_[prompt];
  if (chunk.prompt) {
    facts.cached_tokens = chunk.prompt->cached_tokens;
    AddScores(facts, chunk.prompt->scores);
  }
  const size_t first = prompt * static_cast<size_t>(format_.n);
  std::string events;
  std::vector<const EndEvent*> ends(static_cast<size_t>(format_.n), nullptr);
  for (const EndEvent& end : chunk.ends) ends[static_cast<size_t>(end.index)] = &end;
  for (const DeltaEvent& delta : chunk.deltas) {
    const auto output = static_cast<size_t>(delta.index);
    events += OnDelta(first + output, delta, std::exchange(ends[output], nullptr));
  }
  for (const EndEvent* end : ends) {
    if (end == nullptr) continue;
    events += OnDelta(first + static_cast<size_t>(end->index), DeltaEvent{}, end);
  }
  return events;
}

void OpenAiReply::AddScores(Prompt& prompt, const std::vector<TokenResult>& scores) {
  for (const TokenResult& score : scores) {
    if (too_large()) return;
    const size_t before = prompt.size();
    if (format_.echo && format_.logprobs) {
      if (prompt.echoed == 0) EchoNext(prompt, nullptr);
      if (prompt.echoed < prompt.facts.ids.size()) EchoNext(prompt, &score);
    }
    if (format_.prompt_logprobs) logprobs_.AddToPrompt(prompt.logprobs, score);
    CountKept(prompt.size() - before);
  }
}

void OpenAiReply::EchoNext(Prompt& prompt, const TokenResult* score) {
  logprobs_.AddEchoed(prompt.echo, prompt.facts.ids[prompt.echoed++], score, prompt.facts.text,
                      &prompt.echoed_bytes);
}

void OpenAiReply::Open(Choice& choice, Prompt& prompt) {
  choice.begun = true;
  if (!format_.echo || !format_.logprobs) return;
  const size_t before = prompt.size();
  while (prompt.echoed < prompt.facts.ids.size() && !too_large()) EchoNext(prompt, nullptr);
  CountKept(prompt.size() - before);
  choice.logprobs.shown = prompt.echo.shown;
}

std::string OpenAiReply::OnDelta(size_t index, const DeltaEvent& delta, const EndEvent* end) {
  Choice& choice = choices_[index];
  // A prompt-only reply hides the one token that the engine had to generate.
  const DeltaEvent nothing;
  const DeltaEvent& shown = format_.prompt_only ? nothing : delta;
  const bool first = !choice.begun;
  if (first) Open(choice, PromptOf(index));
  if (format_.stream) return DeltaEvents(index, shown, end, first);
  choice.completion_tokens += shown.count;
  Keep(choice, shown);
  if (end != nullptr) WriteChoice(index, *end);
  return "";
}

std::string OpenAiReply::DeltaEvents(size_t index, const DeltaEvent& delta, const EndEvent* end,
                                     bool first) {
  Choice& choice = choices_[index];
  Prompt& prompt = PromptOf(index);
  std::string events = first && chat() ? RoleEvent(index) : "";
  choice.completion_tokens += delta.count;
  // An echo and the prompt's ids are sent with a completion's first event.
  const bool opens = first && !chat() && (format_.echo || format_.token_ids);
  // A token without text also makes an event: clients count events as tokens.
  const bool tells = !delta.text.empty() || delta.count > 0;
  if (!opens && !tells && end == nullptr) return events;
  if (opens && !MayShow(prompt)) return events;

  JsonObjectText json;
  json.AddText("index", absl::StrCat(index));
  const bool echoes = opens && format_.echo;
  if (chat()) {
    JsonObjectText content;
    content.Add("content", delta.text);
    json.AddText("delta", content.Take());
  } else {
    json.Add("text", echoes ? prompt.facts.text + delta.text : delta.text);
  }
  for (const TokenResult& token : delta.tokens) AddLogprobs(choice, token);
  const bool scored = echoes || !delta.tokens.empty();
  json.AddText("logprobs", scored ? TakeLogprobs(choice, prompt, echoes) : "null");
  if (end != nullptr) {
    AddFinish(json, *end);
  } else {
    json.AddNull("finish_reason");
  }
  if (format_.token_ids) {
    json.Add("token_ids", Ids(delta.tokens));
    if (opens) json.Add("prompt_token_ids", prompt.facts.ids);
  }
  if (opens) Shown(prompt);
  return events + Event(index, json.Take());
}

bool OpenAiReply::MayShow(const Prompt& prompt) {
  // The log-probabilities were counted once, on arrival.
  Count(PromptBytes(prompt) - (prompt.shown == 0 ? prompt.size() : 0));
  return !too_large();
}

void OpenAiReply::Shown(Prompt& prompt) {
  if (++prompt.shown < format_.n || chat()) return;
  kept_.Add(-static_cast<int64_t>(prompt.size()));
  prompt.echo = {};
  prompt.logprobs = {};
}

void OpenAiReply::AddLogprobs(Choice& choice, const TokenResult& token) {
  if (format_.logprobs) logprobs_.Add(choice.logprobs, token);
}

std::string OpenAiReply::TakeLogprobs(Choice& choice, const Prompt& prompt, bool with_prompt) {
  if (!format_.logprobs) return "null";
  return logprobs_.Take(choice.logprobs, with_prompt ? &prompt.echo : nullptr);
}

void OpenAiReply::Count(size_t more) {
  const auto bytes = static_cast<int64_t>(more);
  if (bytes_.fetch_add(bytes) + bytes > max_bytes_) too_large_ = true;
}

void OpenAiReply::CountKept(size_t more) {
  Count(more);
  kept_.Add(static_cast<int64_t>(more));
}

// Once a reply is refused for its size, nothing more is kept.
void OpenAiReply::Keep(Choice& choice, const DeltaEvent& delta) {
  if (too_large()) return;
  size_t before = choice.size();
  choice.text += StringContent(delta.text);
  CountKept(choice.size() - before);
  for (const TokenResult& token : delta.tokens) {
    if (too_large()) return;
    before = choice.size();
    AddLogprobs(choice, token);
    if (format_.token_ids) choice.ids.Add(token.token);
    CountKept(choice.size() - before);
  }
}

void OpenAiReply::WriteChoice(size_t index, const EndEvent& end) {
  Choice& choice = choices_[index];
  Prompt& prompt = PromptOf(index);
  const std::string echo = format_.echo ? StringContent(prompt.facts.text) : "";
  const std::string prompt_ids = !chat() && format_.token_ids ? Dump(Json(prompt.facts.ids)) : "";
  // The prompt's log-probabilities were counted once, on arrival: that covers its first choice.
  const size_t of_prompt = chat() ? 0 : prompt.size();
  const size_t counted_of_prompt = prompt.shown == 0 ? of_prompt : 0;
  const size_t more = echo.size() + prompt_ids.size() + of_prompt - counted_of_prompt;
  if (bytes_ + static_cast<int64_t>(more) > max_bytes_) too_large_ = true;
  if (too_large()) return;
  const size_t kept = choice.size();
  const std::string text = std::exchange(choice.text, "");
  JsonObjectText json;
  json.Add("index", index);
  if (chat()) {
    JsonObjectText message;
    message.Add("role", "assistant");
    message.AddText("content", absl::StrCat("\"", text, "\""));
    json.AddText("message", message.Take());
  } else {
    json.AddText("text", absl::StrCat("\"", echo, text, "\""));
  }
  json.AddText("logprobs", TakeLogprobs(choice, prompt, format_.echo));
  AddFinish(json, end);
  if (format_.token_ids) json.AddText("token_ids", choice.ids.Take());
  if (!chat() && format_.token_ids) json.AddText("prompt_token_ids", prompt_ids);
  if (!chat() && format_.prompt_logprobs) json.AddText("prompt_logprobs", PromptLogprobs(prompt));
  choice.json = json.Take();
  const size_t grown = choice.json.size() - kept;  // all it shows, including the prompt
  Count(grown - counted_of_prompt);
  kept_.Add(static_cast<int64_t>(grown));
  Shown(prompt);
}

std::string OpenAiReply::PromptLogprobs(const Prompt& prompt) {
  JsonArrayText list;
  list.Add(nullptr);  // the first token has no predecessor
  list.AddAll(prompt.logprobs);
  return list.Take();
}

// A chat's choice begins with its role, together with its first token: benchmark clients measure
// the time to the first token by the first event with a choice.
std::string OpenAiReply::RoleEvent(size_t index) {
  return Event(index, Dump({{"index", index},
                            {"delta", {{"role", "assistant"}, {"content", ""}}},
                            {"logprobs", nullptr},
                            {"finish_reason", nullptr}}));
}

std::string OpenAiReply::Event(size_t index, std::string_view choice) {
  JsonObjectText event = envelope_;
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
    JsonObjectText event = envelope_;
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
  JsonObjectText reply = envelope_;
  // Members that may be long come first: see AddArray.
  if (chat() && format_.token_ids) reply.Add("prompt_token_ids", prompts_[0].facts.ids);
  if (chat() && format_.prompt_logprobs) {
    reply.AddText("prompt_logprobs", PromptLogprobs(prompts_[0]));
  }
  reply.AddArray("choices", std::move(choices));
  reply.Add("usage", TotalUsage());
  return reply.Take();
}

JsonObjectText OpenAiReply::Envelope() const {
  const char* chat_object = format_.stream ? "chat.completion.chunk" : "chat.completion";
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

}  // namespace baram::server
