// OpenAI's conversations as chat prompts: see the header.
#include "server/openai_messages.h"

#include <cstddef>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baram::server {

namespace {

constexpr size_t kMaxParts = kMaxMessages;  // over all messages: each is an object for the template

// Examples for the error sentences.
constexpr char kOneMessage[] = R"({"role": "user", "content": "Hello"})";
constexpr char kOneCall[] =
    R"({"type": "function", "function": {"name": "add", "arguments": "{\"a\": 1}"}})";

// Totals over the messages so far.
struct Brought {
  size_t parts = 0;
  JsonBudget arguments;  // of tool calls whose arguments are text
};

// Converts a call of a custom tool, which takes free text, to the function call that templates
// know.
void MakeFunctionCall(Json& call) {
  if (!call.is_object() || !call.contains("custom") || call.contains("function")) return;
  Json& custom = call["custom"];
  if (!custom.is_object() || !custom.contains("input") || !custom["input"].is_string()) return;
  Json function = {{"name", custom.value("name", Json())},
                   {"arguments", {{"input", std::move(custom["input"])}}}};
  call.erase("custom");
  call["type"] = "function";
  call["function"] = std::move(function);
}

// A past tool call. OpenAI's clients send its arguments as JSON text, or not at all; templates want
// the object. False if it is not a tool call.
bool ReadToolCall(Json& call, JsonBudget& budget) {
  MakeFunctionCall(call);
  if (!call.is_object() || !call.contains("function") || !call["function"].is_object())
    return false;
  Json& function = call["function"];
  if (!function.contains("name") || !function["name"].is_string()) return false;
  Json& arguments = function["arguments"];
  if (arguments.is_null() || arguments == "") arguments = Json::object();
  if (arguments.is_object()) return true;
  if (!arguments.is_string()) return false;
  const std::string& text = arguments.get_ref<const std::string&>();
  // A model may have written invalid JSON; it then stays text.
  if (auto parsed = ParseBody(text, "", &budget); parsed.ok()) arguments = *std::move(parsed);
  return true;
}

// Templates take a message with a list of calls, even an empty one, as nothing but calls.
void ReadToolCalls(Json& message, const std::string& path, JsonBudget& budget, JsonFields& fields) {
  const auto calls = message.find("tool_calls");
  if (calls == message.end()) return;
  if (calls->is_null() || *calls == Json::array()) {
    message.erase(calls);
    return;
  }
  if (!calls->is_array()) {
    return fields.Fail(path + ".tool_calls",
                       absl::StrCat(path, ".tool_calls must be an array, as in [", kOneCall, "]."));
  }
  for (size_t i = 0; i < calls->size(); ++i) {
    const bool is_call = ReadToolCall((*calls)[i], budget);
    if (is_call && budget.nodes >= 0) continue;
    const std::string call_path = absl::StrCat(path, ".tool_calls[", i, "]");
    return fields.Fail(
        call_path,
        is_call ? absl::StrCat(call_path, " brings the arguments of all calls to more than ",
                               JsonBudget().nodes, " strings, arrays and objects; send fewer.")
                : absl::StrCat(call_path, " must be a call as in ", kOneCall, "."));
  }
}

// Converts a part of a message's content to type text; false if it is not text.
bool ReadPart(Json& part) {
  constexpr std::pair<std::string_view, const char*> kTypes[] = {{"text", "text"},
                                                                 {"input_text", "text"},
                                                                 {"output_text", "text"},
                                                                 {"refusal", "refusal"},
                                                                 {"thinking", "thinking"}};
  if (part.is_string()) {
    part = {{"type", "text"}, {"text", part}};
    return true;
  }
  if (!part.is_object() || !part.contains("type") || !part["type"].is_string()) return false;
  for (const auto& [type, field] : kTypes) {
    if (part["type"] != type) continue;
    if (!part.contains(field) || !part[field].is_string()) return false;
    if (type != "text") part = {{"type", "text"}, {"text", part[field]}};
    return true;
  }
  return false;
}

