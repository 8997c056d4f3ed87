// OpenAI's replies: JSON from native events, for chat and completions, streamed or not.
#ifndef BARAM_SERVER_OPENAI_REPLY_H_
#define BARAM_SERVER_OPENAI_REPLY_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "server/json_text.h"
#include "server/kept_answers.h"
#include "server/openai_logprobs.h"
#include "server/openai_request.h"
#include "server/reply_events.h"
#include "server/text/tokenizer.h"

namespace baram::server {

// What every part of a reply repeats.
struct OpenAiHeader {
  std::string id;       // "chatcmpl-..." or "cmpl-..."
  std::string model;    // the name the client used, or the served one
  int64_t created = 0;  // Unix time
};

// Facts about a prompt, known once its call is accepted.
struct OpenAiPrompt {
  std::vector<int32_t> ids;
  std::string text;  // for echo
};

// Builds the reply to one request. An unstreamed one is written choice by choice, as they end.
// Different prompts may be fed from different threads, each by one at a time; everything else is
// called after every prompt's last chunk.
class OpenAiReply {
 public:
  // For a call of `prompts` prompts. The references must outlive this. A reply that ends with
  // `primary_eos` has no stop_reason. `max_bytes` limits an unstreamed reply, and in a stream what
  // it shows of its prompts, which is repeated for every output. What is kept here is added to
  // `kept`.
  OpenAiReply(const OpenAiFormat& format, size_t prompts, OpenAiHeader header,
              const text::Tokenizer& tokenizer, int32_t primary_eos, int64_t max_bytes,
              KeptAnswers::One& kept);

  // Call before the first chunk of that prompt.
  void SetPrompt(size_t prompt, OpenAiPrompt facts);
  // Consumes a chunk of prompt `prompt`; returns the server-sent events it produces, empty when not
  // streaming.
  std::string OnChunk(size_t prompt, const ReplyChunk& chunk);
  // Estimates how many bytes of JSON OnChunk(chunk) or Whole() will write, to predict whether it
  // takes long.
  size_t SizeOf(size_t prompt, const ReplyChunk& chunk) const;
  size_t WholeSize() const;
  // Thread-safe: whether the reply has outgrown its limit so far, and is of no more use; once true,
  // always true. What counts is its JSON, written or still to be written; of a stream, that of its
  // prompts.
  bool too_large() const { return too_large_.load(); }
  int64_t max_bytes() const { return max_bytes_; }
  // The events after the last chunk: usage, if requested, and "[DONE]".
  std::string StreamEnd() const;
  // The whole reply; call once, after every prompt's last chunk, unless it is too large.
  std::string Whole();

 private:
  struct Choice {
    bool begun = false;     // its first delta, or its end, was consumed
    std::string text;       // so far, escaped for JSON; like `ids` and `json`, only if not streamed
    JsonArrayText ids;      // so far, if shown
    LogprobsText logprobs;  // so far, if shown; of a stream, since the last event
    std::string json;       // complete, once it has ended
    int64_t completion_tokens = 0;

    size_t size() const { return text.size() + ids.size() + logprobs.size(); }
  };
  struct Prompt {
    OpenAiPrompt facts;
    size_t text_bytes = 0;    // of facts.text: in JSON if streamed, else roughly
    LogprobsText echo;        // of its first `echoed` tokens
    size_t echoed = 0;        // how many
    size_t echoed_bytes = 0;  // of the text
    JsonArrayText logprobs;   // in the form of prompt_logprobs, for tokens 1, 2, ...
    int64_t shown = 0;        // how many of its choices are written or, streamed, have begun
    int64_t cached_tokens = 0;

    size_t size() const { return echo.size() + logprobs.size(); }
  };

  bool chat() const { return format_.endpoint == OpenAiEndpoint::kChat; }
  Prompt& PromptOf(size_t index) { return prompts_[index / static_cast<size_t>(format_.n)]; }

  std::string OnDelta(size_t index, const DeltaEvent& delta, const EndEvent* end);
  // The events of a streamed delta; `first`: its choice begins with it.
  std::string DeltaEvents(size_t index, const DeltaEvent& delta, const EndEvent* end, bool first);
  void AddScores(Prompt& prompt, const std::vector<TokenResult>& scores);
  void EchoNext(Prompt& prompt, const TokenResult* score);
  // Before a choice's first token: an echo's tokens come before it, with or without
  // log-probabilities.
  void Open(Choice& choice, Prompt& prompt);
  // About how many bytes of JSON an output uses to show its prompt.
  size_t PromptBytes(const Prompt& prompt) const;
  void AddLogprobs(Choice& choice, const TokenResult& token);
  std::string TakeLogprobs(Choice& choice, const Prompt& prompt, bool with_prompt);
  static std::string PromptLogprobs(const Prompt& prompt);
  // The reply has grown by `more` bytes.
  void Count(size_t more);
  // The same, by bytes that are kept here.
  void CountKept(size_t more);
  // Whether a stream may show its prompt once more, which then counts.
  bool MayShow(const Prompt& prompt);
  // Drops the log-probabilities of a completion's prompt once every output has shown them.
  void Shown(Prompt& prompt);
  void Keep(Choice& choice, const DeltaEvent& delta);
  void WriteChoice(size_t index, const EndEvent& end);
  JsonObjectText Envelope() const;
  std::string Event(size_t index, std::string_view choice);
  std::string RoleEvent(size_t index);
  void AddFinish(JsonObjectText& choice, const EndEvent& end) const;
  Json TotalUsage() const;

  const OpenAiFormat format_;
  const OpenAiHeader header_;
  const OpenAiLogprobs logprobs_;
  const int32_t primary_eos_;
  const int64_t max_bytes_;
  KeptAnswers::One& kept_;
  const JsonObjectText envelope_;  // the beginning of every event, or of the whole reply
  std::atomic<int64_t> bytes_{0};
  // Separate from the sum: what was not kept stays missing even if the sum shrinks.
  std::atomic<bool> too_large_{false};
  std::vector<Prompt> prompts_;
  std::vector<Choice> choices_;  // [prompt * n + output]
  bool told_prompt_ = false;     // chat: an event has had the prompt's ids
};

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_REPLY_H_
