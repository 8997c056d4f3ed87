// OpenAI's request bodies: what each field becomes, and under which name invalid ones are refused.
#include "server/openai_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "server/errors.h"
#include "server/openai_errors.h"
#include "server/text/utf8.h"

namespace baram::server {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Pair;
using testing::StartsWith;

constexpr int32_t kMaxN = 16;

OpenAiRequest Parse(OpenAiEndpoint endpoint, std::string_view body) {
  auto request = ParseOpenAiRequest(endpoint, body, kMaxN);
  EXPECT_TRUE(request.ok()) << request.status();
  if (!request.ok()) std::abort();
  return *std::move(request);
}

// A chat or a completion with `fields` in addition to the required ones.
OpenAiRequest Chat(const std::string& fields = "") {
  return Parse(OpenAiEndpoint::kChat, R"({"messages":[{"role":"user","content":"hi"}])" +
                                          (fields.empty() ? "" : "," + fields) + "}");
}
OpenAiRequest Completion(const std::string& fields = "") {
  return Parse(OpenAiEndpoint::kCompletions,
               R"({"prompt":"hi")" + (fields.empty() ? "" : "," + fields) + "}");
}

// "param: message" of a refusal.
std::string Refusal(OpenAiEndpoint endpoint, const std::string& body) {
  const auto request = ParseOpenAiRequest(endpoint, body, kMaxN);
  if (request.ok()) return "accepted";
  EXPECT_EQ(request.status().code(), absl::StatusCode::kInvalidArgument);
  return OpenAiParam(endpoint, FactsOf(request.status()).field) + ": " +
         std::string(request.status().message());
}
std::string ChatRefusal(const std::string& fields) {
  return Refusal(OpenAiEndpoint::kChat,
                 R"({"messages":[{"role":"user","content":"hi"}],)" + fields + "}");
}
std::string CompletionRefusal(const std::string& fields) {
  return Refusal(OpenAiEndpoint::kCompletions, R"({"prompt":"hi",)" + fields + "}");
}

const ChatPrompt& ChatOf(const OpenAiRequest& request) {
  return std::get<ChatPrompt>(request.call.prompts[0]);
}

TEST(OpenAiRequestTest, DefaultsOfAChat) {
  const OpenAiRequest request = Chat();
  ASSERT_EQ(request.call.prompts.size(), 1u);
  const Call& call = request.call;
  EXPECT_EQ(call.max_tokens, std::nullopt);
  EXPECT_EQ(call.temperature, std::nullopt);
  EXPECT_EQ(call.seed, std::nullopt);
  EXPECT_EQ(call.logprobs, std::nullopt);
  EXPECT_EQ(call.n, 1);
  EXPECT_FALSE(call.token_ids);
  EXPECT_TRUE(call.skip_special_tokens);
  EXPECT_FALSE(request.format.stream);
  EXPECT_FALSE(ChatOf(request).add_special_tokens);
  EXPECT_EQ(ChatOf(request).messages_json, R"([{"role":"user","content":"hi"}])");
  EXPECT_EQ(ChatOf(request).arguments_json, "");
}

TEST(OpenAiRequestTest, DefaultsOfACompletion) {
  const OpenAiRequest request = Completion();
  EXPECT_EQ(request.call.max_tokens, 16);
  EXPECT_EQ(std::get<TextPrompt>(request.call.prompts[0]).text, "hi");
  EXPECT_TRUE(std::get<TextPrompt>(request.call.prompts[0]).add_special_tokens);
}

TEST(OpenAiRequestTest, ReadsEveryField) {
  const OpenAiRequest request = Completion(
      R"("model":"m","request_id":"id","temperature":0,"top_p":0.9,"top_k":-1,"min_p":0.1,)"
      R"("repetition_penalty":1.1,"presence_penalty":-1,"frequency_penalty":1,"seed":-3,"n":2,)"
      R"("best_of":2,"logit_bias":{"5":-100,"7":1.5},"max_tokens":7.0,"min_tokens":3,"stop":"a",)"
      R"("stop_token_ids":[1,2],"include_stop_str_in_output":true,"ignore_eos":true,)"
      R"("skip_special_tokens":false,"priority":-4,"cache_salt":"s","truncate_prompt_tokens":9,)"
      R"("prompt_logprobs":1,"return_token_ids":true,"return_tokens_as_token_ids":true,"logprobs":2,)"
      R"("add_special_tokens":false,"unknown":{"x":[1]})");
  const Call& call = request.call;
  EXPECT_EQ(call.model, "m");
  EXPECT_EQ(call.request_id, "id");
  EXPECT_EQ(call.temperature, 0.0);
  EXPECT_EQ(call.top_p, 0.9);
  EXPECT_EQ(call.top_k, -1);
  EXPECT_EQ(call.min_p, 0.1);
  EXPECT_EQ(call.repetition_penalty, 1.1);
  EXPECT_EQ(call.presence_penalty, -1.0);
  EXPECT_EQ(call.frequency_penalty, 1.0);
  EXPECT_EQ(call.seed, static_cast<uint64_t>(-3));
  EXPECT_EQ(call.n, 2);
  EXPECT_EQ(request.format.n, 2);
  EXPECT_THAT(call.logit_bias, ElementsAre(Pair(5, -100.0), Pair(7, 1.5)));
  EXPECT_EQ(call.max_tokens, 7);
  EXPECT_EQ(call.min_tokens, 3);
  EXPECT_THAT(call.stop, ElementsAre("a"));
  EXPECT_THAT(call.stop_token_ids, ElementsAre(1, 2));
  EXPECT_TRUE(call.include_stop);
  EXPECT_TRUE(call.ignore_eos);
  EXPECT_FALSE(call.skip_special_tokens);
  EXPECT_EQ(call.priority, -4);
  EXPECT_EQ(call.cache_salt, "s");
  EXPECT_EQ(call.truncate_prompt_tokens, 9);
  EXPECT_EQ(call.prompt_logprobs, 1);
  EXPECT_EQ(request.format.prompt_logprobs, 1);
  EXPECT_TRUE(call.token_ids);
  EXPECT_TRUE(request.format.token_ids);
  EXPECT_TRUE(request.format.tokens_as_ids);
  EXPECT_EQ(call.logprobs, 2);
  EXPECT_EQ(request.format.top_logprobs, 2);
  EXPECT_FALSE(std::get<TextPrompt>(call.prompts[0]).add_special_tokens);
}

TEST(OpenAiRequestTest, NullMeansAbsent) {
  std::string fields = R"("x":null)";
  for (const char* name : {"model",
                           "request_id",
                           "temperature",
                           "top_p",
                           "top_k",
                           "min_p",
                           "repetition_penalty",
                           "presence_penalty",
                           "frequency_penalty",
                           "seed",
                           "n",
                           "best_of",
                           "logit_bias",
                           "max_tokens",
                           "min_tokens",
                           "stop",
                           "stop_token_ids",
                           "include_stop_str_in_output",
                           "ignore_eos",
                           "skip_special_tokens",
                           "priority",
                           "cache_salt",
                           "truncate_prompt_tokens",
                           "prompt_logprobs",
                           "return_token_ids",
                           "return_tokens_as_token_ids",
                           "logprobs",
                           "stream",
                           "stream_options",
                           "echo",
                           "suffix",
                           "tools",
                           "tool_choice",
                           "response_format",
                           "chat_template_kwargs"}) {
    fields += std::string(",\"") + name + "\":null";
  }
  EXPECT_EQ(Completion(fields).call.max_tokens, 16);
  EXPECT_EQ(Chat(fields + R"(,"max_completion_tokens":null,"top_logprobs":null)").call.max_tokens,
            std::nullopt);
}

TEST(OpenAiRequestTest, NamesFieldsOfAWrongType) {
  for (const char* field : {"temperature", "top_p", "min_p", "repetition_penalty",
                            "presence_penalty", "frequency_penalty"}) {
    for (const char* value : {"true", "\"1\"", "[]"}) {
      EXPECT_THAT(ChatRefusal(std::string("\"") + field + "\":" + value),
                  StartsWith(std::string(field) + ": " + field + " must be a number, but is "));
    }
  }
  for (const char* field : {"top_k", "n", "max_tokens", "min_tokens", "priority",
                            "truncate_prompt_tokens", "prompt_logprobs", "best_of"}) {
    for (const char* value : {"true", "1.5", "\"1\"", "[]", "1e30"}) {
      EXPECT_THAT(CompletionRefusal(std::string("\"") + field + "\":" + value),
                  StartsWith(std::string(field) + ": " + field + " must be an integer, but is "));
    }
  }
  for (const char* field :
       {"stream", "echo", "ignore_eos", "skip_special_tokens", "return_token_ids",
        "include_stop_str_in_output", "add_special_tokens"}) {
    EXPECT_EQ(CompletionRefusal(std::string("\"") + field + "\":1"),
              std::string(field) + ": " + field + " must be true or false, but is the number 1.");
  }
  EXPECT_THAT(ChatRefusal(R"("logprobs":3)"), HasSubstr("logprobs: "));
  EXPECT_THAT(CompletionRefusal(R"("logprobs":true)"), HasSubstr("logprobs: "));
  EXPECT_FALSE(Completion(R"("logprobs":false)").format.logprobs);
  EXPECT_THAT(CompletionRefusal(R"("model":7)"), HasSubstr("model: model must be a string"));
  EXPECT_THAT(CompletionRefusal(R"("stop":[1])"), HasSubstr("stop: "));
  EXPECT_THAT(CompletionRefusal(R"("stop_token_ids":["1"])"), HasSubstr("stop_token_ids: "));
  for (const char* bias : {"[]", R"({"a":1})", R"({"":1})", R"({"1":true})", R"({"1.5":1})"}) {
    EXPECT_THAT(CompletionRefusal(std::string(R"("logit_bias":)") + bias),
                HasSubstr("logit_bias: "));
  }
  EXPECT_THAT(CompletionRefusal(R"("chat_template":"{{ x }}")"), HasSubstr("chat_template: "));
  EXPECT_THAT(ChatRefusal(R"("chat_template_kwargs":[])"), HasSubstr("chat_template_kwargs: "));
}

TEST(OpenAiRequestTest, TakesAllSeedsOf64Bits) {
  const auto seed = [](const std::string& text) { return Chat("\"seed\":" + text).call.seed; };
  EXPECT_EQ(seed("18446744073709551615"), UINT64_MAX);
  EXPECT_EQ(seed("9223372036854775808"), uint64_t{1} << 63);
  EXPECT_EQ(seed("0"), 0u);
  EXPECT_EQ(seed("7.0"), 7u);
  EXPECT_EQ(seed("-2"), UINT64_MAX - 1);
  EXPECT_EQ(seed("-9223372036854775808"), uint64_t{1} << 63);
  EXPECT_EQ(seed("-1"), std::nullopt);
  for (const char* bad : {"18446744073709551616", "-9223372036854775809", "1.5", "\"1\"", "true"}) {
    EXPECT_EQ(ChatRefusal(std::string("\"seed\":") + bad),
              "seed: seed must be an integer from -2^63 to 2^64 - 1.");
  }
}

TEST(OpenAiRequestTest, BoundsTheNumberOfReplies) {
  for (const char* n : {"0", "-1", "17", "1000000000000"}) {
    EXPECT_EQ(ChatRefusal(std::string("\"n\":") + n),
              std::string("n: n is ") + n + " but must be from 1 to 16, this server's --max-n.");
  }
  EXPECT_EQ(Chat(R"("n":16)").format.n, 16);
  EXPECT_THAT(ChatRefusal(R"("n":2,"best_of":3)"), HasSubstr("best_of: "));
}

TEST(OpenAiRequestTest, MaxCompletionTokensWins) {
  const OpenAiRequest both = Chat(R"("max_tokens":5,"max_completion_tokens":6)");
  EXPECT_EQ(both.call.max_tokens, 6);
  EXPECT_STREQ(both.call.max_tokens_name, "max_completion_tokens");
  const OpenAiRequest old = Chat(R"("max_tokens":5,"max_completion_tokens":null)");
  EXPECT_EQ(old.call.max_tokens, 5);
  EXPECT_STREQ(old.call.max_tokens_name, "max_tokens");
}

TEST(OpenAiRequestTest, StreamOptions) {
  const OpenAiRequest request = Chat(
      R"("stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true})");
  EXPECT_TRUE(request.format.stream);
  EXPECT_TRUE(request.format.include_usage);
  EXPECT_TRUE(request.format.continuous_usage);
  EXPECT_FALSE(Chat(R"("stream":true,"stream_options":{"continuous_usage_stats":true})")
                   .format.continuous_usage);
  EXPECT_THAT(ChatRefusal(R"("stream_options":{"include_usage":true})"),
              HasSubstr("stream_options: "));
  EXPECT_THAT(ChatRefusal(R"("stream":true,"stream_options":{"include_usage":1})"),
              HasSubstr("stream_options: stream_options.include_usage must be"));
  EXPECT_THAT(ChatRefusal(R"("stream":true,"prompt_logprobs":1)"), HasSubstr("prompt_logprobs: "));
}

