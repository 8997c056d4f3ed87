// OpenAI's replies: JSON from native events, for chat and completions, streamed or whole.
#ifndef BARAM_SERVER_OPENAI_REPLY_H_
#define BARAM_SERVER_OPENAI_REPLY_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "server/json_text.h"
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

// What is known of a prompt once its call is accepted.
struct OpenAiPrompt {
  std::vector<int32_t> ids;
  std::string text;  // for echo
};

// Builds the reply to one request. A whole one is written choice by choice, as they end. Different
// prompts may be fed from different threads, each from one at a time; the rest is called once every
// prompt has had its last chunk.
class OpenAiReply {
 public:
  // To a call of `prompts` prompts. The tokenizer must outlive this. `primary_eos` ends a reply
  // without a stop_reason. A whole reply may have `max_bytes`.
  OpenAiReply(const OpenAiFormat& format, size_t prompts, OpenAiHeader header,
              const text::Tokenizer& tokenizer, int32_t primary_eos, int64_t max_bytes);

  // Before the first chunk of that prompt.
  void SetPrompt(size_t prompt, OpenAiPrompt facts);
  // Takes a chunk of prompt `prompt` in; returns the server-sent events it makes, empty when not
  // streaming.
  std::string Take(size_t prompt, const ReplyChunk& chunk);
  // Roughly how many bytes of JSON Take(chunk) or Whole() will write, to tell whether it takes
  // long.
  size_t SizeOf(size_t prompt, const ReplyChunk& chunk) const;
  size_t WholeSize() const;
  // From any thread: a whole reply, as far as it was taken, has outgrown its limit, and is of no
  // use any more: once true, always true. What counts is its JSON, written or kept to be.
  bool too_large() const { return too_large_.load(); }
  int64_t max_bytes() const { return max_bytes_; }
  // The events after the last chunk: usage, if asked for, and "[DONE]".
  std::string StreamEnd() const;
  // The whole reply, once: every prompt's last chunk was taken, and it is not too large.
  std::string Whole();

 private:
  struct Choice {
    bool begun = false;     // its first delta was taken, or its end
    std::string text;       // so far, as in a JSON string; whole replies only, as `ids` and `json`
    JsonArrayText ids;      // so far, if they are shown
    LogprobsText logprobs;  // so far, if they are shown; of a stream, since the last event
    std::string json;       // once it has ended: all of it
    int64_t completion_tokens = 0;

    size_t size() const { return text.size() + ids.size() + logprobs.size(); }
  };
  struct Prompt {
    OpenAiPrompt facts;
    LogprobsText echo;        // of its first tokens
    size_t echoed = 0;        // how many
    size_t echoed_bytes = 0;  // of the text
    JsonArrayText logprobs;   // as prompt_logprobs shows them, of tokens 1, 2, ...
    int64_t written = 0;      // whole replies: its choices that are
    int64_t cached_tokens = 0;

    size_t size() const { return echo.size() + logprobs.size(); }
  };

  bool chat() const { return format_.endpoint == OpenAiEndpoint::kChat; }
  Prompt& PromptOf(size_t index) { return prompts_[index / static_cast<size_t>(format_.n)]; }

  std::string TakeDelta(size_t index, const DeltaEvent& delta, const EndEvent* end);
  void TakeScores(Prompt& prompt, const std::vector<TokenResult>& scores);
  void EchoNext(Prompt& prompt, const TokenResult* score);
  // Before a choice's first token: those of an echo stand before it, scored or not.
  void Open(Choice& choice, Prompt& prompt);
  // About how many bytes of JSON an output shows of its prompt.
  size_t PromptBytes(const Prompt& prompt) const;
  void AddLogprobs(Choice& choice, const TokenResult& token);
  std::string TakeLogprobs(Choice& choice, const Prompt& prompt, bool with_prompt);
  static std::string PromptLogprobs(const Prompt& prompt);
  // A whole reply has grown by so many bytes.
  void Count(size_t more);
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
  const JsonObjectText envelope_;  // how every event begins, or the whole reply
  std::atomic<int64_t> bytes_{0};
  // Apart from the sum: what was not kept is missing whatever becomes of that.
  std::atomic<bool> too_large_{false};
  std::vector<Prompt> prompts_;
  std::vector<Choice> choices_;  // [prompt * n + output]
  bool told_prompt_ = false;     // chat: the ids of the prompt were in an event
};

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_REPLY_H_
