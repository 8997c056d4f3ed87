// Prompts equal the reference library's byte for byte, and hostile conversations are errors.
#include "server/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "tests/text/render_source.h"
#include "tests/text/text_data.h"

namespace baram::text {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

TEST(ChatTemplate, RendersAsTheReference) {
  std::string loaded;
  std::unique_ptr<ChatTemplate> chat_template;
  int prompts = 0, raised = 0, failed = 0;
  for (const auto& golden : ReadGolden("renderings.json")) {
    const auto name = golden["template"].get<std::string>();
    if (name != loaded) chat_template = LoadTemplate(name);
    loaded = name;
    const auto prompt =
        chat_template->Render(golden["messages"].dump(), golden["arguments"].dump(),
                              golden["add_generation_prompt"], golden["continue_final_message"]);
    const std::string context = golden.dump();
    if (golden.contains("prompt")) {
      ++prompts;
      ASSERT_TRUE(prompt.ok()) << prompt.status() << context;
      EXPECT_EQ(*prompt, golden["prompt"].get<std::string>()) << context;
    } else {
      EXPECT_EQ(prompt.status().code(), absl::StatusCode::kInvalidArgument) << context;
      if (golden.contains("raised")) {
        ++raised;
        EXPECT_EQ(prompt.status().message(), golden["raised"].get<std::string>());
      } else {
        ++failed;
      }
    }
  }
  EXPECT_GT(prompts, 300);
  EXPECT_GT(raised, 5);
  EXPECT_GT(failed, 20);
}

TEST(ChatTemplate, ReadsExpressionsAsTheReference) {
  for (const auto& golden : ReadGolden("expressions.json")) {
    const auto source = golden["source"].get<std::string>();
    const auto prompt = RenderSource(source);
    if (golden.contains("prompt")) {
      ASSERT_TRUE(prompt.ok()) << prompt.status() << source;
      EXPECT_EQ(*prompt, golden["prompt"].get<std::string>()) << source;
    } else {
      EXPECT_FALSE(prompt.ok()) << source;
      if (golden.contains("raised")) {
        EXPECT_EQ(prompt.status().message(), golden["raised"].get<std::string>());
      }
    }
  }
}

TEST(ChatTemplate, KnowsWhichVariablesATemplateReads) {
  const auto qwen3 = LoadTemplate("qwen3");
  EXPECT_TRUE(qwen3->Reads("enable_thinking"));
  EXPECT_TRUE(qwen3->Reads("messages"));
  EXPECT_FALSE(qwen3->Reads("reasoning_effort"));
  EXPECT_FALSE(qwen3->Reads("\xff"));
  EXPECT_FALSE(LoadTemplate("chatml")->Reads("enable_thinking"));
  EXPECT_FALSE(LoadTemplate("chatml")->Reads("message"));  // its own loop variable

  const auto reads_effort = [](std::string_view source) {
    const ScratchFolder folder;
    folder.Write("template.jinja", source);
    const auto tokenizer = LoadTokenizer("sentencepiece");
    const auto loaded = ChatTemplate::Load("", folder.path() + "/template.jinja", *tokenizer);
    return loaded.ok() && (*loaded)->Reads("reasoning_effort");
  };
  for (const char* source :
       {"{%- set reasoning_effort = reasoning_effort | default('medium') -%}",
        "{% set reasoning_effort=reasoning_effort or 'medium' %}{{ reasoning_effort }}",
        "{% with reasoning_effort = reasoning_effort %}{{ reasoning_effort }}{% endwith %}",
        "{% with a = 1, reasoning_effort = reasoning_effort or 2 %}{{ a }}{% endwith %}",
        "{% if reasoning_effort is not defined %}{% set reasoning_effort = 1 %}{% endif %}",
        "{% if messages %}{% set reasoning_effort = 1 %}{% endif %}{{ reasoning_effort }}"}) {
    EXPECT_TRUE(reads_effort(source)) << source;
  }
  for (const char* source :
       {"{% set reasoning_effort = 'low' %}{{ reasoning_effort }}",
        "{% set reasoning_effort = old_reasoning_effort %}{{ messages[0].reasoning_effort }}",
        "reasoning_effort = reasoning_effort"}) {
    EXPECT_FALSE(reads_effort(source)) << source;
  }
}

TEST(ChatTemplate, GivesEachTemplateTheContentItReads) {
  constexpr std::string_view kParts =
      R"([{"role":"user","content":[{"type":"text","text":"하나"},{"type":"text","text":"둘"}]}])";
  // Templates that do not read parts get their joined text.
  const auto joined = HasSubstr("하나\n둘");
  for (const char* name : {"parts", "parts_only"}) {
    EXPECT_THAT(LoadTemplate(name)->Render(kParts, "", false, false).value(), Not(joined)) << name;
  }
  for (const char* name : {"chatml", "llama31", "qwen25", "qwen3", "exaone", "mistral"}) {
    EXPECT_THAT(LoadTemplate(name)->Render(kParts, "", false, false).value(), joined) << name;
  }
  EXPECT_EQ(LoadTemplate("chatml")->Render(kParts, "", false, false).value(),
            "<|im_start|>user\n하나\n둘<|im_end|>\n");
  EXPECT_EQ(LoadTemplate("parts_only")->Render(kParts, "", false, false).value(),
            "User: 하나 둘<end>\n");
  EXPECT_EQ(LoadTemplate("parts_only")
                ->Render(R"([{"role":"user","content":"하나"}])", "", true, false)
                .value(),
            "User: 하나<end>\nAssistant:");
}

// As vision models' templates do, which loop over the parts of some roles and print those of others
// verbatim.
TEST(ChatTemplate, GivesEachRoleTheContentItReads) {
  constexpr std::string_view kParts = R"([
      {"role":"system","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
      {"role":"user","content":[{"type":"text","text":"c"},{"type":"text","text":"d"}]},
      {"role":"assistant","content":[{"type":"text","text":"e"},{"type":"text","text":"f"}]},
      {"role":"user","content":"g"},
      {"role":"assistant","content":"h","tool_calls":[]},
      {"role":"tool","content":[{"type":"text","text":"i"},{"type":"text","text":"j"}]},
      {"role":"other","content":[{"type":"text","text":"k"},{"type":"text","text":"l"}]}])";
  const std::string loops =
      "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
      "<{{ part.text }}>{% endfor %}{% endif %}";
  const auto render = [&](const std::string& role, const std::string& then) {
    return RenderSource("{% for m in messages %}{{ m.role[0] }}{% if m.role == '" + role + "' %}" +
                            then + "{% else %}" + loops + "{% endif %}{% endfor %}",
                        kParts)
        .value();
  };
  EXPECT_EQ(render("none", ""), "s<a><b>u<c><d>a<e><f>ugaht<i><j>o<k><l>");
  const std::string prints = "{{ m.content }}", adds = "{{ '' + m.content }}";
  for (const std::string& text : {prints, adds}) {
    EXPECT_EQ(render("system", text), "sa\nbu<c><d>a<e><f>ugaht<i><j>o<k><l>");
    EXPECT_EQ(render("assistant", text), "s<a><b>u<c><d>ae\nfugaht<i><j>o<k><l>");
    EXPECT_EQ(render("tool", text), "s<a><b>u<c><d>a<e><f>ugahti\njo<k><l>");
    EXPECT_EQ(render("user", text), "s<a><b>uc\nda<e><f>ugaht<i><j>ok\nl");
  }
  // Reads only the first part.
  const std::string first = "{{ m.content[0].text }}";
  EXPECT_EQ(render("system", first), "sa\nbu<c><d>a<e><f>ugaht<i><j>o<k><l>");
  EXPECT_EQ(render("assistant", first), "s<a><b>u<c><d>ae\nfugaht<i><j>o<k><l>");
  // A role that shows in neither form gets the user's.
  EXPECT_EQ(render("system", "{% if m.content is string %}text{% else %}parts{% endif %}"),
            "spartsu<c><d>a<e><f>ugaht<i><j>o<k><l>");
}