TEST(OpenAiRequestTest, Logprobs) {
  const OpenAiRequest chat = Chat(R"("logprobs":true,"top_logprobs":5)");
  EXPECT_TRUE(chat.format.logprobs);
  EXPECT_EQ(chat.call.logprobs, 5);
  EXPECT_EQ(Chat(R"("logprobs":true)").call.logprobs, 0);
  EXPECT_EQ(Chat(R"("logprobs":false,"top_logprobs":0)").call.logprobs, std::nullopt);
  EXPECT_THAT(ChatRefusal(R"("top_logprobs":5)"), HasSubstr("top_logprobs: "));
  EXPECT_THAT(ChatRefusal(R"("top_logprobs":-5)"), HasSubstr("top_logprobs: "));
  EXPECT_EQ(Completion(R"("logprobs":0)").call.logprobs, 0);
}

TEST(OpenAiRequestTest, Echo) {
  const OpenAiRequest echo = Completion(R"("echo":true,"logprobs":2)");
  EXPECT_TRUE(echo.format.echo);
  EXPECT_EQ(echo.call.prompt_logprobs, 2);
  EXPECT_EQ(echo.format.prompt_logprobs, std::nullopt);
  const OpenAiRequest both = Completion(R"("echo":true,"logprobs":2,"prompt_logprobs":5)");
  EXPECT_EQ(both.call.prompt_logprobs, 5);
  EXPECT_EQ(both.format.prompt_logprobs, 5);
  const OpenAiRequest alone = Completion(R"("echo":true,"max_tokens":0)");
  EXPECT_TRUE(alone.format.prompt_only);
  EXPECT_EQ(alone.call.max_tokens, 1);
  EXPECT_FALSE(Completion(R"("max_tokens":0)").format.prompt_only);
  EXPECT_THAT(ChatRefusal(R"("echo":true)"), HasSubstr("echo: "));
}

