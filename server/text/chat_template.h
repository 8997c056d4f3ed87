// The chat template of a model folder: a conversation in, the prompt text out.
#ifndef BARAM_SERVER_TEXT_CHAT_TEMPLATE_H_
#define BARAM_SERVER_TEXT_CHAT_TEMPLATE_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/text/tokenizer.h"

struct BaramTemplate;  // server/text/rust/baram_text.h

namespace baram::text {

// Immutable after Load: Render is thread-safe. Templates come from the model folder or the
// operator, never from a request; the steps, the copying and the output of one rendering are
// bounded nonetheless.
class ChatTemplate {
 public:
  // Takes the template from the file `override_path` if not empty, else from the folder's
  // chat_template.jinja, else from tokenizer_config.json ("default" of a list of named templates).
  // NotFound if there is none, DataLoss if it does not compile. `tokenizer` provides bos_token,
  // eos_token and the like; it need not outlive this.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Load(const std::string& folder,
                                                            const std::string& override_path,
                                                            const Tokenizer& tokenizer);

  ~ChatTemplate();
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;

  // `messages_json` is a JSON array of objects with a role and a content, which is a string or an
  // array of parts. Text parts are joined by newlines if the template does not read parts of that
  // role; null fields count as missing. Templates see the keys in their written order: keep the
  // client's (nlohmann::ordered_json).
  // `arguments_json` is a JSON object of further template variables ("enable_thinking"), or empty.
  // `continue_final_message` ends the prompt inside the last message, and excludes
  // `add_generation_prompt`. InvalidArgument says what is wrong with the conversation, in the
  // template's own words if it raised an exception, or that the prompt has more than
  // `max_output_bytes`.
  absl::StatusOr<std::string> Render(std::string_view messages_json,
                                     std::string_view arguments_json, bool add_generation_prompt,
                                     bool continue_final_message,
                                     size_t max_output_bytes = kMaxEncodeBytes) const;
  // Whether Render refused its arguments rather than the conversation.
  static bool BlamesArguments(const absl::Status& refused);
  // Whether the conversation as a whole is too much, rather than wrong.
  static bool IsTooLarge(const absl::Status& refused);

  // Whether the template reads the variable `name`, one that arguments can set. Walks the whole
  // template: too slow to call per request.
  bool Reads(std::string_view name) const;

 private:
  explicit ChatTemplate(BaramTemplate* raw) : raw_(raw) {}

  BaramTemplate* raw_;  // owned
};

}  // namespace baram::text

#endif  // BARAM_SERVER_TEXT_CHAT_TEMPLATE_H_