// A template that mentions the role handles it; others would drop it.
TEST(ChatTemplate, ADeveloperIsTheSystemWhereTheTemplateKnowsNone) {
  const std::string prints = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}";
  constexpr std::string_view kMessages =
      R"([{"role":"developer","content":"a"},{"role":"user","content":"developer"}])";
  EXPECT_EQ(RenderSource(prints, kMessages).value(), "system:a;user:developer;");
  EXPECT_EQ(RenderSource(prints + "{# of a developer #}", kMessages).value(),
            "system:a;user:developer;");
  EXPECT_EQ(RenderSource(prints + "{% if x == 'developer' %}{% endif %}", kMessages).value(),
            "developer:a;user:developer;");
}

TEST(ChatTemplate, ReadsTheFoldersTemplate) {
  constexpr std::string_view kMessages = R"([{"role":"user","content":"안녕"}])";
  const auto byte_level = LoadTokenizer("byte_level");
  const auto from_file = ChatTemplate::Load(DataPath("byte_level"), "", *byte_level);
  ASSERT_TRUE(from_file.ok()) << from_file.status();
  EXPECT_EQ((*from_file)->Render(kMessages, "", true, false).value(),
            "<|im_start|>user\n안녕<|im_end|>\n<|im_start|>assistant\n");

  const auto sentencepiece = LoadTokenizer("sentencepiece");
  const auto named = ChatTemplate::Load(DataPath("sentencepiece"), "", *sentencepiece);
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_EQ((*named)->Render(kMessages, "", false, false).value(), "<s>안녕");

  const auto metaspace = LoadTokenizer("metaspace");
  const auto none = ChatTemplate::Load(DataPath("metaspace"), "", *metaspace);
  EXPECT_EQ(none.status().code(), absl::StatusCode::kNotFound);
  const auto missing = ChatTemplate::Load(DataPath("metaspace"), "/no/such/file", *metaspace);
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
}