TEST(OpenAiRequestTest, Prompts) {
  const auto parse = [](const std::string& prompt) {
    return Parse(OpenAiEndpoint::kCompletions, R"({"prompt":)" + prompt + "}").call.prompts;
  };
  EXPECT_EQ(parse(R"("")").size(), 1u);
  const auto texts = parse(R"(["a","b"])");
  ASSERT_EQ(texts.size(), 2u);
  EXPECT_EQ(std::get<TextPrompt>(texts[1]).text, "b");
  const auto ids = parse("[1,2.0,3]");
  ASSERT_EQ(ids.size(), 1u);
  EXPECT_THAT(std::get<std::vector<int32_t>>(ids[0]), ElementsAre(1, 2, 3));
  const auto lists = parse("[[1],[2,3]]");
  ASSERT_EQ(lists.size(), 2u);
  EXPECT_THAT(std::get<std::vector<int32_t>>(lists[1]), ElementsAre(2, 3));
  for (const std::string bad : {"null", "7", "{}", "[]", "[[]]", "[1,\"a\"]", "[true]", "[\"a\",7]",
                                "[-1]", "[1.5]", "[4294967296]", "[[1],[\"a\"]]"}) {
    EXPECT_THAT(Refusal(OpenAiEndpoint::kCompletions, R"({"prompt":)" + bad + "}"),
                HasSubstr("prompt: "))
        << bad;
  }
  std::string many = "[\"a\"";
  for (int i = 0; i < 128; ++i) many += ",\"a\"";
  EXPECT_THAT(Refusal(OpenAiEndpoint::kCompletions, R"({"prompt":)" + many + "]}"),
              HasSubstr("prompt: prompt has 129 entries but at most 128"));
}

