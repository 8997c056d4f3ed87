// PromptReader: the model's text on its way in and out: prompts to token ids, ids to text. A text
// is refused here, with the code and the sentence that the client sees.
#ifndef BARAM_SERVER_PROMPT_READER_H_
#define BARAM_SERVER_PROMPT_READER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/config.h"
#include "server/call.h"
#include "server/settings.h"
#include "server/text/chat_template.h"
#include "server/text/tokenizer.h"

namespace baram::server {

// A conversation rendered by the chat template, as text and tokens.
struct RenderedChat {
  std::string text;
  std::vector<int32_t> ids;
};

// Tokenizer and chat template must outlive it. Thread-safe.
class PromptReader {
 public:
  // `chat_template` may be null; chat prompts are then refused.
  PromptReader(const text::Tokenizer& tokenizer, const text::ChatTemplate* chat_template,
               const EngineInfo& info, const Config& config);

  // These take time: run them on the text pool.
  absl::StatusOr<std::vector<int32_t>> Tokenize(const Prompt& prompt) const;
  absl::StatusOr<RenderedChat> RenderChat(const ChatPrompt& prompt) const;
  // Returns `too_large` instead of a text of more than `max_bytes`, without building it.
  absl::StatusOr<std::string> Detokenize(const std::vector<int64_t>& ids, bool skip_special_tokens,
                                         int64_t max_bytes, const absl::Status& too_large) const;
  // Cuts `ids`, those of `prompt`, to what the call's truncate_prompt_tokens keeps. If it cuts,
  // sets `cut_after` to the number of ids that the tokenizer put before the text.
  absl::Status Truncate(const Call& call, const Prompt& prompt, std::vector<int32_t>* ids,
                        std::optional<size_t>* cut_after) const;

  // How many ids Detokenize accepts; front ends that copy them check it first.
  size_t max_detokenized() const { return static_cast<size_t>(max_prompt_bytes_); }
  absl::Status CheckDetokenized(size_t ids) const;
  // Whether a prompt of `ids` ids can fit the context; `truncated` says that it will be cut to fit.
  // Front ends that copy ids check it first.
  absl::Status CheckPromptIds(size_t ids, bool truncated) const;
  // The limit of template arguments; front ends that parse them check it first.
  static absl::Status CheckArgumentsSize(std::string_view arguments_json);

  // Converts an error of the text library to a client's: InvalidField or, if the library itself
  // failed, an Incident, whose cause is logged.
  static absl::Status OfText(std::string_view field, const absl::Status& error);

  // Whether the chat template reads reasoning_effort, and tools.
  bool takes_reasoning_effort() const { return takes_reasoning_effort_; }
  bool takes_tools() const { return takes_tools_; }
  const text::Tokenizer& tokenizer() const { return tokenizer_; }

 private:
  absl::StatusOr<std::string> RenderText(const ChatPrompt& prompt) const;
  absl::StatusOr<std::vector<int32_t>> EncodePrompt(const std::string& text,
                                                    bool add_special_tokens,
                                                    std::string_view field) const;

  const text::Tokenizer& tokenizer_;
  const text::ChatTemplate* const chat_template_;
  const int32_t vocab_size_;
  const int32_t max_model_len_;
  const int64_t max_prompt_bytes_;
  const bool takes_reasoning_effort_;
  const bool takes_tools_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_PROMPT_READER_H_