TEST(ChatTemplate, SaysWhatIsWrongWithTheConfigs) {
  const auto tokenizer = LoadTokenizer("metaspace");
  const ScratchFolder folder;
  const auto load = [&](const std::string& chat_template) {
    folder.Write("tokenizer_config.json", "{\"chat_template\":" + chat_template + "}");
    return ChatTemplate::Load(folder.path(), "", *tokenizer).status();
  };
  EXPECT_TRUE(load(R"([{"name":"rag","template":"r"},{"name":"default","template":"d"}])").ok());
  const std::pair<const char*, const char*> cases[] = {
      {"5", "a string or a list"},
      {"[\"x\"]", "with a name and a template"},
      {"[null]", "with a name and a template"},
      {R"([{"name":"default","template":5}])", "with a name and a template"},
      {"[]", "only []"},
      {R"([{"name":"rag","template":"r"},{"name":"tool_use","template":"t"}])",
       R"(only ["rag", "tool_use"])"},
  };
  for (const auto& [chat_template, sentence] : cases) {
    const absl::Status status = load(chat_template);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << chat_template;
    EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer_config.json: chat_template"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(sentence));
  }
  EXPECT_THAT(std::string(load('"' + std::string(65537, 'x') + '"').message()),
              HasSubstr("tokenizer_config.json: chat_template has 65537 bytes"));
  // Empty ones count as absent.
  EXPECT_EQ(load(R"("")").code(), absl::StatusCode::kNotFound);
  folder.Write("chat_template.jinja", "");
  EXPECT_EQ(load("null").code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(load(R"("d")").ok());
}

TEST(ChatTemplate, RefusesASourceThatDoesNotCompile) {
  const auto broken = RenderSource("{% if %}");
  EXPECT_EQ(broken.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(broken.status().message()), HasSubstr("line 1"));
  EXPECT_EQ(RenderSource("\xFF").status().code(), absl::StatusCode::kDataLoss);
  for (const char* tag : {"{%}", "{%", "{% generation %}{%}", "{%}%}", "a{%}b{% if 1 %}"}) {
    EXPECT_EQ(RenderSource(tag).status().code(), absl::StatusCode::kDataLoss) << tag;
  }
}

// In code that no conversation at load reaches: a chat would run into it.
TEST(ChatTemplate, SlicesValuesAndNoNames) {
  for (const char* sliced :
       {"'x' | upper[1:]", "'x'|upper [:1]", "'x' is string[1:]", "'x' is not string[1:]"}) {
    const std::string source = std::string("{% if tools %}{{ ") + sliced + " }}{% endif %}";
    EXPECT_EQ(RenderSource(source).status().code(), absl::StatusCode::kDataLoss) << sliced;
  }
  EXPECT_EQ(RenderSource("{{ ('xy' | upper)[1:] }}{{ 'a' is in 'abc'[1:] }}").value(), "YFalse");
  EXPECT_EQ(RenderSource("{{ 'a' is not in 'abc'[1:] }}").value(), "True");
  const std::string deep = "{{ x" + std::string(20'000, '[');
  std::string closed = deep;
  for (int i = 0; i < 20'000; ++i) closed += ":]";
  EXPECT_EQ(RenderSource(closed + " }}").status().code(), absl::StatusCode::kDataLoss);
}

TEST(ChatTemplate, MethodsTakeNothingUndefined) {
  for (const char* call :
       {"'abc'.startswith(missing)", "'abc'.startswith(none)", "'abc'.endswith(['c'])",
        "'abc'.find('b', missing)", "[1, 2].index(2, missing)"}) {
    const std::string source = std::string("{% if x %}{{ ") + call + " }}{% endif %}";
    const absl::Status status = RenderSource(source, kOneMessage, R"({"x":1})").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << call;
  }
  EXPECT_EQ(RenderSource("{{ 'abc'.endswith(('x', 'bc')) }}").value(), "True");
}

TEST(ChatTemplate, NamesTheLineOfWhatItCannotRead) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"\n{{ '\\N{BULLET}' }}",
       "\\N of a text can't be read here: write \\u and the code (line 2)"},
      {"\r\n\r{{ 'a\n\\x4' }}", "\\x of a text needs 2 digits (line 4)"},
      {"{{ '\\u+123' }}", "\\u of a text needs 4 digits (line 1)"},
      {"{{ '\\uD8' }}", "\\u of a text needs 4 digits (line 1)"},
      {"{{ '\\Uffffffff' }}", "\\U of a text is beyond Unicode (line 1)"},
      {"{{ 'a\\\nb\\\nc' }}\n{{ messages | no_such }}", "no_such is unknown (line 4)"},
      {"{{ [1][0:\n1] }}\n{{ messages | no_such }}", "no_such is unknown (line 3)"},
  };
  for (const auto& [source, sentence] : cases) {
    const absl::Status status = RenderSource(source).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << source;
    EXPECT_THAT(std::string(status.message()), HasSubstr("template.jinja is wrong: "));
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(sentence)));
  }
}