TEST(OpenAiRequestTest, Messages) {
  const auto refusal = [](const std::string& messages) {
    return Refusal(OpenAiEndpoint::kChat, R"({"messages":)" + messages + "}");
  };
  EXPECT_THAT(refusal("null"), HasSubstr("messages: "));
  EXPECT_THAT(refusal("[]"), HasSubstr("messages: "));
  EXPECT_THAT(refusal("\"hi\""), HasSubstr("messages: "));
  EXPECT_THAT(refusal("[7]"), HasSubstr("messages[0]: "));
  EXPECT_THAT(refusal(R"([{"role":"user","content":"x"},{"content":"x"}])"),
              HasSubstr("messages[1].role: "));
  EXPECT_THAT(refusal(R"([{"role":"user"}])"), HasSubstr("messages[0].content: "));
  EXPECT_THAT(refusal(R"([{"role":"user","content":7}])"), HasSubstr("messages[0].content: "));
  EXPECT_THAT(
      refusal(R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}])"),
      HasSubstr("messages[0].content[0]: "));
}

// The most common mistakes: each refusal says what to send instead.
TEST(OpenAiRequestTest, RefusalsSayHowToMendThem) {
  const auto chat = [](const std::string& body) { return Refusal(OpenAiEndpoint::kChat, body); };
  const auto completion = [](const std::string& body) {
    return Refusal(OpenAiEndpoint::kCompletions, body);
  };
  EXPECT_EQ(chat("{}"),
            R"(messages: messages is missing: send at least one, as in [{"role": "user", )"
            R"("content": "Hello"}].)");
  EXPECT_THAT(chat(R"({"messages":[]})"), StartsWith("messages: messages is empty: "));
  EXPECT_THAT(chat(R"({"prompt":"x"})"), EndsWith("A prompt is sent to /v1/completions instead."));
  EXPECT_EQ(chat(R"({"messages":"hi"})"), "messages: messages must be an array, but is a string.");
  EXPECT_THAT(chat(R"({"messages":["hi"]})"), HasSubstr(R"(as in {"role": "user")"));
  EXPECT_THAT(chat(R"({"messages":[{"content":"x"}]})"), HasSubstr("messages[0].role is missing"));
  EXPECT_THAT(chat(R"({"messages":[{"role":7,"content":"x"}]})"),
              HasSubstr("messages[0].role is wrong"));
  EXPECT_EQ(completion("{}"),
            "prompt: prompt is missing: send a text, a list of texts, a list of token ids or a "
            "list of those.");
  EXPECT_THAT(completion(R"({"prompt":[]})"), StartsWith("prompt: prompt is empty: "));
  EXPECT_THAT(completion(R"({"prompt":7})"), StartsWith("prompt: prompt is wrong: "));
  EXPECT_THAT(completion(R"({"messages":[]})"),
              EndsWith("Messages are sent to /v1/chat/completions instead."));
  EXPECT_THAT(completion(R"({"prompt":[5,-1]})"), HasSubstr("prompt holds -1 as its entry 1"));
  EXPECT_THAT(CompletionRefusal(R"("logit_bias":{"서울":1})"), HasSubstr(R"(its key "서울")"));
  // A client's own words are quoted truncated, at a character boundary.
  std::string key;
  for (int i = 0; i < 1000; ++i) key += "한";
  const std::string long_key = CompletionRefusal(R"("logit_bias":{")" + key + R"(":1})");
  EXPECT_LT(long_key.size(), 250u);
  EXPECT_TRUE(text::IsValidUtf8(long_key));
}

