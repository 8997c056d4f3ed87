// Hostile and odd requests over HTTP: each row is one, with its outcome; nothing else is disturbed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "server/json_fields.h"
#include "tests/server/http_client.h"
#include "tests/server/peak_memory.h"
#include "tests/server/server_fixture.h"

namespace baram::testing {
namespace {

using server::Json;
using server::RawClient;
using server::RawRequest;
using server::RawResponse;

struct Row {
  std::string body;
  int status = 200;
  std::string param = "";  // of a 400
};

class OpenAiHostileTest : public ServerFixture {
 protected:
  void SetUp() override { StartServer(); }
  RawResponse Ask(const std::string& request) {
    RawClient client(server_->http_address());
    client.Send(request);
    return client.Read();
  }
  RawResponse Post(const std::string& path, const std::string& body,
                   const std::string& headers = "") {
    return Ask(RawRequest("POST", path, body, "Content-Type: application/json\r\n" + headers));
  }
  void Expect(const std::string& path, const std::vector<Row>& rows) {
    for (const Row& row : rows) {
      SCOPED_TRACE(row.body.substr(0, 120));
      const RawResponse response = Post(path, row.body);
      EXPECT_EQ(response.status, row.status) << response.body.substr(0, 400);
      ASSERT_TRUE(Json::accept(response.body)) << response.body.substr(0, 400);
      if (response.status == 200) continue;
      const Json error = Json::parse(response.body)["error"];
      EXPECT_EQ(error["code"], row.status);
      EXPECT_EQ(error["param"], row.param.empty() ? Json() : Json(row.param));
      EXPECT_LT(std::string(error["message"]).size(), 1100u);
      EXPECT_EQ(response.headers.at("x-should-retry"), "false");
    }
    const RawResponse healthy =
        Post("/v1/completions", R"({"prompt":"hello","temperature":0,"max_tokens":15})");
    EXPECT_EQ(Json::parse(healthy.body)["choices"][0]["text"], TinyFolder::kCycle);
  }
  // {"0":1,"1":1,...}
  static std::string Biases(int count) {
    std::string biases = "{";
    for (int i = 0; i < count; ++i) {
      biases += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":1";
    }
    return biases + "}";
  }
};

TEST_F(OpenAiHostileTest, Completions) {
  const auto with = [](const std::string& fields) {
    return R"({"prompt":"hello","max_tokens":2,)" + fields + "}";
  };
  Expect("/v1/completions",
         {{R"({"prompt":"a\u0000b","max_tokens":2})"},
          {with(R"("stop":"\u0000")")},
          {with(R"("logit_bias":)" + Biases(300))},
          {with(R"("logit_bias":)" + Biases(301)), 400, "logit_bias"},
          {with(R"("logit_bias":{"-1":1})"), 400, "logit_bias"},
          {with(R"("logit_bias":{"720":1})"), 400, "logit_bias"},
          {with(R"("logit_bias":{"18446744073709551616":1})"), 400, "logit_bias"},
          {with(R"("logit_bias":{" 1":1})"), 400, "logit_bias"},
          {with(R"("logit_bias":{"1":1e308})"), 400, "logit_bias"},
          {with(R"("logit_bias":{"1":1e999})"), 400},
          {with(R"("temperature":-0.0)")},
          {with(R"("temperature":1e-300)")},
          {with(R"("top_p":1e-320)")},
          {with(R"("top_p":0)")},
          {with(R"("top_p":-0.01)"), 400, "top_p"},
          {with(R"("top_k":9223372036854775807)")},
          {with(R"("top_k":18446744073709551616)"), 400, "top_k"},
          {with(R"("min_p":1e-400)")},
          {with(R"("repetition_penalty":1e-300)")},
          {R"({"prompt":[1,2],"repetition_penalty":1e-38,"top_p":0.9,"max_tokens":4,)"
           R"("logit_bias":{"1":100,"2":100}})"},
          {with(R"("repetition_penalty":-0.0)"), 400, "repetition_penalty"},
          {with(R"("min_tokens":9223372036854775807)"), 400, "min_tokens"},
          {with(R"("n":0)"), 400, "n"},
          {with(R"("n":-0)"), 400, "n"},
          {with(R"("best_of":3)"), 400, "best_of"},
          {with(R"("n":0,"n":1)")},
          {with(R"("stop":["\ud800"])"), 400},
          {with(R"("stop_token_ids":[-1])"), 400, "stop_token_ids"},
          {with(R"("stop_token_ids":[18446744073709551615])"), 400, "stop_token_ids"},
          {with(R"("request_id":"a\r\nX: y")"), 400, "request_id"},
          {with(R"("cache_salt":")" + std::string(129, 's') + "\""), 400, "cache_salt"},
          {with(R"("model":")" + std::string(1 << 20, 'm') + "\""), 404, "model"},
          {R"({"prompt":[-1]})", 400, "prompt"},
          {R"({"prompt":[720]})", 400, "prompt"},
          {R"({"prompt":[2147483648]})", 400, "prompt"},
          {R"({"prompt":[[1],[]]})", 400, "prompt"},
          {R"({"prompt":"","echo":true})", 400, "prompt"},
          {R"({"prompt":"a","max_tokens":-0})", 400, "max_tokens"},
          {R"({"prompt":"a","max_tokens":18446744073709551615})", 400, "max_tokens"},
          {R"({"prompt":"a","max_tokens":9223372036854775807})", 400, "max_tokens"}});
}