void ReadMessage(Json& message, size_t index, Brought& brought, JsonFields& fields) {
  const std::string path = absl::StrCat("messages[", index, "]");
  if (!message.is_object()) {
    return fields.Fail(path, absl::StrCat(path, " must be an object, as in ", kOneMessage, "."));
  }
  const auto role = message.find("role");
  if (role == message.end() || !role->is_string()) {
    return fields.Fail(
        path + ".role",
        absl::StrCat(path, ".role ", role == message.end() ? "is missing" : "is wrong",
                     R"(: send "system", "user", "assistant" or another role that )",
                     "the model's chat template knows."));
  }
  // A tool may return nothing, and so may a function, the old name of tools.
  const bool may_be_silent = *role == "assistant" || *role == "tool" || *role == "function";
  ReadToolCalls(message, path, brought.arguments, fields);
  const auto content = message.find("content");
  if (content == message.end() || content->is_null()) {
    if (!may_be_silent && !message.contains("tool_calls")) {
      return fields.Fail(path + ".content",
                         absl::StrCat(path, ".content is missing: send the message's text."));
    }
    message["content"] = "";  // templates concatenate it
    return;
  }
  if (content->is_string()) return;
  if (!content->is_array()) {
    return fields.Fail(path + ".content",
                       absl::StrCat(path, ".content must be a string or an array of text parts."));
  }
  brought.parts += content->size();
  if (brought.parts > kMaxParts) {
    return fields.Fail(
        path + ".content",
        absl::StrCat(path, ".content brings the parts of all messages to ", brought.parts,
                     " but at most ", kMaxParts, " are allowed; send strings."));
  }
  for (size_t i = 0; i < content->size(); ++i) {
    if (ReadPart((*content)[i])) continue;
    const std::string part_path = absl::StrCat(path, ".content[", i, "]");
    return fields.Fail(part_path,
                       absl::StrCat(part_path, R"( must be {"type": "text", "text": "..."}, a )",
                                    "string, or a part of type input_text, output_text, refusal or "
                                    "thinking: this server takes text only."));
  }
}

}  // namespace

ChatPrompt ReadChat(JsonFields& fields, std::string* reasoning_effort) {
  ChatPrompt chat;
  const Json* messages = fields.Array("messages");
  if (messages == nullptr || messages->empty()) {
    fields.Fail("messages", absl::StrCat("messages is ", messages == nullptr ? "missing" : "empty",
                                         ": send at least one, as in [", kOneMessage, "].",
                                         fields.Find("prompt") == nullptr
                                             ? ""
                                             : " A prompt is sent to /v1/completions instead."));
  } else if (messages->size() > kMaxMessages) {
    fields.Fail("messages", absl::StrCat("messages has ", messages->size(), " entries but at most ",
                                         kMaxMessages, " are allowed."));
  } else {
    Json copy = *messages;
    Brought brought;
    for (size_t i = 0; i < copy.size(); ++i) {
      ReadMessage(copy[i], i, brought, fields);
      if (!fields.status().ok()) return chat;
    }
    chat.messages_json = Dump(copy);
  }
  Json arguments = Json::object();
  if (const Json* kwargs = fields.Object("chat_template_kwargs")) arguments = *kwargs;
  for (const char* name : {"tools", "documents"}) {  // separate fields, which are not served
    if (arguments.value(name, Json()).is_null()) continue;
    fields.Fail("chat_template_kwargs",
                absl::StrCat(name, " is a field of the request and can't be a template argument."));
  }
  if (const auto effort = fields.String("reasoning_effort")) {
    arguments.emplace("reasoning_effort", *effort);
    *reasoning_effort = *effort;
  }
  if (!arguments.empty()) chat.arguments_json = Dump(arguments);
  chat.add_generation_prompt = fields.Bool("add_generation_prompt");
  chat.continue_final_message = fields.Bool("continue_final_message");
  chat.add_special_tokens = fields.Bool("add_special_tokens").value_or(false);
  return chat;
}

}  // namespace baram::server