TEST(OpenAiRequestTest, MessagesKeepTheirKeysInOrder) {
  const OpenAiRequest request = Parse(
      OpenAiEndpoint::kChat,
      R"({"messages":[{"role":"user","name":"z","content":[{"type":"text","text":"한"}],"extra":1},)"
      R"({"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"z\":1,\"a\":2}"}}]}]})");
  EXPECT_EQ(
      ChatOf(request).messages_json,
      R"([{"role":"user","name":"z","content":[{"type":"text","text":"한"}],"extra":1},)"
      R"({"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{"z":1,"a":2}}}],)"
      R"("content":""}])");
}

TEST(OpenAiRequestTest, PartsThatAreText) {
  const auto content = [](const std::string& parts) {
    return R"({"messages":[{"role":"user","content":[)" + parts + "]}]}";
  };
  const OpenAiRequest request =
      Parse(OpenAiEndpoint::kChat,
            content(R"("a",{"type":"input_text","text":"b"},{"type":"output_text","text":"c"},)"
                    R"({"type":"refusal","refusal":"d"},{"type":"thinking","thinking":"e"},)"
                    R"({"type":"text","text":"f"})"));
  std::string parts;
  for (const char* text : {"a", "b", "c", "d", "e", "f"}) {
    parts += std::string(parts.empty() ? "" : ",") + R"({"type":"text","text":")" + text + "\"}";
  }
  EXPECT_EQ(ChatOf(request).messages_json, R"([{"role":"user","content":[)" + parts + "]}]");
  for (const char* part :
       {R"({"type":"refusal","text":"d"})", R"({"type":"thinking","thinking":7})",
        R"({"text":"no type"})", R"({"type":7,"text":"x"})", "null", R"({"type":"input_audio"})"}) {
    EXPECT_EQ(
        Refusal(OpenAiEndpoint::kChat, content(part)),
        R"(messages[0].content[0]: messages[0].content[0] must be {"type": "text", "text": )"
        R"("..."}, a string, or a part of type input_text, output_text, refusal or thinking: )"
        "this server takes text only.")
        << part;
  }
}