// Memory per byte of text: for one that leaves much behind, and for one of many tokens.
TEST_F(OpenAiHostileTest, TokenizingALongTextTakesLittleMemoryAndGivesItBack) {
  constexpr size_t kBytes = 2 << 20;
  struct Long {
    std::string part;
    int64_t most_taken, most_kept;
  };
  for (const Long& one : std::vector<Long>{{"a, b. ", 320, 60}, {"é x", 290, 60}}) {
    SCOPED_TRACE(one.part);
    std::string text;
    while (text.size() < kBytes) text += one.part;
    if (!ForgetPeak()) GTEST_SKIP() << "the kernel does not forget the peak";
    const int64_t before = PeakBytes();
    EXPECT_EQ(Post("/tokenize", R"({"prompt":")" + text + "\"}").status, 200);
    const auto for_each = [&] { return (PeakBytes() - before) / static_cast<int64_t>(kBytes); };
    EXPECT_LT(for_each(), one.most_taken);
    ASSERT_TRUE(ForgetPeak());
    EXPECT_LT(for_each(), one.most_kept);
  }
}

// A request of many prompts holds what they share once, and what is too large not at all.
TEST_F(OpenAiHostileTest, ManyPromptsTakeNoMemoryOfEachOther) {
  constexpr int64_t kMaxBytes = 96 << 20;
  std::string prompts = R"("a")", stops = R"("")", ids = "1";
  for (int i = 1; i < 128; ++i) prompts += R"(,"a")";
  for (int i = 1; i < 160'000; ++i) stops += R"(,"")";
  for (int i = 1; i < 200'000; ++i) ids += ",1";
  const std::string begin = R"({"max_tokens":1,"prompt":[)" + prompts + R"(],")";
  const std::string large(1 << 20, 'x');
  Post("/v1/completions", begin + R"(n":1})");  // first-time allocations
  for (const Row& row :
       std::vector<Row>{{begin + R"(stop":[)" + stops + "]}", 400, "stop"},
                        {begin + R"(stop":[")" + large + R"("]})", 400, "stop"},
                        {begin + R"(stop_token_ids":[)" + ids + "]}", 400, "stop_token_ids"},
                        {begin + R"(cache_salt":")" + large + R"("})", 400, "cache_salt"},
                        {begin + R"(model":")" + large + R"("})", 404, "model"}}) {
    if (!ForgetPeak()) GTEST_SKIP() << "the kernel does not forget the peak";
    const int64_t before = PeakBytes();
    Expect("/v1/completions", {row});
    EXPECT_LT(PeakBytes() - before, kMaxBytes) << row.param;
  }
}

// Every event of every prompt carries the id, and so does the log.
TEST_F(OpenAiHostileTest, IdsOfSeveralPrompts) {
  const auto with = [](const std::string& id) {
    return R"({"prompt":["a","b"],"max_tokens":1,"request_id":")" + id + "\"}";
  };
  Expect("/v1/completions", {{with(std::string(128, 'i'))},
                             {with(std::string(129, 'i')), 400, "request_id"},
                             {with(std::string(1 << 20, 'i')), 400, "request_id"},
                             {with(R"(a\nb)"), 400, "request_id"},
                             {with("")}});
}

// A key that fits no integer is reported as it was sent.
TEST_F(OpenAiHostileTest, AKeyOfTooManyDigits) {
  const std::string key = "99999999999999999999";
  const RawResponse response =
      Post("/v1/completions", R"({"prompt":"a","logit_bias":{")" + key + R"(":1}})");
  EXPECT_EQ(response.status, 400);
  EXPECT_THAT(response.body, ::testing::HasSubstr(key));
}

