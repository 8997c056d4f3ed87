// What one rendering may do: its steps, what they copy, and its output.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "server/text/chat_template.h"
#include "tests/text/render_source.h"

namespace baram::text {
namespace {

using testing::HasSubstr;

TEST(ChatTemplate, BoundsTheWorkOfARendering) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
       "too much work"},
      {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "render"},
      {"{% for a in range(9999) %}{{ 'x' * 1000 }}{% endfor %}", "longer than"},
      {"{{ range(99999999) | list }}", "render"},
      {"{{ '{:>99999999}'.format(5) }}", "the width is above"},
      {"{{ '{0:.99999999f}'.format(5.5) }}", "the width is above"},
      {"{{ '%99999999d' | format(5) }}", "the width is above"},
      {"{{ '%(x)99999999d' | format(x=5) }}", "the width is above"},
      {"{{ 'a\\nb' | indent(99999999) }}", "the width is above"},
      {"{{ 'a\\nb' | indent(width=99999999) }}", "the width is above"},
      {"{{ '\\t'.expandtabs(99999999) }}", "the width is above"},
      {"{{ ('\\t' * 10000).expandtabs(9999) }}", "the text grows above"},
      {"{{ 'a' | center(99999999) }}", "the width is above"},
      {"{{ dict([['a', 1]] * 99999999) }}", "a dict is made of"},
      {"{{ ('\\n' * 10000) | indent(9999, blank=true) }}", "the text grows above"},
  };
  for (const auto& [source, sentence] : cases) {
    const auto prompt = RenderSource(source);
    EXPECT_EQ(prompt.status().code(), absl::StatusCode::kInvalidArgument) << source;
    EXPECT_THAT(std::string(prompt.status().message()), HasSubstr(std::string(sentence)));
  }
}

// What a conversation makes an honest template copy grows with the square of its length, if the
// template collects the messages in one text.
TEST(ChatTemplate, BoundsTheBytesThatARenderingCopies) {
  constexpr size_t kMessages = 4096, kBytes = 2048;
  const auto conversation = [](size_t messages) {
    const std::string message =
        R"({"role":"system","content":")" + std::string(kBytes, 'x') + "\"}";
    std::string json = "[" + message;
    for (size_t i = 1; i < messages; ++i) json += "," + message;
    return json + "]";
  };
  const std::string loop = "{% set ns = namespace(s='') %}{% for m in messages %}";
  const std::string last = "{% if loop.last %}{{ ns.s | length }}{% endif %}{% endfor %}";
  const std::string attack = conversation(kMessages), chat = conversation(200);
  for (const char* step : {
           "{% set ns.s = ns.s + '\n\n' + m['content'] %}",
           "{%- set ns.s = ns.s ~ '\n\n' ~ m.content -%}",
           "{% set ns.s = '\n\n'.join([ns.s, m.content]) %}",
           "{% set ns.s = [ns.s, m.content] | join('\n\n') %}",
           "{% set ns.s %}{{ ns.s }}\n\n{{ m.content }}{% endset %}",
           "{% set ns.s, ns.t = ns.s + '\n\n' + m.content, 1 %}",
       }) {
    const std::string source = loop + step + last;
    const auto refused = RenderSource(source, attack);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument) << step;
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("too much work")) << step;
    const auto prompt = RenderSource(source, chat);
    ASSERT_TRUE(prompt.ok()) << step << prompt.status();
    EXPECT_THAT(*prompt, HasSubstr("41"));  // 2050 bytes each
  }
  for (const char* step : {
           "{% if messages[0].content.upper() == m.role %}{% endif %}",
           "{% if messages[0].content[1:] == m.role %}{% endif %}",
           "{% if (messages | tojson) == m.role %}{% endif %}",
           "{% if (messages[0].content | trim) == m.role %}{% endif %}",
       }) {
    const std::string long_text = R"([{"role":"user","content":")" + std::string(1 << 20, 'x') +
                                  "\"}" + attack.substr(attack.find('}') + 1);
    const auto refused =
        RenderSource("{% for m in messages %}" + std::string(step) + "{% endfor %}", long_text);
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("too much work")) << step;
  }
  // As many messages as a call may have, in templates that copy each a few times.
  std::string most = conversation(kMessages / 2);
  for (size_t at = 0; (at = most.find("system", at)) != std::string::npos;) {
    most.replace(at, 6, "user");
  }
  for (const char* name : {"chatml", "qwen25", "qwen3", "llama31", "parts"}) {
    const auto prompt = LoadTemplate(name)->Render(most, "", true, false, 8 << 20);
    EXPECT_TRUE(prompt.ok()) << name << prompt.status();
  }
}

TEST(ChatTemplate, LimitsTheOutput) {
  const auto chat_template = LoadTemplate("chatml");
  constexpr std::string_view kMessages =
      R"([{"role":"user","content":"a"},{"role":"assistant","content":"b"}])";
  for (const bool go_on : {false, true}) {
    const auto prompt = chat_template->Render(kMessages, "", !go_on, go_on);
    ASSERT_TRUE(prompt.ok()) << prompt.status();
    const auto same = chat_template->Render(kMessages, "", !go_on, go_on, prompt->size());
    EXPECT_EQ(same.value_or("none"), *prompt);
  }
  const auto refused = chat_template->Render(kMessages, "", true, false, 20).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("longer than the 20 bytes"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--max-prompt-bytes"));
}

}  // namespace
}  // namespace baram::text