// Templates concatenate what an agent's client leaves empty, and treat an empty list of calls as
// calls.
TEST(OpenAiRequestTest, ConversationsWithPastToolCalls) {
  const auto read = [](const std::string& message) {
    const std::string json =
        ChatOf(Parse(OpenAiEndpoint::kChat, R"({"messages":[)" + message + "]}")).messages_json;
    return json.substr(1, json.size() - 2);
  };
  EXPECT_EQ(read(R"({"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f",)"
                 R"("arguments":""}},{"function":{"name":"g"}}]},)"
                 R"({"role":"tool","tool_call_id":"1","content":"5"})"),
            R"({"role":"assistant","content":"","tool_calls":[{"function":{"name":"f",)"
            R"("arguments":{}}},{"function":{"name":"g","arguments":{}}}]},)"
            R"({"role":"tool","tool_call_id":"1","content":"5"})");
  EXPECT_EQ(read(R"({"role":"assistant","content":null,"function_call":{"name":"f"}})"),
            R"({"role":"assistant","content":"","function_call":{"name":"f"}})");
  EXPECT_EQ(read(R"({"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"custom",)"
                 R"("custom":{"name":"f","input":"x = 1"}}]})"),
            R"({"role":"assistant","content":"","tool_calls":[{"id":"1","type":"function",)"
            R"("function":{"name":"f","arguments":{"input":"x = 1"}}}]})");
  for (const std::string role : {"assistant", "tool", "function"}) {
    EXPECT_EQ(read(R"({"role":")" + role + R"("})"), R"({"role":")" + role + R"(","content":""})");
  }
  for (const std::string none : {"null", "[]"}) {
    EXPECT_EQ(read(R"({"role":"assistant","tool_calls":)" + none + R"(,"content":"x"})"),
              R"({"role":"assistant","content":"x"})");
    EXPECT_THAT(Refusal(OpenAiEndpoint::kChat,
                        R"({"messages":[{"role":"user","tool_calls":)" + none + "}]}"),
                HasSubstr("messages[0].content: "));
  }
}