TEST_F(OpenAiHostileTest, Chats) {
  const auto with = [](const std::string& fields) {
    return R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":2,)" + fields + "}";
  };
  std::string deep;
  for (int i = 0; i < 55; ++i) deep += R"({"a":)";
  deep += "1" + std::string(55, '}');
  Expect("/v1/chat/completions",
         {{R"({"messages":[]})", 400, "messages"},
          {R"({"messages":[{}]})", 400, "messages[0].role"},
          {R"({"messages":[{"role":"user","content":null}]})", 400, "messages[0].content"},
          {R"({"messages":[{"role":"user","content":[]}],"max_tokens":2})"},
          {R"({"messages":[{"role":"wizard","content":"x"}],"max_tokens":2})"},
          {R"({"messages":[{"role":"","content":""}],"max_tokens":2})"},
          {R"({"messages":[{"role":"a\u0000<|im_end|>","content":"\u0000"}],"max_tokens":2})"},
          {R"({"messages":[{"role":"user","content":"{{ 7*7 }}{% for %}"}],"max_tokens":2})"},
          {R"({"messages":[{"role":"user","content":"x","content":"y"}],"max_tokens":2})"},
          {with(R"("chat_template_kwargs":)" + deep)},
          {with(R"("chat_template_kwargs":{"__class__":{},"range":1e308,"bos_token":[]})")},
          {with(R"("chat_template_kwargs":{"x":")" + std::string(70'000, 'x') + "\"}"), 400,
           "chat_template_kwargs"},
          {with(R"("chat_template_kwargs":{"messages":[]})"), 400, "chat_template_kwargs"},
          {with(R"("chat_template_kwargs":"x")"), 400, "chat_template_kwargs"},
          {with(R"("add_generation_prompt":true,"continue_final_message":true)"), 400,
           "continue_final_message"},
          {with(R"("top_logprobs":3)"), 400, "top_logprobs"}});
}

TEST_F(OpenAiHostileTest, AStopStringOfHangulAcrossTokensDoesNotLeak) {
  const std::string fields = R"({"prompt":"hello","temperature":0,"max_tokens":60,"stop":"쫓 헐")";
  const Json choice = Json::parse(Post("/v1/completions", fields + "}").body)["choices"][0];
  EXPECT_EQ(choice["text"], "곬 낯 ");
  EXPECT_EQ(choice["stop_reason"], "쫓 헐");
  EXPECT_THAT(Post("/v1/completions", fields + R"(,"stream":true})").body,
              ::testing::Not(::testing::HasSubstr("\"text\":\"쫓")));
}

// An unstreamed answer is accumulated here: past its limit it costs nothing more.
TEST_F(OpenAiHostileTest, AWholeAnswerIsBounded) {
  StartServer([](server::Config& config) { config.max_http_reply_bytes = 256 << 10; });
  const Stats& stats = server_->engine().stats();
  const std::string fields =
      R"({"prompt":["a","b","c","d"],"n":16,"max_tokens":100,"logprobs":20,"ignore_eos":true)";
  const RawResponse whole = Post("/v1/completions", fields + "}");
  EXPECT_EQ(whole.status, 400);
  EXPECT_EQ(Json::parse(whole.body)["error"]["message"],
            "The answer exceeds the limit for unstreamed answers, 262144 bytes "
            "(--max-http-reply-bytes); set stream to true, or ask for less.");
  EXPECT_EQ(whole.headers.at("x-should-retry"), "false");
  AwaitIdle();
  EXPECT_LT(stats.generated_tokens.value(), 4u * 16 * 100 / 2) << "the rest is not drawn";
  const RawResponse stream = Post("/v1/completions", fields + R"(,"stream":true})");
  EXPECT_EQ(stream.status, 200);
  EXPECT_GT(stream.body.size(), size_t{1} << 20);
  EXPECT_EQ(Post("/v1/completions", R"({"prompt":"a","n":16,"max_tokens":20})").status, 200);

  // Nor may a text or its tokens be larger, where streaming is not available.
  std::string text(100'000, 'a');
  const RawResponse tokens = Post("/tokenize", R"({"prompt":")" + text + "\"}");
  EXPECT_EQ(tokens.status, 400);
  EXPECT_EQ(Json::parse(tokens.body)["error"]["message"],
            "The answer exceeds the limit for unstreamed answers, 262144 bytes "
            "(--max-http-reply-bytes); send less in one request.");
  const auto detokenize = [&](int ids) {
    return Post("/detokenize", R"({"tokens":)" + Json(std::vector<int>(ids, 65)).dump() + "}");
  };
  const size_t around = std::string_view(R"({"prompt":""})").size();
  const size_t each = (detokenize(2000).body.size() - around) / 2000;
  const auto most = static_cast<int>(((256 << 10) - around) / each);
  EXPECT_EQ(detokenize(most).status, 200);
  EXPECT_EQ(detokenize(most + 1).status, 400);

  // If the prompt alone brings too much, the request is not started.
  const std::string ids = Json(std::vector<int>(400, 65)).dump();
  StartServer([](server::Config& config) { config.max_http_reply_bytes = 64 << 10; });
  Expect("/v1/completions", {{R"({"prompt_logprobs":20,"max_tokens":1,"prompt":)" + ids + "}", 400,
                              "prompt_logprobs"}});
  EXPECT_EQ(server_->engine().stats().accepted.value(), 1u) << "the healthy one";
  // An echo shows as much, streamed or not, and is reported under the name it was requested by.
  for (const char* stream : {"false", "true"}) {
    const RawResponse refused =
        Post("/v1/completions", R"({"echo":true,"logprobs":20,"max_tokens":1,"stream":)" +
                                    std::string(stream) + R"(,"prompt":)" + ids + "}");
    EXPECT_EQ(refused.status, 400);
    EXPECT_EQ(Json::parse(refused.body)["error"]["param"], "logprobs");
    EXPECT_EQ(Json::parse(refused.body)["error"]["message"],
              "logprobs of a prompt of 400 tokens do not fit into one reply of 65536 bytes "
              "(--max-http-reply-bytes); ask for fewer.");
  }
}