// minijinja would look the names up outside of the macro, and find others or none.
TEST(ChatTemplate, RefusesWhatMacrosDoNotKnowOfTheirArguments) {
  const std::pair<std::string_view, std::string_view> refused[] = {
      {"\n{% macro m(a, b=a) %}{% endmacro %}", "default of b can't be made of a here"},
      {"\n{% macro m(a=1, b=[x.a, 'a', dict(y=a)]) -%}{% endmacro %}",
       "default of b can't be made of a"},
      {"{% macro m(a) %}\n{{ varargs }}{% endmacro %}", "varargs of a macro can't be read here"},
      {"{% macro m() %}\n{% for k in kwargs %}{% endfor %}{% endmacro %}", "kwargs of a macro"},
      {"{% macro m() %}\n{% set x = kwargs['a'] %}{% endmacro %}", "kwargs of a macro"},
      {"{% macro m(kwargs) %}{% endmacro %}\n{% macro n() %}{{ varargs }}{{ kwargs }}{% endmacro "
       "%}",
       "varargs of a macro"},
      {"{% set kwargs = 1 %}\n{% macro m() %}{{ kwargs }}{% endmacro %}", "kwargs of a macro"},
      {"{% macro m() %}\n{% call w(kwargs) %}{% endcall %}{% endmacro %}", "kwargs of a macro"},
      {"\n{% call(a, b=a) w() %}{% endcall %}", "default of b can't be made of a"},
  };
  for (const auto& [source, sentence] : refused) {
    const absl::Status status = RenderSource(source).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << source;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(sentence)));
    EXPECT_THAT(std::string(status.message()), HasSubstr("(line 2)"));
  }
  const std::pair<std::string_view, std::string_view> read[] = {
      {"{% macro m(a, b='a', c=x.a, d=[dict(a=1), {'a': 1}] if x) %}{{ a }}{{ b }}{% endmacro %}"
       "{{ m(1) }}",
       "1a"},
      {"{% macro m(a, b=1) %}{{ a }}{{ b }}{% endmacro %}{% macro n(b=a) %}{{ b }}{% endmacro %}"
       "{% set a = 5 %}{{ m(b=2, a=a) }}{{ n() }}",
       "525"},
      {"{% macro m(kwargs) %}{{ kwargs }}{% endmacro %}{{ m(kwargs=3) }}{{ varargs }}", "3"},
      {"{% macro m() %}{% set kwargs = 'varargs' %}{{ kwargs }}{{ x.kwargs }}{% endmacro %}{{ m() "
       "}}",
       "varargs"},
      {"{% macro m() %}{% for varargs in [1] %}{{ varargs }}{% endfor %}{% endmacro %}{{ m() }}",
       "1"},
      {"{% macro w(a, b) %}{{ a }}{{ b }}{{ caller(3) }}{% endmacro %}{% set a = 1 %}"
       "{% call(kwargs) w(a, b=a) %}{{ kwargs }}{% endcall %}",
       "113"},
      {"{% macro m(default, b='q' | default('z'), string=1, c='s' is not string) %}{{ default }}"
       "{{ b }}{{ c }}{% endmacro %}{{ m(1) }}",
       "1qFalse"},
  };
  for (const auto& [source, prompt] : read) {
    EXPECT_EQ(RenderSource(source, kOneMessage, R"({"x":{}})").value_or("none"), prompt) << source;
  }
}