TEST(OpenAiRequestTest, BoundsThePartsOfAllMessages) {
  const auto chat = [](int first, int second) {
    const auto message = [](int parts) {
      std::string content = R"("")";
      for (int i = 1; i < parts; ++i) content += R"(,{"type":"text","text":""})";
      return R"({"role":"user","content":[)" + content + "]}";
    };
    return R"({"messages":[)" + message(first) + "," + message(second) + "]}";
  };
  EXPECT_EQ(Refusal(OpenAiEndpoint::kChat, chat(4095, 1)), "accepted");
  EXPECT_EQ(Refusal(OpenAiEndpoint::kChat, chat(4095, 2)),
            "messages[1].content: messages[1].content brings the parts of all messages to 4097 but "
            "at most 4096 are allowed; send strings.");
}

// They would reach the chat template, which might do anything with them.
TEST(OpenAiRequestTest, PastToolCallsThatAreNone) {
  const auto refusal = [](const std::string& calls) {
    return Refusal(OpenAiEndpoint::kChat, R"({"messages":[{"role":"user","content":"a"},)"
                                          R"({"role":"assistant","content":"b","tool_calls":)" +
                                              calls + "}]}");
  };
  for (const char* calls : {R"("f")", "7", "true", R"({"function":{"name":"f"}})"}) {
    EXPECT_EQ(refusal(calls),
              R"(messages[1].tool_calls: messages[1].tool_calls must be an array, as in )"
              R"([{"type": "function", "function": {"name": "add", "arguments": "{\"a\": 1}"}}].)")
        << calls;
  }
  for (const char* call :
       {"null", "7", R"("f")", "[]", "{}", R"({"function":null})", R"({"function":"f"})",
        R"({"name":"f","arguments":"{}"})", R"({"function":{"arguments":"{}"}})",
        R"({"custom":{"input":"x"}})", R"({"custom":{"name":"f"}})", R"({"custom":7})",
        R"({"function":{"name":7}})", R"({"function":{"name":"f","arguments":[1]}})",
        R"({"function":{"name":"f","arguments":7}})"}) {
    EXPECT_THAT(refusal(std::string(R"([{"function":{"name":"f"}},)") + call + "]"),
                StartsWith("messages[1].tool_calls[1]: messages[1].tool_calls[1] must be a call "))
        << call;
  }
}

// Each counts as one string towards the body's own limit.
TEST(OpenAiRequestTest, TheArgumentsOfPastToolCallsAreBoundedTogether) {
  const auto chat = [](int lists) {
    std::string list = "[]";
    for (int i = 1; i < lists; ++i) list += ",[]";
    const std::string call = R"({"function":{"name":"f","arguments":"{\"a\":[)" + list + R"(]}"}})";
    return R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[)" +
           call + "," + call + "]}]}";
  };
  constexpr int kHalf = (1 << 18) / 2 - 3;  // in addition to an object, its key and a list
  EXPECT_EQ(Refusal(OpenAiEndpoint::kChat, chat(kHalf)), "accepted");
  EXPECT_EQ(
      Refusal(OpenAiEndpoint::kChat, chat(kHalf + 1)),
      "messages[1].tool_calls[1]: messages[1].tool_calls[1] brings the arguments of all calls "
      "to more than 262144 strings, arrays and objects; send fewer.");
}

TEST(OpenAiRequestTest, TemplateArguments) {
  const OpenAiRequest request = Chat(
      R"("chat_template_kwargs":{"enable_thinking":false},"reasoning_effort":"low",)"
      R"("add_generation_prompt":false,"continue_final_message":true,"add_special_tokens":true)");
  const ChatPrompt& chat = ChatOf(request);
  EXPECT_EQ(chat.arguments_json, R"({"enable_thinking":false,"reasoning_effort":"low"})");
  EXPECT_EQ(request.reasoning_effort, "low");
  EXPECT_EQ(chat.add_generation_prompt, false);
  EXPECT_EQ(chat.continue_final_message, true);
  EXPECT_TRUE(chat.add_special_tokens);
}

TEST(OpenAiRequestTest, TemplateArgumentsAreNoOtherFields) {
  for (const std::string name : {"tools", "documents"}) {
    EXPECT_EQ(ChatRefusal(R"("chat_template_kwargs":{")" + name + R"(":[{}]})"),
              "chat_template_kwargs: " + name +
                  " is a field of the request and can't be a template argument.");
  }
}

