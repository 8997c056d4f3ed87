// Fields that are not served: see the header.
#include "server/openai_unserved.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"

namespace baram::server {

namespace {

constexpr char kNoTools[] = "this server has no tool calling yet";
constexpr char kNoGrammar[] = "this server has no structured output yet";
constexpr char kNoBeams[] = "this server samples; use n for several answers";

struct Unserved {
  const char* name;
  const char* instead;
  std::vector<Json> off = {};  // values that request nothing, besides false, "", [] and {}
  bool empty_asks = false;     // {} is a request
};

const std::vector<Unserved>& Table() {
  static const std::vector<Unserved> table = {
      {"tools", kNoTools},
      {"functions", kNoTools},
      {"function_call", kNoTools, {"none", "auto"}},
      {"tool_choice", kNoTools, {"none", "auto"}},
      {"structured_outputs", kNoGrammar},
      {"guided_json", kNoGrammar, {}, /*empty_asks=*/true},
      {"guided_json_object", kNoGrammar},
      {"guided_regex", kNoGrammar},
      {"guided_choice", kNoGrammar},
      {"guided_grammar", kNoGrammar},
      {"json_schema", kNoGrammar, {}, /*empty_asks=*/true},
      {"grammar", kNoGrammar},
      {"regex", kNoGrammar},
      {"ebnf", kNoGrammar},
      {"suffix", "this server does not fill in the middle"},
      {"use_beam_search", kNoBeams},
      {"length_penalty", kNoBeams, {1}},
      {"early_stopping", kNoBeams},
      {"chat_template", "templates come from the model folder or the operator's --chat-template"},
      {"documents", "put the documents into a message"},
      {"truncation_side", "truncate_prompt_tokens keeps a prompt's end", {"left"}},
      {"bad_words", "use logit_bias"},
      {"allowed_token_ids", "use logit_bias"},
      {"logprob_token_ids", "logprobs shows the likeliest"},
      {"moderation", "this server moderates nothing", {}, /*empty_asks=*/true},
      {"kv_transfer_params", "this server does not move caches between servers"},
      {"logits_processors", "no code is taken from requests"},
      {"custom_logit_processor", "no code is taken from requests"},
      {"lora_path", "this server has no adapters yet"},
      {"stop_regex", "use stop"},
      {"repetition_detection", "use repetition_penalty or stop"},
      {"modalities", "this server answers with text", {Json::array({"text"})}},
      {"audio", "this server answers with text"},
      {"prediction", "this server takes no predicted output"},
      {"prompt_embeds", "send the prompt as text or token ids"},
      {"web_search_options", "this server does not search", {}, /*empty_asks=*/true},
      {"verbosity", "say in a message how long the answer is to be", {"medium"}},
      {"thinking_token_budget", "max_tokens bounds the whole answer"},
      {"service_tier", "every request is served alike; see priority", {"auto", "default"}},
  };
  return table;
}

bool MeansOff(const Json& value, const Unserved& field) {
  if (value == false || value == "") return true;
  if (value.is_structured() && value.empty()) return !field.empty_asks;
  return std::find(field.off.begin(), field.off.end(), value) != field.off.end();
}

}  // namespace

void RefuseUnserved(JsonFields& fields, bool* shows_tools) {
  const Json* choice = fields.Find("tool_choice");
  const bool no_calls = shows_tools != nullptr && choice != nullptr && *choice == "none";
  for (const Unserved& field : Table()) {
    const Json* value = fields.Find(field.name);
    if (value == nullptr || MeansOff(*value, field)) continue;
    if (no_calls && field.name == std::string_view("tools")) {
      *shows_tools = true;
      continue;
    }
    fields.Fail(field.name, absl::StrCat(field.name, " is not served: ", field.instead, "."));
  }
  if (const Json* format = fields.Object("response_format")) {
    const auto type = format->find("type");
    if (type == format->end() || *type != "text") {
      fields.Fail("response_format",
                  "response_format is served with {\"type\": \"text\"} only: there is no "
                  "structured output yet.");
    }
  }
}

}  // namespace baram::server