// After these minijinja panics or stops printing, on conversations that reach them.
TEST(ChatTemplate, RefusesJumpsOutOfScopes) {
  for (const char* name : {"break", "continue"}) {
    for (const char* scope : {"with x = 1", "filter upper", "set x", "set x | upper",
                              "set x | d(default_value='a')", "autoescape true"}) {
      const std::string end = "{% end" + std::string(scope, std::strcspn(scope, " ")) + " %}";
      const std::string jump = std::string("{% if tools %}\n{%- ") + name + " %}{% endif %}";
      const std::string begin = std::string("{% ") + scope + " %}";
      const absl::Status status =
          RenderSource("{% for i in [1] %}\n" + begin + jump + end + "{% endfor %}").status();
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << scope;
      EXPECT_THAT(std::string(status.message()), HasSubstr("template.jinja"));
      EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(name) + " inside of "));
      EXPECT_THAT(std::string(status.message()), HasSubstr("(line 3)"));
      const auto within = RenderSource(begin + "{% for i in [1] %}" + jump + "{% endfor %}" + end);
      EXPECT_TRUE(within.ok()) << within.status();
      const auto behind =
          RenderSource("{% for i in [1] %}" + begin + end + jump + "{{ i }}{% endfor %}");
      EXPECT_EQ(behind.value(), "1") << scope;
    }
  }
}

// It is outside the loop, so a jump in it belongs to the enclosing loop.
TEST(ChatTemplate, TheElseOfALoopIsOutsideOfIt) {
  const std::string rest = "{% else %}{% break %}{% endfor %}";
  const absl::Status scope = RenderSource("{% for a in [1] %}{% with x = 1 %}{% for b in [] %}" +
                                          rest + "{% endwith %}{% endfor %}")
                                 .status();
  EXPECT_EQ(scope.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(scope.message()), HasSubstr("break inside of with in a loop"));
  const absl::Status nowhere = RenderSource("a\n{% for b in [] %}" + rest).status();
  EXPECT_EQ(nowhere.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(nowhere.message()), HasSubstr("break outside of a loop (line 2)"));
  EXPECT_EQ(
      RenderSource("{% for a in [1, 2] %}{{ a }}{% for b in [] %}" + rest + "{% endfor %}").value(),
      "1");
  EXPECT_EQ(RenderSource("{% for a in [1, 2] %}{% if a > 1 %}{% break %}{% else %}{{ a }}"
                         "{% endif %}{% endfor %}")
                .value(),
            "1");
}

