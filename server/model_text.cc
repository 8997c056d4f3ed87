// The text half of a model folder: see the header.
#include "server/model_text.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/blame.h"
#include "engine/engine.h"

namespace baram::server {
namespace {

// Prefer to say what kind of folder this is if it is no model's, or how to obtain the file.
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

// One more than the largest id that the shortest text needs.
int32_t NeededVocab(const text::Tokenizer& tokenizer) {
  int32_t needed = 0;
  const auto ids = tokenizer.Encode("a", /*add_special_tokens=*/true);
  if (!ids.ok()) return needed;
  for (const int32_t id : *ids) needed = std::max(needed, id + 1);
  return needed;
}

// See ModelText::chat_problem.
std::string ChatProblem(const text::ChatTemplate& chat_template) {
  std::string problem;
  for (const char* conversation :
       {R"([{"role":"user","content":"a"}])",
        R"([{"role":"system","content":"a"},{"role":"user","content":"a"}])"}) {
    const auto prompt = chat_template.Render(conversation, "", /*add_generation_prompt=*/true,
                                             /*continue_final_message=*/false);
    if (prompt.ok() && !prompt->empty()) return "";
    if (!problem.empty()) continue;
    problem = prompt.ok() ? "its prompt is empty." : std::string(prompt.status().message());
  }
  return absl::StrCat("may refuse all chats, as it does the shortest: ", problem);
}

}  // namespace

absl::StatusOr<ModelText> LoadModelText(const Config& config) {
  ModelText text;
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
    text.chat_problem = ChatProblem(*text.chat_template);
  } else if (!config.chat_template.empty()) {
    return BlameSetting(chat_template.status(), "chat-template");
  } else if (!absl::IsNotFound(chat_template.status())) {
    return chat_template.status();
  }
  text.needed_vocab = NeededVocab(*text.tokenizer);
  return text;
}

std::vector<int32_t> EosIds(const EngineInfo& info, const text::Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  const auto of_text = tokenizer.eos_id();
  if (of_text && *of_text < info.vocab_size) ids.push_back(*of_text);
  for (const int32_t id : info.defaults.eos_ids) {
    if (ids.empty() || id != ids[0]) ids.push_back(id);
  }
  return ids;
}

}  // namespace baram::server
