// C++ wrapper of the text library's chat templates.
#include "server/text/chat_template.h"

#include <cstddef>
#include <cstdint>

#include "absl/strings/cord.h"
#include "server/text/ffi.h"

namespace baram::text {
namespace {

// Payload of a Render error that blames the arguments.
constexpr char kArgumentsUrl[] = "baram/arguments";
// Of one whose conversation is too much.
constexpr char kTooLargeUrl[] = "baram/too-large";

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Load(const std::string& folder,
                                                                 const std::string& override_path,
                                                                 const Tokenizer& tokenizer) {
  BaramTemplate* raw = nullptr;
  BaramBuffer error{};
  const int32_t code =
      baram_template_load(tokenizer.raw(), ToView(folder), ToView(override_path), &raw, &error);
  if (code != BARAM_TEXT_OK) return TakeError(code, error);
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(raw));
}

ChatTemplate::~ChatTemplate() { baram_template_free(raw_); }

absl::StatusOr<std::string> ChatTemplate::Render(std::string_view messages_json,
                                                 std::string_view arguments_json,
                                                 bool add_generation_prompt,
                                                 bool continue_final_message,
                                                 size_t max_output_bytes) const {
  BaramBuffer text{};
  const int32_t code =
      baram_template_render(raw_, ToView(messages_json), ToView(arguments_json),
                            add_generation_prompt, continue_final_message, max_output_bytes, &text);
  if (code == BARAM_TEXT_OK) return TakeBuffer(text);
  absl::Status refused = TakeError(code, text);
  if (code == BARAM_TEXT_BAD_ARGUMENTS) refused.SetPayload(kArgumentsUrl, absl::Cord());
  if (code == BARAM_TEXT_TOO_LARGE) refused.SetPayload(kTooLargeUrl, absl::Cord());
  return refused;
}

bool ChatTemplate::BlamesArguments(const absl::Status& refused) {
  return refused.GetPayload(kArgumentsUrl).has_value();
}

bool ChatTemplate::IsTooLarge(const absl::Status& refused) {
  return refused.GetPayload(kTooLargeUrl).has_value();
}

bool ChatTemplate::Reads(std::string_view name) const {
  return baram_template_reads(raw_, ToView(name)) != 0;
}

}  // namespace baram::text
