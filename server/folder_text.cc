// The text half of a model folder: see the header.
#include "server/folder_text.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"

namespace baram::server {
namespace {

// Rather what a folder is that is no model's at all, or how to come by the file.
absl::Status WithoutTokenizer(const absl::Status& missing, const Config& config) {
  const std::filesystem::path folder = config.model;
  std::error_code unknown;
  const auto holds = [&](const char* name) {
    return std::filesystem::exists(folder / name, unknown);
  };
  if (std::filesystem::is_directory(folder, unknown) && !holds("config.json")) {
    return Engine::Inspect(ToEngineConfig(config)).status();
  }
  for (const char* other : {"tokenizer.model", "tekken.json"}) {
    if (!holds(other)) continue;
    return absl::NotFoundError(absl::StrCat(
        missing.message(), " The folder holds ", other,
        ", which is not read: load it by transformers, and save its fast tokenizer here."));
  }
  return missing;
}

}  // namespace

absl::StatusOr<FolderText> LoadFolderText(const Config& config) {
  FolderText text;
  auto tokenizer = text::Tokenizer::Load(config.model);
  if (absl::IsNotFound(tokenizer.status())) {
    return BlameSetting(WithoutTokenizer(tokenizer.status(), config), "model");
  }
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
