// The text half of a model folder, tokenizer and chat template: `serve` loads it while the engine
// opens the device, `inspect` to find out whether it could.
#ifndef BARAM_SERVER_MODEL_TEXT_H_
#define BARAM_SERVER_MODEL_TEXT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/config.h"
#include "server/settings.h"
#include "server/text/chat_template.h"
#include "server/text/tokenizer.h"

namespace baram::server {

struct ModelText {
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::unique_ptr<text::ChatTemplate> chat_template;  // null if the model has none
  // For the operator: why the template renders no short conversation, and so perhaps no chat; empty
  // if it does.
  std::string chat_problem;
  int32_t needed_vocab = 0;  // one more than the largest id that the shortest text needs

  Vocabulary vocabulary() const { return {tokenizer->vocab_size(), needed_vocab}; }
};

// Loads from config.model and config.chat_template. Errors are for the operator and name the file:
// NotFound if it is missing, PermissionDenied if it may not be read, DataLoss if it is unusable. A
// folder without a chat template is no error; a --chat-template that does not exist is. Any thread.
absl::StatusOr<ModelText> LoadModelText(const Config& config);

// The ids that end a reply, the primary one first: the tokenizer's, with which chat models end
// their turn even if config.json names only another, and the engine's.
std::vector<int32_t> EosIds(const EngineInfo& info, const text::Tokenizer& tokenizer);

// The consequence of a folder without a chat template, for logs and `inspect`.
inline constexpr char kNoChatTemplate[] =
    "none: chats are refused, plain prompts are served; --chat-template FILE gives it one";
// The consequence of a folder without EOS ids.
inline constexpr char kNoEosIds[] =
    "none: replies end at their limits alone; eos_token_id in generation_config.json names them";

}  // namespace baram::server

#endif  // BARAM_SERVER_MODEL_TEXT_H_
