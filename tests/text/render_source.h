// Renders the committed chat templates and a test's own ones.
#ifndef BARAM_TESTS_TEXT_RENDER_SOURCE_H_
#define BARAM_TESTS_TEXT_RENDER_SOURCE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "server/text/chat_template.h"
#include "tests/text/text_data.h"

namespace baram::text {

inline constexpr std::string_view kOneMessage = R"([{"role":"user","content":"물음"}])";

inline std::unique_ptr<ChatTemplate> LoadTemplate(std::string_view name) {
  const auto tokenizer = LoadTokenizer("sentencepiece");
  const std::string path = DataPath("templates/" + std::string(name) + ".jinja");
  auto chat_template = ChatTemplate::Load(DataPath("sentencepiece"), path, *tokenizer);
  if (!chat_template.ok()) {
    ADD_FAILURE() << chat_template.status();
    return nullptr;
  }
  return *std::move(chat_template);
}

// Uses the test's own template; returns the result of Load or Render.
inline absl::StatusOr<std::string> RenderSource(std::string_view source,
                                                std::string_view messages = kOneMessage,
                                                std::string_view arguments = "") {
  const ScratchFolder folder;
  folder.Write("template.jinja", source);
  const auto tokenizer = LoadTokenizer("sentencepiece");
  auto chat_template = ChatTemplate::Load("", folder.path() + "/template.jinja", *tokenizer);
  if (!chat_template.ok()) return chat_template.status();
  return (*chat_template)->Render(messages, arguments, false, false);
}

}  // namespace baram::text

#endif  // BARAM_TESTS_TEXT_RENDER_SOURCE_H_
