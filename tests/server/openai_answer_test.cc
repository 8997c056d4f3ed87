// OpenAI's HTTP API on the real server: what an answer consists of, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "server/json_fields.h"
#include "tests/model/scratch_folder.h"
#include "tests/server/http_client.h"
#include "tests/server/openai_flow_fixture.h"

namespace baram::testing {
namespace {

using server::Json;
using server::RawRequest;
using server::RawResponse;
using ::testing::HasSubstr;

using OpenAiAnswerTest = OpenAiFlowFixture;

// A character cut off at the end of a prompt of ids arrives whole.
TEST_F(OpenAiAnswerTest, ACompletionGoesOnWithinACharacter) {
  StartServer();
  const Json ids =
      Json::parse(Ask(RawRequest("POST", "/tokenize",
                                 R"({"prompt":")" + std::string(TinyFolder::kCycle) + R"("})",
                                 "Content-Type: application/json\r\n"))
                      .body)["tokens"];
  ASSERT_EQ(ids.size(), size_t{TinyFolder::kCycleTokens});
  const auto text = [&](const std::string& fields) {
    const RawResponse response =
        Ask(Post(R"({"temperature":0,"prompt":[)" + ids[0].dump() + "]" + fields + "}"));
    return Json::parse(response.body)["choices"][0]["text"];
  };
  const std::string length = R"(,"max_tokens":)" + std::to_string(TinyFolder::kCycleTokens - 1);
  EXPECT_EQ(text(length), TinyFolder::kCycle);
  // An echo leaves that character to the reply, if there is one.
  EXPECT_EQ(text(length + R"(,"echo":true)"), TinyFolder::kCycle);
  EXPECT_EQ(text(R"(,"max_tokens":0,"echo":true)"), "\uFFFD");
}

TEST_F(OpenAiAnswerTest, ATopPOfNothingIsTheLikeliestToken) {
  StartServer();
  const auto text = [&](const std::string& fields) {
    const RawResponse response = Ask(Post(R"({"prompt":"b","max_tokens":8,)" + fields + "}"));
    EXPECT_EQ(response.status, 200) << response.body;
    return Json::parse(response.body)["choices"][0]["text"];
  };
  const Json greedy = text(R"("temperature":0)");
  EXPECT_NE(text(R"("temperature":2,"seed":1)"), greedy);
  EXPECT_EQ(text(R"("temperature":2,"seed":1,"top_p":0)"), greedy);
}

// Tokens that the tokenizer put before it are not shown, unless the client sent the ids.
TEST_F(OpenAiAnswerTest, AnEchoIsThePromptAsItCame) {
  const ScratchFolder scratch;
  std::filesystem::copy(folder(), scratch.path());
  std::ifstream file(folder() + "/tokenizer.json");
  Json json = Json::parse(file);
  const Json begin = {{"SpecialToken", {{"id", "<|im_start|>"}, {"type_id", 0}}}};
  const auto text_of = [](const char* id) {
    return Json{{"Sequence", {{"id", id}, {"type_id", 0}}}};
  };
  json["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", Json::array({begin, text_of("A")})},
      {"pair", Json::array({begin, text_of("A"), text_of("B")})},
      {"special_tokens",
       {{"<|im_start|>", {{"id", "<|im_start|>"}, {"ids", {701}}, {"tokens", {"<|im_start|>"}}}}}}};
  scratch.Write("tokenizer.json", json.dump());
  StartServer([&](server::Config& config) { config.model = scratch.path(); });
  const auto echo = [&](const std::string& fields) {
    const RawResponse response = Ask(Post(R"({"echo":true,"max_tokens":0,)" + fields + "}"));
    EXPECT_EQ(response.status, 200) << response.body;
    return Json::parse(response.body)["choices"][0]["text"];
  };
  EXPECT_EQ(echo(R"("prompt":"hi")"), "hi");
  EXPECT_EQ(echo(R"("prompt":"")"), "");
  EXPECT_EQ(echo(R"("prompt":"hi","truncate_prompt_tokens":100)"), "hi");
  EXPECT_EQ(echo(R"("prompt":[701,701])"), "<|im_start|><|im_start|>");
  EXPECT_EQ(echo(R"("prompt":"<|im_end|><|im_end|>","truncate_prompt_tokens":1)"), "<|im_end|>");
  EXPECT_EQ(echo(R"("prompt":"<|im_end|><|im_end|>","truncate_prompt_tokens":2)"), "<|im_end|>");

