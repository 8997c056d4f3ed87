// PromptReader: see the header.
#include "server/prompt_reader.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/call_checks.h"
#include "server/errors.h"
#include "server/request_id.h"

namespace baram::server {

PromptReader::PromptReader(const text::Tokenizer& tokenizer,
                           const text::ChatTemplate* chat_template, const EngineInfo& info,
                           const Config& config)
    : tokenizer_(tokenizer),
      chat_template_(chat_template),
      vocab_size_(info.vocab_size),
      max_model_len_(info.max_model_len),
      max_prompt_bytes_(MaxPromptBytes(config, info.max_model_len)),
      takes_reasoning_effort_(chat_template != nullptr && chat_template->Reads("reasoning_effort")),
      takes_tools_(chat_template != nullptr && chat_template->Reads("tools")) {}

absl::StatusOr<std::vector<int32_t>> PromptReader::Tokenize(const Prompt& prompt) const {
  if (const auto* text = std::get_if<TextPrompt>(&prompt)) {
    return EncodePrompt(text->text, text->add_special_tokens, "text");
  }
  if (const auto* chat = std::get_if<ChatPrompt>(&prompt)) {
    absl::StatusOr<RenderedChat> rendered = RenderChat(*chat);
    if (!rendered.ok()) return rendered.status();
    return std::move(rendered->ids);
  }
  const auto& ids = std::get<std::vector<int32_t>>(prompt);
  for (const int32_t id : ids) {
    absl::Status known = CheckTokenId("token_ids", id, vocab_size_);
    if (!known.ok()) return known;
  }
  return ids;
}

absl::StatusOr<RenderedChat> PromptReader::RenderChat(const ChatPrompt& prompt) const {
  absl::StatusOr<std::string> text = RenderText(prompt);
  if (!text.ok()) return text.status();
  auto ids = EncodePrompt(*text, prompt.add_special_tokens, "chat");
  if (!ids.ok()) return ids.status();
  return RenderedChat{*std::move(text), *std::move(ids)};
}

absl::StatusOr<std::string> PromptReader::RenderText(const ChatPrompt& prompt) const {
  if (chat_template_ == nullptr) {
    return InvalidField("chat",
                        "This model has no chat template: send the prompt as text, or ask the "
                        "server's operator for --chat-template.");
  }
  const bool go_on = prompt.continue_final_message.value_or(false);
  if (go_on && prompt.add_generation_prompt.value_or(false)) {
    return InvalidField("chat.continue_final_message",
                        "continue_final_message excludes add_generation_prompt: set one of them.");
  }
  if (absl::Status size = CheckArgumentsSize(prompt.arguments_json); !size.ok()) return size;
  auto text = chat_template_->Render(prompt.messages_json, prompt.arguments_json,
                                     prompt.add_generation_prompt.value_or(!go_on), go_on,
                                     static_cast<size_t>(max_prompt_bytes_));
  if (text.ok()) return text;
  if (text::ChatTemplate::IsTooLarge(text.status())) return OfText("chat", text.status());
  const bool of_arguments = text::ChatTemplate::BlamesArguments(text.status());
  return OfText(of_arguments ? "chat.template_arguments_json" : "chat.messages", text.status());
}

absl::StatusOr<std::vector<int32_t>> PromptReader::EncodePrompt(const std::string& text,
                                                                bool add_special_tokens,
                                                                std::string_view field) const {
  if (static_cast<int64_t>(text.size()) > max_prompt_bytes_) {
    return InvalidField(
        field, absl::StrCat("The prompt has ", text.size(), " bytes, but at most ",
                            max_prompt_bytes_, " are allowed (--max-prompt-bytes); shorten it."));
  }
  auto ids = tokenizer_.Encode(text, add_special_tokens, static_cast<size_t>(max_prompt_bytes_));
  if (!ids.ok()) return OfText(field, ids.status());
  return ids;
}

absl::StatusOr<std::string> PromptReader::Detokenize(const std::vector<int64_t>& ids,
                                                     bool skip_special_tokens, int64_t max_bytes,
                                                     const absl::Status& too_large) const {
  if (absl::Status count = CheckDetokenized(ids.size()); !count.ok()) return count;
  std::vector<int32_t> narrow;
  narrow.reserve(ids.size());
  // A token may stand for many bytes: a few megabytes of ids for gigabytes of text.
  int64_t bytes = 0;
  for (const int64_t id : ids) {
    absl::Status known = CheckTokenId("token_ids", id, vocab_size_);
    if (!known.ok()) return known;
    narrow.push_back(static_cast<int32_t>(id));
    if (skip_special_tokens && tokenizer_.IsSpecial(narrow.back())) continue;
    bytes += std::ssize(tokenizer_.TokenBytes(narrow.back()));
    if (bytes > max_bytes) return too_large;
  }
  auto text = tokenizer_.Decode(narrow, skip_special_tokens);
  if (!text.ok()) return OfText("token_ids", text.status());
  return text;
}

absl::Status PromptReader::Truncate(const Call& call, const Prompt& prompt,
                                    std::vector<int32_t>* ids,
                                    std::optional<size_t>* cut_after) const {
  if (!call.truncate_prompt_tokens) return absl::OkStatus();
  int64_t keep = *call.truncate_prompt_tokens;
  if (keep == -1) {
    keep = std::max<int64_t>(1, max_model_len_ - call.max_tokens.value_or(1));
  }
  const int64_t drop = std::ssize(*ids) - keep;
  if (drop <= 0) return absl::OkStatus();
  int64_t before = 0;
  if (const auto* text = std::get_if<TextPrompt>(&prompt); text && text->add_special_tokens) {
    // Hugging Face's tokenizers truncate a text before they add special tokens.
    const auto bare = tokenizer_.Encode(text->text, /*add_special_tokens=*/false,
                                        static_cast<size_t>(max_prompt_bytes_));
    if (!bare.ok()) return OfText("text", bare.status());
    before = std::search(ids->begin(), ids->end(), bare->begin(), bare->end()) - ids->begin();
    if (before >= keep) before = 0;  // only special tokens would be kept, or the text is not found
  }
  // Into memory of its own: the call may wait for long, and what it dropped may be much.
  std::vector<int32_t> kept(ids->begin(), ids->begin() + before);
  kept.insert(kept.end(), ids->begin() + before + drop, ids->end());
  *ids = std::move(kept);
  *cut_after = static_cast<size_t>(before);
  return absl::OkStatus();
}

absl::Status PromptReader::CheckDetokenized(size_t ids) const {
  if (ids <= max_detokenized()) return absl::OkStatus();
  return InvalidField("token_ids", absl::StrCat("There are ", ids, " token ids, but at most ",
                                                max_detokenized(), " are allowed."));
}

absl::Status PromptReader::CheckPromptIds(size_t ids, bool truncated) const {
  if (truncated || ids < static_cast<size_t>(max_model_len_)) return absl::OkStatus();
  return InvalidField("prompt",
                      absl::StrCat("This model's maximum context length is ", max_model_len_,
                                   " tokens, but the prompt has ", ids,
                                   " and a reply needs at least one; shorten the prompt or set "
                                   "truncate_prompt_tokens."));
}

absl::Status PromptReader::CheckArgumentsSize(std::string_view arguments_json) {
  constexpr size_t kMaxBytes = 64 << 10;
  if (arguments_json.size() <= kMaxBytes) return absl::OkStatus();
  return InvalidField("chat.template_arguments_json",
                      absl::StrCat("The template's arguments have ", arguments_json.size(),
                                   " bytes, but at most ", kMaxBytes, " are allowed."));
}

absl::Status PromptReader::OfText(std::string_view field, const absl::Status& error) {
  const std::string message(error.message());
  if (!absl::IsInternal(error)) return InvalidField(field, message);
  const std::string incident = NewRequestId();
  spdlog::error("incident {}: {}", incident, message);
  return Incident(incident);
}

}  // namespace baram::server