// minijinja divides by the number of arguments.
TEST(ChatTemplate, PanicsAreErrorsOfTheTemplateOrTheChat) {
  const std::string panics = "{% for i in [1] %}{{ loop.cycle() }}{% endfor %}";
  const absl::Status always = RenderSource(panics).status();
  EXPECT_EQ(always.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(always.message()), HasSubstr("template.jinja is wrong: "));
  EXPECT_THAT(std::string(always.message()), HasSubstr("failed at minijinja-"));

  const std::string sometimes = "{% if x %}" + panics + "{% endif %}{{ messages[0].content }}";
  EXPECT_EQ(RenderSource(sometimes).value(), "물음");
  const absl::Status chat = RenderSource(sometimes, kOneMessage, R"({"x":1})").status();
  EXPECT_EQ(chat.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(chat.message()),
              HasSubstr("can't render this conversation: the text library"));
}

// Every chat would fail.
TEST(ChatTemplate, RefusesASourceThatCallsWhatDoesNotExist) {
  for (const char* tag :
       {"{{ messages | no_such }}", "{{ messages is no_such }}", "{{ no_such() }}",
        "{% include 'no_such' %}", "{% import 'no_such' as other %}"}) {
    const absl::Status status = RenderSource(std::string("\n") + tag).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << tag;
    EXPECT_THAT(std::string(status.message()), HasSubstr("no_such")) << tag;
    EXPECT_THAT(std::string(status.message()), HasSubstr("template.jinja")) << tag;
    EXPECT_THAT(std::string(status.message()), HasSubstr("(line 2)")) << tag;
  }
  // Code that fails on a single user message may work for other conversations.
  constexpr std::string_view kSystem = R"([{"role":"system","content":"x"}])";
  for (const char* other :
       {"{{ raise_exception('system first') }}", "{{ missing.of.it }}", "{{ messages[1].role }}"}) {
    const std::string source =
        std::string("{% if messages[0].role != 'system' %}") + other + "{% endif %}";
    EXPECT_TRUE(RenderSource(source, kSystem).ok()) << source;
  }
  EXPECT_TRUE(RenderSource("{% if tools %}{{ messages | no_such }}{% endif %}").ok());
}

// The parser, and code that walks and drops its tree, recurses for each link.
TEST(ChatTemplate, LongChainsDoNotExhaustTheStack) {
  constexpr size_t kMostBytes = 65536;
  const auto chain = [](const std::string& begin, std::string_view link, const std::string& end) {
    std::string source = begin;
    while (source.size() + link.size() + end.size() <= kMostBytes) source += link;
    return source + end;
  };
  for (const char* link : {"-", "not ", "1+", "1~", "1**", "1 and ", "1 if 1 else "}) {
    RenderSource(chain("{{ ", link, "1 }}")).IgnoreError();
  }
  for (const char* link : {"|d", ".b", "[0]", "[:]", "()", " is string", " if x else x"}) {
    RenderSource(chain("{{ x", link, " }}")).IgnoreError();
  }
  EXPECT_EQ(RenderSource(chain("{% if 0 %}", "{% elif 0 %}", "{% endif %}")).value(), "");
  const auto longer = RenderSource(std::string(kMostBytes + 1, ' ')).status();
  EXPECT_EQ(longer.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(longer.message()), HasSubstr("template.jinja has 65537 bytes"));
}