  // They are kept when a text is truncated, but not alone; ids are truncated as they are.
  const auto ids = [&](const std::string& fields) {
    const RawResponse response =
        Ask(Post(R"({"return_token_ids":true,"max_tokens":1,)" + fields + "}"));
    EXPECT_EQ(response.status, 200) << response.body;
    return Json::parse(response.body)["choices"][0]["prompt_token_ids"].dump();
  };
  const std::string text =
      R"("prompt":"<|im_end|><|endoftext|><|im_end|>","truncate_prompt_tokens":)";
  EXPECT_EQ(ids(text + "4"), "[701,702,700,702]");
  EXPECT_EQ(ids(text + "3"), "[701,700,702]");
  EXPECT_EQ(ids(text + "2"), "[701,702]");
  EXPECT_EQ(ids(text + "1"), "[702]");
  EXPECT_EQ(ids(text + R"(2,"add_special_tokens":false)"), "[700,702]");
  EXPECT_EQ(ids(R"("prompt":[701,702,700,702],"truncate_prompt_tokens":2)"), "[700,702]");
}

// Only the engine knows that a text contains a token without an embedding.
TEST_F(OpenAiAnswerTest, ATokenThatTheModelHasNotIsThePromptsFault) {
  const ScratchFolder scratch;
  std::filesystem::copy(folder(), scratch.path());
  std::ifstream file(folder() + "/tokenizer.json");
  Json json = Json::parse(file);
  Json token = json["added_tokens"][0];
  for (int id = 705; id <= TinyFolder::kVocabSize; ++id) {
    token["id"] = id;
    token["content"] = "<|more" + std::to_string(id) + "|>";
    json["added_tokens"].push_back(token);
  }
  scratch.Write("tokenizer.json", json.dump());
  StartServer([&](server::Config& config) { config.model = scratch.path(); });
  EXPECT_EQ(Ask(Post(R"({"prompt":"<|more719|>","max_tokens":1})")).status, 200);
  const RawResponse refused = Ask(Post(R"({"prompt":"<|more720|>","max_tokens":1})"));
  EXPECT_EQ(refused.status, 400);
  const Json error = Json::parse(refused.body)["error"];
  EXPECT_EQ(error["param"], "prompt");
  EXPECT_THAT(std::string(error["message"]), HasSubstr("the tokenizer has but not the model"));
}

// A prompt that is truncated to the context keeps as much as its reply leaves.
TEST_F(OpenAiAnswerTest, ATruncatedPromptLeavesRoomForItsReply) {
  StartServer();
  const std::string prompt = Json(std::vector<int>(600, 65)).dump();
  const auto usage = [&](const std::string& fields) {
    const RawResponse response = Ask(Post(
        R"({"truncate_prompt_tokens":-1,"ignore_eos":true,"prompt":)" + prompt + fields + "}"));
    EXPECT_EQ(response.status, 200) << response.body;
    const Json told = Json::parse(response.body)["usage"];
    return std::pair(told["prompt_tokens"].get<int>(), told["completion_tokens"].get<int>());
  };
  constexpr int kContext = TinyFolder::kMaxModelLen;
  EXPECT_EQ(usage(R"(,"max_tokens":100)"), std::pair(kContext - 100, 100));
  EXPECT_EQ(usage(""), std::pair(kContext - 16, 16));
  EXPECT_EQ(usage(R"(,"max_tokens":511)"), std::pair(1, 511));
}

// As in vLLM: an id that the client named is reported, and EOS is generated only after min_tokens.
TEST_F(OpenAiAnswerTest, AnIgnoredEosIsAnIdAsOthers) {
  StartServer();
  const auto choice = [&](const std::string& fields) {
    const RawResponse response =
        Ask(Post(R"({"prompt":"b","max_tokens":5,"temperature":0,"logit_bias":{"702":100},)"
                 R"("return_token_ids":true,"ignore_eos":true)" +
                 fields + "}"));
    EXPECT_EQ(response.status, 200) << response.body;
    return Json::parse(response.body)["choices"][0];
  };
  const Json ended = choice(R"(,"stop_token_ids":[702])");
  EXPECT_EQ(ended["finish_reason"], "stop");
  EXPECT_EQ(ended["stop_reason"], 702);
  EXPECT_EQ(choice("")["token_ids"].dump(), "[702,702,702,702,702]");
  const Json masked = choice(R"(,"min_tokens":3)")["token_ids"];
  for (int i = 0; i < 5; ++i) EXPECT_EQ(masked[i] == 702, i >= 3) << i;
}

// A template sees the same conversation as the same object, whichever way it came.
TEST_F(OpenAiAnswerTest, TemplatesSeeTheSameMessageOverGrpcAndHttp) {
  const ScratchFolder scratch;
  const std::string file = scratch.Write("json.jinja", "{{ messages[0] | tojson }}");
  StartServer([&](server::Config& config) { config.chat_template = file; });
  v1::RenderChatRequest request;
  v1::Message* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("a");
  message->set_name("kim");
  v1::RenderChatResponse rendered;
  grpc::ClientContext context;
  ASSERT_TRUE(inference().RenderChat(&context, request, &rendered).ok());
  EXPECT_EQ(rendered.text(), R"({"role": "user", "content": "a", "name": "kim"})");
  const RawResponse response = Ask(RawRequest(
      "POST", "/tokenize", R"({"messages":[{"role":"user","content":"a","name":"kim"}]})",
      "Content-Type: application/json\r\n"));
  EXPECT_EQ(Json::parse(response.body)["tokens"],
            Json(std::vector<uint32_t>(rendered.token_ids().begin(), rendered.token_ids().end())));
}

TEST_F(OpenAiAnswerTest, ASeedDrawsAlikeOverGrpcAndHttp) {
  StartServer();
  constexpr uint64_t kSeed = std::numeric_limits<uint64_t>::max();
  v1::GenerateRequest request = TextRequest("abc", 12);
  request.mutable_sampling()->set_temperature(1.5);
  request.mutable_sampling()->set_seed(kSeed);
  request.mutable_stopping()->set_ignore_eos(true);
  const std::string drawn = Stream(request).Text();
  const RawResponse response =
      Ask(Post(R"({"prompt":"abc","max_tokens":12,"temperature":1.5,"ignore_eos":true,"seed":)" +
               std::to_string(kSeed) + "}"));
  EXPECT_EQ(Json::parse(response.body)["choices"][0]["text"], drawn);
}

TEST_F(OpenAiAnswerTest, RefusalsSayWhatWouldDo) {
  StartServer([](server::Config& config) { config.served_model_names = {"one", "two"}; });
  const auto refusal = [&](const std::string& field) {
    return std::string(
        Json::parse(Ask(Post(R"({"prompt":"a",)" + field + "}")).body)["error"]["message"]);
  };
  EXPECT_EQ(refusal(R"("model":"three")"),
            "The model `three` does not exist. This server serves `one`, `two`.");
  EXPECT_EQ(refusal(R"("priority":3000000000)"),
            "priority is 3000000000 but must be from 0 to 2147483647.");
  EXPECT_EQ(refusal(R"("temperature":2.5)"), "temperature is 2.5 but must be from 0 to 2.");
  EXPECT_EQ(refusal(R"("temperature":2.0000001)"),
            "temperature is 2.0000001 but must be from 0 to 2.");
  const auto post = [this](const char* path, const std::string& body) -> Json {
    const std::string json = "Content-Type: application/json\r\n";
    return Json::parse(Ask(RawRequest("POST", path, body, json)).body)["error"];
  };
  const auto chat_error = [&](const std::string& field) {
    return post("/v1/chat/completions",
                R"({"messages":[{"role":"user","content":"a"}],)" + field + "}");
  };
  const auto chat_refusal = [&](const std::string& field) {
    return std::string(chat_error(field)["message"]);
  };
  EXPECT_EQ(chat_refusal(R"("max_tokens":5,"min_tokens":6)"),
            "min_tokens is 6 but must be at most max_tokens, 5.");
  EXPECT_EQ(chat_refusal(R"("max_completion_tokens":5,"min_tokens":6)"),
            "min_tokens is 6 but must be at most max_completion_tokens, 5.");
  EXPECT_THAT(chat_refusal(R"("max_completion_tokens":600)"),
              HasSubstr("max_completion_tokens is 600; leave max_completion_tokens out"));
  EXPECT_THAT(chat_refusal(R"("max_completion_tokens":0)"),
              HasSubstr("max_completion_tokens is 0 but must be at least 1."));
  EXPECT_EQ(chat_error(R"("chat_template_kwargs":{"messages":[]})")["param"],
            "chat_template_kwargs");
  const Json detokenize = post("/detokenize", R"({"tokens":[720]})");
  EXPECT_EQ(detokenize["param"], "tokens");
  EXPECT_THAT(std::string(detokenize["message"]), HasSubstr("tokens holds the token id 720"));
}

// Clients know it, but only some templates read it.
TEST_F(OpenAiAnswerTest, ReasoningEffortIsForTemplatesThatReadIt) {
  const auto ask = [this](const std::string& effort, const char* path = "/v1/chat/completions") {
    return Ask(RawRequest(
        "POST", path,
        R"({"messages":[{"role":"user","content":"a"}],"max_tokens":1,"reasoning_effort":)" +
            effort + "}",
        "Content-Type: application/json\r\n"));
  };
  StartServer();
  const RawResponse refused = ask(R"("low")");
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(Json::parse(refused.body)["error"]["param"], "reasoning_effort");
  EXPECT_EQ(ask(R"("none")").status, 200);
  EXPECT_EQ(ask(R"("low")", "/tokenize").status, 400) << "a count would be another prompt's";
  EXPECT_EQ(ask("null").status, 200);

  const ScratchFolder scratch;
  const std::string file =
      scratch.Write("effort.jinja", "{{ messages[0].content }} {{ reasoning_effort }}");
  StartServer([&](server::Config& config) { config.chat_template = file; });
  EXPECT_EQ(ask(R"("low")").status, 200);
  EXPECT_EQ(ask(R"("low")", "/tokenize").status, 200);
}

// They can't be called then: a template that does not read them answers as if there were none.
TEST_F(OpenAiAnswerTest, ToolsThatMustNotBeCalledAreForTemplatesThatShowNone) {
  const auto ask = [this](const std::string& choice) {
    return Ask(RawRequest("POST", "/v1/chat/completions",
                          R"({"messages":[{"role":"user","content":"a"}],"max_tokens":1,"tools":)"
                          R"([{"type":"function","function":{"name":"f"}}])" +
                              choice + "}",
                          "Content-Type: application/json\r\n"));
  };
  const auto refused = [](const RawResponse& response) {
    return response.status == 400 && Json::parse(response.body)["error"]["param"] == "tools";
  };
  StartServer();
  EXPECT_EQ(ask(R"(,"tool_choice":"none")").status, 200);
  EXPECT_TRUE(refused(ask("")));
  EXPECT_TRUE(refused(ask(R"(,"tool_choice":"auto")")));

  const ScratchFolder scratch;
  const std::string file = scratch.Write(
      "tools.jinja", "{{ messages[0].content }} {% if tools %}{{ tools }}{% endif %}");
  StartServer([&](server::Config& config) { config.chat_template = file; });
  EXPECT_TRUE(refused(ask(R"(,"tool_choice":"none")")));
}

TEST_F(OpenAiAnswerTest, ModelsWithASlashBehindThem) {
  StartServer();
  const RawResponse models = Ask(RawRequest("GET", "/v1/models"));
  EXPECT_EQ(Json::parse(models.body)["data"][0]["id"], "tiny");
  EXPECT_EQ(Ask(RawRequest("GET", "/v1/models/")).body, models.body);
}

// A default length must not cause a prompt to be refused.
TEST_F(OpenAiAnswerTest, TheDefaultLengthGivesWayToTheContext) {
  StartServer([](server::Config&) {});
  std::string prompt = "[5";
  for (int i = 1; i < TinyFolder::kMaxModelLen - 3; ++i) prompt += ",5";
  const std::string fields = R"({"ignore_eos":true,"prompt":)" + prompt + "]";
  const RawResponse whole = Ask(Post(fields + "}"));
  EXPECT_EQ(whole.status, 200);
  EXPECT_EQ(Json::parse(whole.body)["usage"]["completion_tokens"], 3);
  EXPECT_EQ(Ask(Post(fields + R"(,"max_tokens":16})")).status, 400);
}

}  // namespace
}  // namespace baram::testing
