// How large OpenAI's replies are, before and while they are written, and how large they may become.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/server/openai_reply_fixture.h"

namespace baram::server {
namespace {

class OpenAiReplySizesTest : public OpenAiReplyFixture {};

// An underestimated reply would be written on a thread that others wait for.
TEST_F(OpenAiReplySizesTest, SizesCountThePromptOfEveryOutput) {
  constexpr int kOutputs = 16;
  const int32_t a = Id("a"), b = Id("b");
  const OpenAiPrompt prompt{std::vector<int32_t>(1000, a), ""};
  const PromptEvent scored{1000, 0,
                           std::vector<TokenResult>(999, Token(a, -1.5f, {{a, -1.5f}, {b, -2}}))};
  const auto chunk_of = [&](int32_t output) {
    const bool leads = output == 0;  // the log-probabilities come with it
    if (output == 1) return Chunk({}, {End(1, EndReason::kStop)});
    return Chunk({Delta(output, "a", {Token(a, -1)})}, {End(output, EndReason::kLength)},
                 leads ? std::optional(scored) : std::nullopt);
  };
  for (const std::string fields :
       {R"(,"n":16,"echo":true,"logprobs":2)", R"(,"n":16,"return_token_ids":true)"}) {
    OpenAiReply& stream = Completion(fields + R"(,"stream":true)");
    stream.SetPrompt(0, prompt);
    for (int32_t output = 0; output < kOutputs; ++output) {
      const ReplyChunk chunk = chunk_of(output);
      const size_t size = stream.SizeOf(0, chunk);
      EXPECT_GE(size, stream.OnChunk(0, chunk).size() / 2) << fields << output;
    }
  }
  for (const std::string fields :
       {R"(,"n":16,"echo":true,"logprobs":2)", R"(,"n":16,"return_token_ids":true)",
        R"(,"n":16,"prompt_logprobs":2)"}) {
    OpenAiReply& whole = Completion(fields);
    whole.SetPrompt(0, prompt);
    for (int32_t output = 0; output < kOutputs; ++output) {
      const ReplyChunk chunk = chunk_of(output);
      const size_t size = whole.SizeOf(0, chunk), before = whole.WholeSize();
      whole.OnChunk(0, chunk);
      EXPECT_GE(size, (whole.WholeSize() - before) / 2) << fields << output;
    }
    const size_t size = whole.WholeSize();
    EXPECT_GE(size, whole.Whole().size() / 2) << fields;
  }
}

// Of a stream, only its prompt is kept, until every output has shown it.
TEST_F(OpenAiReplySizesTest, CountsWhatItKeeps) {
  const int32_t a = Id("a");
  const TokenResult token = Token(a, -1.5f, {{a, -1.5f}});
  for (const bool streamed : {true, false}) {
    OpenAiReply& reply = Completion(std::string(R"(,"n":2,"echo":true,"logprobs":1)") +
                                    (streamed ? R"(,"stream":true)" : ""));
    reply.SetPrompt(0, {std::vector<int32_t>(100, a), std::string(100, 'a')});
    const auto take = [&](int32_t output, bool ends) {
      std::vector<EndEvent> end;
      if (ends) end.push_back(End(output, EndReason::kLength));
      const int64_t before = all_kept_.bytes();
      reply.OnChunk(0, Chunk({Delta(output, "a", {token})}, std::move(end)));
      return all_kept_.bytes() - before;
    };
    reply.OnChunk(0, Chunk({}, {}, PromptEvent{100, 0, std::vector<TokenResult>(99, token)}));
    const int64_t prompt = all_kept_.bytes();
    EXPECT_GT(prompt, 100);
    if (streamed) {
      EXPECT_EQ(take(0, false), 0);
      EXPECT_EQ(take(0, false), 0);
      EXPECT_EQ(take(1, true), -prompt);
      EXPECT_EQ(take(0, true), 0);
    } else {
      EXPECT_GT(take(0, false), 10);
      EXPECT_GT(take(0, true), prompt) << "its choice repeats the prompt";
      take(1, true);
      EXPECT_EQ(all_kept_.bytes(), static_cast<int64_t>(reply.WholeSize()));
    }
  }
}

// The limit applies to the answer's bytes, whatever it shows.
TEST_F(OpenAiReplySizesTest, AWholeReplyIsTooLargeIfItsJsonIs) {
  constexpr int kTokens = 200, kPromptTokens = 300;
  constexpr int64_t kEnvelope = 400;  // everything around the choices
  const int32_t a = Id("a");
  std::vector<std::pair<int32_t, float>> tops;
  for (int32_t i = 0; i < kMaxTopLogprobs; ++i) tops.emplace_back(100 + i, -0.1f * i);
  const TokenResult token = Token(a, -1.1f, tops);
  const auto take = [&](const std::string& fields, bool ends) -> OpenAiReply& {
    const bool chat = fields.find("top_logprobs") != std::string::npos;
    OpenAiReply& reply = chat ? Chat(fields) : Completion(fields);
    const bool scores = fields.find("echo") != std::string::npos;
    reply.SetPrompt(
        0, {std::vector<int32_t>(kPromptTokens, a), std::string(scores ? kPromptTokens : 0, '"')});
    const PromptEvent prompt{kPromptTokens, 0, std::vector(scores ? kPromptTokens - 1 : 0, token)};
    reply.OnChunk(0, Chunk({}, {}, prompt));
    const int outputs = fields.find("\"n\":2") == std::string::npos ? 1 : 2;
    for (int output = 0; output < outputs; ++output) {
      for (int i = 0; i < kTokens; ++i) reply.OnChunk(0, Chunk({Delta(output, "\n", {token})}));
      if (ends) reply.OnChunk(0, Chunk({}, {End(output, EndReason::kLength)}));
    }
    return reply;
  };
  for (const std::string fields :
       {R"(,"max_tokens":9)", R"(,"return_token_ids":true)", R"(,"logprobs":0)",
        R"(,"logprobs":20)", R"(,"logprobs":true,"top_logprobs":20)",
        R"(,"echo":true,"logprobs":3)", R"(,"echo":true,"n":2,"logprobs":3,"prompt_logprobs":2)"}) {
    SCOPED_TRACE(fields);
    max_bytes_ = 64 << 20;
    const auto size = std::ssize(take(fields, true).Whole());
    max_bytes_ = size;
    EXPECT_FALSE(take(fields, true).too_large());
    max_bytes_ = size - kEnvelope;
    EXPECT_TRUE(take(fields, true).too_large());
    // A reply that is already too large need not end to be known as such.
    if (fields.find("echo") == std::string::npos && size > 10'000) {
      EXPECT_TRUE(take(fields, false).too_large());
    }
  }
  // What a choice would show of its prompt counts before it is written.
  max_bytes_ = 1000;
  OpenAiReply& echo = Completion(R"(,"echo":true)");
  echo.SetPrompt(0, {Ids("Hi"), std::string(1001, 'x')});
  echo.OnChunk(0, Chunk({}, {End(0, EndReason::kLength)}));
  EXPECT_TRUE(echo.too_large());
  EXPECT_EQ(echo.WholeSize(), 0u);
}

// What was not kept stays missing, even if the sum of what is kept drops below the limit again: a
// choice that is refused before it is written leaves the sum there.
TEST_F(OpenAiReplySizesTest, OnceTooLargeAReplyStaysSo) {
  max_bytes_ = 1000;
  OpenAiReply& reply = Completion(R"(,"echo":true)", R"(["x","y"])");
  reply.SetPrompt(0, {Ids("Hi"), std::string(1001, 'x')});
  reply.OnChunk(0, Chunk({}, {End(0, EndReason::kLength)}));
  EXPECT_TRUE(reply.too_large());
  reply.OnChunk(1, Chunk({Delta(0, "a", {})}, {End(0, EndReason::kLength)}));
  EXPECT_TRUE(reply.too_large());
  EXPECT_EQ(reply.WholeSize(), 0u) << "nothing more is kept";
}

// Not even built: every output shows the prompt once more.
TEST_F(OpenAiReplySizesTest, SizesCountWhatIsWrittenWhenever) {
  const int32_t a = Id("a");
  const ReplyChunk end = Chunk({}, {End(0, EndReason::kLength)});
  // What was kept until now.
  OpenAiReply& whole = Completion("");
  whole.OnChunk(0, Chunk({Delta(0, std::string(10'000, 'a'), {})}));
  EXPECT_GE(whole.SizeOf(0, end), 10'000u);
  // An echo, before its output ends.
  OpenAiReply& echo = Completion(R"(,"stream":true,"echo":true)");
  echo.SetPrompt(0, {Ids("Hi"), std::string(10'000, 'a')});
  EXPECT_GE(echo.SizeOf(0, Chunk({Delta(0, "a", {})})), 10'000u);
  // A prompt's log-probabilities: as they come, and as the whole shows them.
  const ReplyChunk scores =
      Chunk({}, {}, PromptEvent{1000, 0, std::vector<TokenResult>(999, Token(a, -1))});
  OpenAiReply& chat = Chat(R"(,"prompt_logprobs":0)");
  chat.SetPrompt(0, {std::vector<int32_t>(1000, a), ""});
  EXPECT_GE(chat.SizeOf(0, scores), 50'000u);
  chat.OnChunk(0, scores);
  chat.OnChunk(0, end);
  const size_t size = chat.WholeSize();
  EXPECT_GE(size, chat.Whole().size() / 2);
}

// As its end would show it.
TEST_F(OpenAiReplySizesTest, AReplyThatIsTooLargeKeepsNoMore) {
  max_bytes_ = 1000;
  const ReplyChunk end = Chunk({}, {End(0, EndReason::kLength)});
  OpenAiReply& text = Completion("");
  for (int i = 0; i < 9; ++i) text.OnChunk(0, Chunk({Delta(0, std::string(2000, 'a'), {})}));
  EXPECT_TRUE(text.too_large());
  EXPECT_LT(text.SizeOf(0, end), 3000u);
  OpenAiReply& logprobs = Completion(R"(,"logprobs":0)");
  logprobs.OnChunk(0, Chunk({Delta(0, "", std::vector<TokenResult>(999, Token(Id("a"), -1)))}));
  EXPECT_TRUE(logprobs.too_large());
  EXPECT_LT(logprobs.SizeOf(0, end), 3000u);
}

// Its log-probabilities, which come first, count once.
TEST_F(OpenAiReplySizesTest, AStreamMayShowAPromptAsLargeAsTheLimit) {
  const int32_t a = Id("a");
  const auto shown = [&] {
    OpenAiReply& reply = Completion(R"(,"stream":true,"echo":true,"logprobs":0)");
    reply.SetPrompt(0, {std::vector<int32_t>(100, a), std::string(100, 'a')});
    const PromptEvent scores{100, 0, std::vector<TokenResult>(99, Token(a, -1))};
    return reply.OnChunk(0, Chunk({Delta(0, "a", {Token(a, -1)})}, {}, scores));
  };
  const std::string events = shown();
  max_bytes_ = std::ssize(events);
  EXPECT_EQ(shown(), events);
  EXPECT_FALSE(reply_->too_large());
}

TEST_F(OpenAiReplySizesTest, AStreamEndsWhereItsPromptsPassTheLimit) {
  max_bytes_ = 4000;
  OpenAiReply& reply = Completion(R"(,"stream":true,"echo":true,"n":16)");
  reply.SetPrompt(0, {Ids("Hi"), std::string(500, '\t')});  // 1000 bytes of JSON
  ReplyChunk chunk;
  for (int32_t i = 0; i < 16; ++i) chunk.deltas.push_back(Delta(i, "a", {}));
  EXPECT_EQ(Events(reply.OnChunk(0, chunk)).size(), 4u);
  EXPECT_TRUE(reply.too_large());
}

}  // namespace
}  // namespace baram::server
