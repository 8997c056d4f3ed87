// Replies larger than what a gRPC client accepts by default: split, or refused with a sentence.
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "server/grpc_reply.h"
#include "server/text/utf8.h"
#include "tests/server/grpc_detail.h"
#include "tests/server/server_fixture.h"

namespace baram::testing {
namespace {

using ::testing::HasSubstr;

constexpr int kLongContext = 20480, kLongPrompt = 14000;
// What a client accepts by default.
constexpr size_t kClientBytes = 4 << 20;

class GrpcSizesTest : public ServerFixture {
 protected:
  void StartLong(int64_t max_reply_bytes = server::Config{}.max_reply_bytes) {
    StartServer([&](server::Config& config) {
      config.model = long_folder_.path();
      config.device = "cpu";
      config.max_reply_bytes = max_reply_bytes;
    });
  }

  // `tokens` ids with the log-probabilities of each and its 20 alternatives.
  static v1::GenerateRequest Scored(int tokens) {
    v1::GenerateRequest request = TextRequest("", 1);
    for (int i = 0; i < tokens; ++i) request.mutable_token_ids()->add_ids(i % 700);
    request.mutable_output()->set_prompt_logprobs(20);
    request.mutable_output()->set_token_ids(true);
    return request;
  }

  TinyFolder long_folder_{kLongContext};
};

TEST_F(GrpcSizesTest, ALongPromptsScoresComeInSeveralMessages) {
  StartLong();
  const v1::GenerateRequest request = Scored(kLongPrompt);
  const Streamed got = Stream(request);
  ASSERT_TRUE(got.status.ok()) << got.status.error_message();
  v1::PromptInfo whole;
  bool prompt_over = false;
  for (const v1::GenerateResponse& event : got.events) {
    EXPECT_LT(event.ByteSizeLong(), kClientBytes / 2);
    prompt_over |= !event.has_prompt();
    if (!event.has_prompt()) continue;
    EXPECT_FALSE(prompt_over) << "what belongs to the prompt comes first";
    const bool first = whole.prompt_tokens() == 0;
    EXPECT_EQ(event.prompt().prompt_tokens(), first ? uint32_t{kLongPrompt} : 0u);
    EXPECT_EQ(event.prompt().request_id().empty(), !first);
    whole.MergeFrom(event.prompt());
  }
  EXPECT_GT(whole.ByteSizeLong(), kClientBytes);  // it would not have arrived in one message
  ASSERT_EQ(whole.logprobs_size(), kLongPrompt - 1);
  ASSERT_EQ(whole.token_ids_size(), kLongPrompt);
  for (int i = 0; i < kLongPrompt; ++i) {
    ASSERT_EQ(whole.token_ids(i), request.token_ids().ids(i));
    if (i == 0) continue;  // has no score
    ASSERT_EQ(whole.logprobs(i - 1).token_id(), whole.token_ids(i));
    ASSERT_EQ(whole.logprobs(i - 1).top_size(), 20);
  }
  EXPECT_EQ(got.Usage()->completion_tokens(), 1u);
}

// Sending a chunk's messages one by one takes longer than a client may read nothing.
TEST_F(GrpcSizesTest, AReaderOfALargeReplyWhoGoesOnIsNotSlow) {
  StartServer([&](server::Config& config) {
    config.model = long_folder_.path();
    config.device = "cpu";
    config.slow_reader_s = 2;
  });
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // keeps the flow-control window small
  const auto stub = v1::Inference::NewStub(NewChannel(arguments));
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, Scored(kLongPrompt));
  int scores = 0;
  for (v1::GenerateResponse event; reader->Read(&event);) {
    scores += event.prompt().logprobs_size();
    if (event.has_prompt()) std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  const grpc::Status status = reader->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(scores, kLongPrompt - 1);
}

TEST_F(GrpcSizesTest, OneReplyRefusesScoresThatCantFit) {
  StartLong();
  v1::GenerateOnceResponse once;
  const grpc::Status refused = Once(Scored(kLongContext - 1), &once);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.error_message(), HasSubstr("20479 tokens"));
  EXPECT_THAT(refused.error_message(), HasSubstr("4194304 bytes"));
  EXPECT_THAT(refused.error_message(), HasSubstr("use Generate"));
  EXPECT_TRUE(Once(Scored(1000), &once).ok());
  EXPECT_EQ(once.prompt().logprobs_size(), 999);
  EXPECT_EQ(once.prompt().token_ids_size(), 1000);
  // Log-probabilities without alternatives take space too.
  StartLong(/*max_reply_bytes=*/20'000);
  v1::GenerateRequest bare = Scored(2000);
  bare.mutable_output()->set_prompt_logprobs(0);
  EXPECT_EQ(Once(bare, &once).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(GrpcSizesTest, AReplyThatOutgrowsOneMessageEnds) {
  StartServer([](server::Config& config) {
    config.max_reply_bytes = 20'000;
    config.stream_tokens = 16;  // the engine is not far ahead
  });
  v1::GenerateRequest request = TextRequest("hello", 400);
  request.mutable_output()->set_logprobs(20);
  request.mutable_stopping()->set_ignore_eos(true);
  v1::GenerateOnceResponse once;
  const grpc::Status status = Once(request, &once);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("20000 bytes"));
  EXPECT_EQ(Reason(status), "REPLY_TOO_LARGE");
  AwaitIdle();
  EXPECT_LT(server().engine().stats().generated_tokens.value(), 300u);
  EXPECT_EQ(Stream(request).Usage()->completion_tokens(), 400u);
  request.mutable_stopping()->set_max_tokens(20);
  EXPECT_TRUE(Once(request, &once).ok());

  v1::TokenizeRequest tokenize;
  tokenize.set_text(std::string(20'000, '?'));
  v1::TokenizeResponse tokens;
  grpc::ClientContext context;
  const grpc::Status too_large = inference().Tokenize(&context, tokenize, &tokens);
  EXPECT_EQ(Reason(too_large), "REPLY_TOO_LARGE");
  EXPECT_THAT(too_large.error_message(), HasSubstr("; send less in one request."));
}

// What counts is the size of the reply, not of the pieces it came in.
TEST_F(GrpcSizesTest, AReplyOfExactlyTheLimitFits) {
  v1::GenerateRequest request = TextRequest("hello", 400);
  request.mutable_stopping()->set_ignore_eos(true);
  v1::GenerateOnceResponse once;
  StartServer();
  ASSERT_TRUE(Once(request, &once).ok());
  const auto bytes = static_cast<int64_t>(once.ByteSizeLong());
  StartServer([&](server::Config& config) { config.max_reply_bytes = bytes; });
  const grpc::Status fits = Once(request, &once);
  EXPECT_TRUE(fits.ok()) << fits.error_message();
  StartServer([&](server::Config& config) { config.max_reply_bytes = bytes - 1; });
  EXPECT_EQ(Reason(Once(request, &once)), "REPLY_TOO_LARGE");
}

// Deltas accumulate for a slow reader up to --stream-tokens and --stream-bytes.
TEST_F(GrpcSizesTest, ALargeDeltaIsSplitAtCharacters) {
  StartServer();
  v1::Output output;
  output.set_token_ids(true);
  output.set_logprobs(20);
  const auto tokenizer = text::Tokenizer::Load(folder());
  ASSERT_TRUE(tokenizer.ok());
  const server::EventWriter writer(**tokenizer, output);
  server::ReplyChunk chunk;
  server::DeltaEvent delta;
  delta.index = 1;
  for (int i = 0; i < 1'500'000; ++i) delta.text += "한";
  for (int32_t i = 0; i < 9000; ++i) {
    TokenResult token;
    token.token = i % 700;
    token.top_count = 20;
    for (int32_t j = 0; j < 20; ++j) token.top_ids[j] = j;
    delta.tokens.push_back(token);
  }
  const std::string text = delta.text;
  chunk.deltas = {server::DeltaEvent{}, std::move(delta)};  // the first has nothing to send
  chunk.ends.push_back({.index = 1, .stop_string = {}});
  chunk.usage.emplace();
  const std::string id = "id";
  const std::vector<int32_t> prompt;
  server::ChunkMessages messages(writer, std::move(chunk), id, prompt);
  std::vector<v1::GenerateResponse> all;
  for (v1::GenerateResponse message; messages.Next(&message); message.Clear()) {
    EXPECT_LT(message.ByteSizeLong(), kClientBytes / 2);
    all.push_back(message);
  }
  v1::GenerateResponse after;
  EXPECT_FALSE(messages.Next(&after));
  ASSERT_GT(all.size(), 6u);
  EXPECT_TRUE(all.back().has_usage());
  EXPECT_TRUE(all[all.size() - 2].has_finish());
  std::string joined;
  std::vector<uint32_t> ids;
  for (size_t i = 0; i + 2 < all.size(); ++i) {
    ASSERT_TRUE(all[i].has_delta());
    EXPECT_EQ(all[i].delta().index(), 1u);
    EXPECT_TRUE(text::IsValidUtf8(all[i].delta().text()));
    EXPECT_TRUE(joined.empty() || all[i].delta().token_ids().empty()) << "tokens come first";
    EXPECT_EQ(all[i].delta().token_ids_size(), all[i].delta().logprobs_size());
    joined += all[i].delta().text();
    ids.insert(ids.end(), all[i].delta().token_ids().begin(), all[i].delta().token_ids().end());
  }
  EXPECT_EQ(joined, text);
  ASSERT_EQ(ids.size(), 9000u);
  for (size_t i = 0; i < ids.size(); ++i) ASSERT_EQ(ids[i], i % 700);
}

}  // namespace
}  // namespace baram::testing
