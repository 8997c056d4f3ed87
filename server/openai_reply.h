// OpenAI's replies: JSON from native events, for chat and completions, streamed or whole.
#ifndef BARAM_SERVER_OPENAI_REPLY_H_
#define BARAM_SERVER_OPENAI_REPLY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "server/json_fields.h"
#include "server/openai_request.h"
#include "server/reply.h"
#include "server/text/tokenizer.h"

namespace baram::server {

// What every part of a reply repeats.
struct OpenAiHeader {
  std::string id;     // "chatcmpl-..." or "cmpl-..."
  std::string model;  // the name the client used, or the served one
  int64_t created = 0;  // Unix time
};

// Builds the reply to one call. One thread at a time.
class OpenAiReply {
 public:
  // `prompts` are the ids and texts of the request's calls. All references must outlive this.
  struct PromptFacts {
    std::vector<int32_t> ids;
    std::string text;  // for echo
  };
  OpenAiReply(const OpenAiRequest& request, OpenAiHeader header, const text::Tokenizer& tokenizer,
              int32_t primary_eos);

  void SetPrompt(size_t prompt, PromptFacts facts);

  // Takes a chunk of prompt `prompt` in; returns the server-sent events it makes, empty when not
  // streaming.
  std::string Take(size_t prompt, const ReplyChunk& chunk);
  // The events after the last chunk: usage, if asked for, and "[DONE]".
  std::string StreamEnd();
  // The whole reply, once every prompt's last chunk was taken.
  std::string Whole();

 private:
  struct Choice {
    bool begun = false;     // its first event was made
    std::string text;       // so far; whole replies only
    size_t code_points = 0; // of the text so far, echo included
    std::vector<TokenResult> tokens;  // whole replies only
    int64_t completion_tokens = 0;
    EndEvent end;
  };
  struct Prompt {
    PromptFacts facts;
    std::vector<TokenResult> scores;
    int64_t cached_tokens = 0;
    int64_t completion_tokens = 0;
  };

  bool chat() const { return request_.endpoint == OpenAiEndpoint::kChat; }
  std::string Event(Json choice, size_t prompt);
  Json ChoiceDelta(size_t index, size_t prompt, const std::string& text,
                   const std::vector<TokenResult>& tokens);
  void SetFinish(Json& choice, const EndEvent& end) const;
  std::string BeginChoice(size_t index, size_t prompt);
  Json Usage(int64_t prompt_tokens, int64_t completion_tokens, int64_t cached) const;
  Json TotalUsage() const;

  Json Logprobs(Choice& choice, size_t prompt, const std::vector<TokenResult>& tokens,
                bool with_prompt) const;
  Json ChatLogprobs(const std::vector<TokenResult>& tokens) const;
  Json CompletionLogprobs(Choice& choice, size_t prompt, const std::vector<TokenResult>& tokens,
                          bool with_prompt) const;
  Json PromptLogprobs(const Prompt& prompt) const;
  std::string TokenName(int32_t id) const;

  const OpenAiRequest& request_;
  const OpenAiHeader header_;
  const text::Tokenizer& tokenizer_;
  const int32_t primary_eos_;
  std::vector<Prompt> prompts_;
  std::vector<Choice> choices_;  // [prompt * n + output]
};

// {"error": {...}} of a status; `param` may be empty.
std::string OpenAiError(int status, std::string_view message, std::string_view param);
// The HTTP status of a call's status.
int HttpStatusOf(const absl::Status& status);

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_REPLY_H_