// Every output of a stream shows the prompt once more: a small request for a large answer, which
// nothing slows down while it is built.
TEST_F(OpenAiHostileTest, AStreamShowsItsPromptsWithinTheLimit) {
  StartServer([](server::Config& config) { config.max_http_reply_bytes = 8 << 10; });
  const auto echo = [&](int n, const char* more, const std::string& prompt) {
    return Post("/v1/completions", R"({"stream":true,"echo":true,"max_tokens":1,"n":)" +
                                       std::to_string(n) + more + R"(,"prompt":)" +
                                       Json(prompt).dump() + "}");
  };
  struct Case {
    const char* more;
    std::string prompt;
  };
  for (const Case& c : {Case{"", std::string(400, '\t')},  // each two bytes in JSON
                        Case{R"(,"logprobs":1)", std::string(40, 'a')},
                        Case{R"(,"return_token_ids":true)", std::string(100, 'a')}}) {
    EXPECT_EQ(echo(1, c.more, c.prompt).status, 200) << c.more;
    EXPECT_THAT(echo(16, c.more, c.prompt).body,
                ::testing::HasSubstr("ask for fewer outputs, send fewer prompts, or leave out echo "
                                     "and return_token_ids."))
        << c.more;
  }
}

// Bytes that are not text, everywhere but in the body.
TEST_F(OpenAiHostileTest, BytesOutsideTheBody) {
  const std::string body = R"({"prompt":"a","max_tokens":1})";
  const RawResponse id = Post("/v1/completions", body, "X-Request-Id: \xff\xfe id\r\n");
  EXPECT_EQ(id.status, 200);
  EXPECT_EQ(Json::parse(id.body)["id"], "cmpl-" + id.headers.at("x-request-id"));
  // The body's id is better than one of ours.
  const RawResponse named = Post("/v1/completions", R"({"prompt":"a","request_id":"in-body"})",
                                 "X-Request-Id: \xff\xfe id\r\n");
  EXPECT_EQ(named.headers.at("x-request-id"), "in-body");
  for (const char* answered : {R"({"prompt":"a"})", R"({"prompt":)"}) {
    const RawResponse other = Post("/tokenize", answered, "X-Request-Id: \xff\xfe id\r\n");
    EXPECT_TRUE(other.headers.at("x-request-id").starts_with("req-")) << answered;
  }
  EXPECT_EQ(Post("/v1/completions", body, "X-Request-Timeout: 30\r\n").status, 200);
  for (const char* wrong : {"nan", "-1", "0", "-1e999", "1e999", "30s", "abc"}) {
    const RawResponse timeout =
        Post("/v1/completions", body, std::string("X-Request-Timeout: ") + wrong + "\r\n");
    EXPECT_EQ(timeout.status, 400) << wrong;
    EXPECT_EQ(Json::parse(timeout.body)["error"]["param"], "x-request-timeout") << wrong;
  }
  const RawResponse count = Post("/tokenize", R"({"prompt":"a"})", "X-Request-Timeout: 30s\r\n");
  EXPECT_EQ(count.status, 400);
  EXPECT_EQ(Json::parse(count.body)["error"]["param"], "x-request-timeout");
  for (const char* path : {"/v1/models/%ff%00", "/%c3%28", "/v1/models/%0d%0aX:%20y"}) {
    const RawResponse response = Ask(RawRequest("GET", path));
    EXPECT_EQ(response.status, 404) << path;
    EXPECT_TRUE(Json::accept(response.body)) << response.body;
    EXPECT_EQ(response.headers.count("x"), 0u);
  }
}

}  // namespace
}  // namespace baram::testing
