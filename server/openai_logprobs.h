// Log-probabilities in OpenAI's reply format: JSON text, written token by token and without trees,
// which would take a delivery thread ten times as long.
#ifndef BARAM_SERVER_OPENAI_LOGPROBS_H_
#define BARAM_SERVER_OPENAI_LOGPROBS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/outbox.h"
#include "server/json_text.h"
#include "server/openai_request.h"
#include "server/text/tokenizer.h"
#include "server/text/utf8.h"

namespace baram::server {

// The log-probabilities of some tokens. A chat uses only `content`, a completion the others.
struct LogprobsText {
  JsonArrayText content;
  JsonArrayText offsets, values, names, tops;
  text::CodePointCounter shown;  // of all tokens so far, including those already taken

  size_t size() const {
    return content.size() + offsets.size() + values.size() + names.size() + tops.size();
  }
};

// Writes them in one call's format. Stateless: thread-safe.
class OpenAiLogprobs {
 public:
  // Both must outlive this.
  OpenAiLogprobs(const OpenAiFormat& format, const text::Tokenizer& tokenizer)
      : format_(format), tokenizer_(tokenizer) {}

  // Adds a token of a reply.
  void Add(LogprobsText& text, const TokenResult& result) const;
  // Adds a token of a prompt that is echoed as `echo`, whose previous tokens took `*at` bytes; npos
  // once they differ from the text (completions only). `result` is null for a token without a
  // score.
  void AddEchoed(LogprobsText& text, int32_t id, const TokenResult* result, std::string_view echo,
                 size_t* at) const;
  // Adds an entry of prompt_logprobs.
  void AddToPrompt(JsonArrayText& list, const TokenResult& score) const;
  // The value of "logprobs"; those of `before`, if any, come first. `text` continues with the next
  // token.
  std::string Take(LogprobsText& text, const LogprobsText* before) const;

 private:
  void AddToChat(LogprobsText& text, const TokenResult& result) const;
  // `shown`: the token's bytes in the text, possibly none.
  void AddToCompletion(LogprobsText& text, int32_t id, const TokenResult* result,
                       std::string_view shown) const;
  // The members of a chat's entry, without its closing brace.
  void AppendEntry(std::string* json, int32_t id, float logprob) const;
  // A token as `logprobs` shows it: its text, or its id if the client wants ids.
  std::string TokenName(int32_t id) const;
  std::string TokenText(int32_t id) const;

  const OpenAiFormat& format_;
  const text::Tokenizer& tokenizer_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_LOGPROBS_H_