TEST(OpenAiRequestTest, RefusesWhatItWouldOtherwiseIgnore) {
  for (const char* field : {R"("tools":[{"type":"function"}])",
                            R"("tool_choice":"required")",
                            R"("functions":[{}])",
                            R"("structured_outputs":{"json":{}})",
                            R"("guided_json":{"type":"object"})",
                            R"("response_format":{"type":"json_object"})",
                            R"("response_format":{})",
                            R"("suffix":"none")",
                            R"("use_beam_search":true)",
                            R"("chat_template":"x")",
                            R"("bad_words":["x"])",
                            R"("allowed_token_ids":[1])",
                            R"("prompt_embeds":"x")",
                            R"("function_call":{"name":"f"})",
                            R"("length_penalty":0.5)",
                            R"("early_stopping":true)",
                            R"("modalities":["text","audio"])",
                            R"("audio":{"voice":"v"})",
                            R"("prediction":{"type":"content"})",
                            R"("web_search_options":{})",
                            R"("verbosity":"low")",
                            R"("thinking_token_budget":0)",
                            R"("service_tier":"priority")",
                            R"("grammar":"x")",
                            R"("json_schema":{"type":"object"})",
                            R"("json_schema":{})",
                            R"("guided_json":{})",
                            R"("guided_json_object":true)",
                            R"("stop_regex":"a+")",
                            R"("truncation_side":"right")",
                            R"("logprob_token_ids":[5])",
                            R"("moderation":{"model":"omni"})",
                            R"("lora_path":"x")",
                            R"("custom_logit_processor":"x")",
                            R"("repetition_detection":{"max_pattern_size":3})",
                            R"("regex":"a+")",
                            R"("ebnf":"x")"}) {
    const std::string name = std::string(field).substr(1, std::string(field).find('"', 1) - 1);
    EXPECT_THAT(CompletionRefusal(field), HasSubstr(name + ": " + name + " is ")) << field;
  }
  // The forms that mean "off".
  Chat(
      R"("tools":[],"tool_choice":"none","function_call":"auto","response_format":{"type":"text"},)"
      R"("structured_outputs":{},"suffix":"","use_beam_search":false,"length_penalty":1.0,)"
      R"("early_stopping":false,"modalities":["text"],"verbosity":"medium","audio":null,)"
      R"("web_search_options":null,"functions":[],"truncation_side":"left","moderation":null)");
  for (const char* choice : {"none", "auto"}) {
    Chat(std::string(R"("tool_choice":")") + choice + "\"");
  }
  for (const char* tier : {"auto", "default"}) {
    Chat(std::string(R"("service_tier":")") + tier + "\"");
  }
  // Fields that do not change the answer's text.
  Chat(R"("user":"u","safety_identifier":"s","prompt_cache_key":"k","store":true,)"
       R"("metadata":{"a":"b"},"parallel_tool_calls":true)");
}

TEST(ParseTokenizeRequestTest, TakesTextOrMessages) {
  auto text = ParseTokenizeRequest(Json::parse(R"({"model":"m","prompt":"hi"})"));
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text->model, "m");
  EXPECT_TRUE(std::get<TextPrompt>(text->prompt).add_special_tokens);
  auto chat = ParseTokenizeRequest(Json::parse(R"({"messages":[{"role":"user","content":"x"}]})"));
  ASSERT_TRUE(chat.ok());
  EXPECT_FALSE(std::get<ChatPrompt>(chat->prompt).add_special_tokens);
  // Without them the count would be that of another prompt.
  for (const char* field :
       {R"("tools":[{"type":"function"}])", R"("chat_template":"x")", R"("documents":[{}])"}) {
    const std::string body =
        std::string(R"({"messages":[{"role":"user","content":"x"}],)") + field + "}";
    EXPECT_FALSE(ParseTokenizeRequest(Json::parse(body)).ok()) << field;
  }
  EXPECT_TRUE(ParseTokenizeRequest(Json::parse(R"({"prompt":"x","tools":[]})")).ok());
  EXPECT_FALSE(ParseTokenizeRequest(Json::object()).ok());
  EXPECT_FALSE(ParseTokenizeRequest(Json::parse(R"({"prompt":[1]})")).ok());
}

}  // namespace
}  // namespace baram::server