TEST(ChatTemplate, WritesTodaysDate) {
  const auto today = [] {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    localtime_r(&now, &parts);
    char text[64];
    return std::string(text, std::strftime(text, sizeof text, "%d %b %Y", &parts));
  };
  const std::string before = today();
  const auto written = RenderSource("{{ strftime_now('%d %b %Y') }}").value();
  EXPECT_TRUE(written == before || written == today()) << written;
  const auto write = [](std::string_view format) {
    return RenderSource("{{ strftime_now(format='" + std::string(format) + "') }}").value();
  };
  EXPECT_EQ(write("[%Z%z] %%f %%Z %%"), "[] %f %Z %");
  EXPECT_THAT(write("%f"), MatchesRegex("[0-9][0-9][0-9][0-9][0-9][0-9]"));
  EXPECT_THAT(write("%f%f%%%f"), MatchesRegex("[0-9]+%[0-9]+"));
  EXPECT_EQ(write(""), "");
  const std::string year = write("%Y");
  EXPECT_EQ(write(std::string(3000, 'x') + "%Y"), std::string(3000, 'x') + year);
  for (const char* call : {"strftime_now()", "strftime_now('%Y', 1)", "strftime_now(5)"}) {
    EXPECT_FALSE(RenderSource("{{ " + std::string(call) + " }}").ok()) << call;
  }
}

TEST(ChatTemplate, SaysWhatIsWrongWithAConversation) {
  const auto chat_template = LoadTemplate("chatml");
  const std::string deep(100000, '[');
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"", "not JSON"},
      {"nonsense", "not JSON"},
      {"\xFF", "UTF-8"},
      {"[\"\\ud800\"]", "not JSON"},
      {deep, "not JSON"},
      {"[]", "empty"},
      {"{}", "array of objects"},
      {"[1]", "array of objects"},
      {R"([{"role":"user","content":1}])", "message 0 must be a string"},
      {R"([{"role":"user","content":""},{"content":[1]}])", "message 1 has a part"},
      {R"([{"content":[{"text":"x"}]}])", "without a type"},
      {R"([{"content":[{"type":"text"}]}])", "without a text"},
      {R"([{"content":[{"type":"image_url","image_url":"x"}]}])", "\"image_url\""},
  };
  for (const auto& [messages, sentence] : cases) {
    const auto prompt = chat_template->Render(messages, "", true, false);
    EXPECT_EQ(prompt.status().code(), absl::StatusCode::kInvalidArgument) << messages;
    EXPECT_FALSE(ChatTemplate::BlamesArguments(prompt.status())) << messages;
    EXPECT_THAT(std::string(prompt.status().message()), HasSubstr(std::string(sentence)));
  }
}

TEST(ChatTemplate, SaysWhatIsWrongWithArguments) {
  const auto chat_template = LoadTemplate("chatml");
  for (const auto& [arguments, sentence] :
       std::initializer_list<std::pair<const char*, const char*>>{
           {"[]", "JSON object"},
           {"{", "not JSON"},
           {R"({"messages":[]})", "messages is a field"},
           {R"({"add_generation_prompt":true})", "add_generation_prompt is a field"}}) {
    const auto prompt = chat_template->Render(kOneMessage, arguments, true, false);
    EXPECT_EQ(prompt.status().code(), absl::StatusCode::kInvalidArgument) << arguments;
    EXPECT_TRUE(ChatTemplate::BlamesArguments(prompt.status())) << arguments;
    EXPECT_THAT(std::string(prompt.status().message()), HasSubstr(sentence));
  }
  EXPECT_EQ(
      RenderSource("{{ bos_token }}{{ x.y }}", kOneMessage, R"({"bos_token":"B","x":{"y":1}})")
          .value(),
      "B1");
}

TEST(ChatTemplate, ContinuesTheLastMessage) {
  const auto chat_template = LoadTemplate("chatml");
  constexpr std::string_view kMessages =
      R"([{"role":"user","content":"물음"},{"role":"assistant","content":"그것은 "}])";
  EXPECT_EQ(chat_template->Render(kMessages, "", false, true).value(),
            "<|im_start|>user\n물음<|im_end|>\n<|im_start|>assistant\n그것은 ");
  EXPECT_FALSE(chat_template->Render(kMessages, "", true, true).ok());
  EXPECT_FALSE(chat_template->Render("[]", "", false, true).ok());
  EXPECT_FALSE(chat_template->Render(R"([{"role":"user"}])", "", false, true).ok());
  // A template that drops the message.
  EXPECT_EQ(RenderSource("{{ messages[0].role }}").value(), "user");
  EXPECT_FALSE(LoadTemplate("qwen3")
                   ->Render(R"([{"role":"odd","content":"dropped"}])", "", false, true)
                   .ok());
}

}  // namespace
}  // namespace baram::text
