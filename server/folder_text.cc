// The text half of a model folder: see the header.
#include "server/folder_text.h"

#include <utility>

namespace baram::server {

absl::StatusOr<FolderText> LoadFolderText(const Config& config) {
  FolderText text;
  auto tokenizer = text::Tokenizer::Load(config.model);
  if (absl::IsNotFound(tokenizer.status())) return BlameSetting(tokenizer.status(), "model");
  if (!tokenizer.ok()) return tokenizer.status();
  text.tokenizer = *std::move(tokenizer);
  auto chat_template =
      text::ChatTemplate::Load(config.model, config.chat_template, *text.tokenizer);
  if (chat_template.ok()) {
    text.chat_template = *std::move(chat_template);
  } else if (!config.chat_template.empty()) {
    return BlameSetting(chat_template.status(), "chat-template");
  } else if (!absl::IsNotFound(chat_template.status())) {
    return chat_template.status();
  }
  return text;
}

}  // namespace baram::server
