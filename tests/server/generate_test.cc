// The answers of Generate and GenerateOnce: text, tokens, ends, counts.
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <future>
#include <string>
#include <thread>

#include "server/text/utf8.h"
#include "tests/server/server_fixture.h"

namespace baram::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::StartsWith;

class GenerateTest : public ServerFixture {
 protected:
  void SetUp() override { StartServer(); }

  // kCycle repeated `times` times.
  static std::string Cycles(int times) {
    std::string text;
    for (int i = 0; i < times; ++i) text += TinyFolder::kCycle;
    return text;
  }
};

TEST_F(GenerateTest, StreamsEventsInOrder) {
  const Streamed got = Stream(TextRequest("hello", 5));
  ASSERT_TRUE(got.status.ok()) << got.status.error_message();
  ASSERT_GE(got.events.size(), 4u);
  EXPECT_TRUE(got.events.front().has_prompt());
  EXPECT_TRUE(got.events[got.events.size() - 2].has_finish());
  EXPECT_TRUE(got.events.back().has_usage());
  EXPECT_EQ(std::count_if(got.events.begin(), got.events.end(),
                          [](const auto& event) { return event.has_prompt(); }),
            1);
  EXPECT_EQ(got.Finish()->reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(got.Finish()->matched_case(), v1::Finish::MATCHED_NOT_SET);
  EXPECT_EQ(got.Usage()->completion_tokens(), 5u);
  EXPECT_EQ(got.Usage()->prompt_tokens(), got.Prompt()->prompt_tokens());
  EXPECT_GT(got.Usage()->first_token_s(), 0);
  EXPECT_GE(got.Usage()->total_s(), got.Usage()->first_token_s());
}

TEST_F(GenerateTest, KoreanAndEmojiComeWhole) {
  const int tokens = 20 * TinyFolder::kCycleTokens;
  const Streamed got = Stream(TextRequest("hello", tokens));
  ASSERT_TRUE(got.status.ok()) << got.status.error_message();
  EXPECT_EQ(got.Text(), Cycles(20));
  for (const std::string& piece : got.Pieces()) EXPECT_TRUE(text::IsValidUtf8(piece)) << piece;
}

// Clients that time tokens by their events see those without text too.
TEST_F(GenerateTest, ATokenWithoutTextMakesAnEmptyDelta) {
  v1::GenerateRequest request = TextRequest("hello", 1);
  (*request.mutable_sampling()->mutable_logit_bias())[TinyFolder::kEos] = 100;
  request.mutable_stopping()->set_ignore_eos(true);
  const Streamed got = Stream(request);
  ASSERT_TRUE(got.status.ok()) << got.status.error_message();
  ASSERT_EQ(got.events.size(), 4u);
  ASSERT_TRUE(got.events[1].has_delta());
  EXPECT_EQ(got.events[1].delta().ByteSizeLong(), 0u);
  EXPECT_TRUE(got.events[2].has_finish());
}

TEST_F(GenerateTest, StreamAndOnceAndDetokenizeAgree) {
  v1::GenerateRequest request = TextRequest("hello", 200);
  request.mutable_sampling()->set_temperature(1.5);  // partial characters, in any order
  request.mutable_sampling()->set_seed(11);
  request.mutable_output()->set_token_ids(true);
  request.mutable_stopping()->set_ignore_eos(true);
  const Streamed streamed = Stream(request);
  ASSERT_TRUE(streamed.status.ok()) << streamed.status.error_message();
  v1::GenerateOnceResponse once;
  ASSERT_TRUE(Once(request, &once).ok());
  ASSERT_EQ(once.outputs_size(), 1);
  EXPECT_EQ(streamed.Text(), once.outputs(0).text());
  EXPECT_EQ(streamed.TokenIds(), std::vector<uint32_t>(once.outputs(0).token_ids().begin(),
                                                       once.outputs(0).token_ids().end()));
  EXPECT_EQ(streamed.TokenIds().size(), 200u);
  EXPECT_EQ(once.usage().completion_tokens(), 200u);

  v1::DetokenizeRequest ids;
  ids.set_skip_special_tokens(true);
  *ids.mutable_token_ids() = once.outputs(0).token_ids();
  v1::DetokenizeResponse text;
  grpc::ClientContext context;
  ASSERT_TRUE(inference().Detokenize(&context, ids, &text).ok());
  EXPECT_EQ(text.text(), streamed.Text());
}

TEST_F(GenerateTest, StopStringAcrossTokensIsCutOrKept) {
  // "쫓 헐" is made of parts of six tokens; the text before it must arrive, its beginning must not.
  v1::GenerateRequest request = TextRequest("hello", 100);
  request.mutable_stopping()->add_stop("없는 말");
  request.mutable_stopping()->add_stop("쫓 헐");
  const Streamed cut = Stream(request);
  ASSERT_TRUE(cut.status.ok()) << cut.status.error_message();
  EXPECT_EQ(cut.Text(), "곬 낯 ");
  ASSERT_NE(cut.Finish(), nullptr);
  EXPECT_EQ(cut.Finish()->reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(cut.Finish()->stop(), "쫓 헐");
  EXPECT_LT(cut.Usage()->completion_tokens(), 11u);

  request.mutable_stopping()->set_include_stop(true);
  const Streamed kept = Stream(request);
  EXPECT_EQ(kept.Text(), "곬 낯 쫓 헐");
  EXPECT_EQ(kept.Usage()->completion_tokens(), cut.Usage()->completion_tokens());
}

TEST_F(GenerateTest, MinTokensHoldsStopStringsBack) {
  v1::GenerateRequest request = TextRequest("hello", 100);
  request.mutable_stopping()->add_stop("낯");
  request.mutable_stopping()->set_min_tokens(TinyFolder::kCycleTokens);
  const Streamed got = Stream(request);
  EXPECT_EQ(got.Text(), Cycles(1) + "곬 ");
  EXPECT_EQ(got.Finish()->stop(), "낯");
  // The token that completes the string must come after min_tokens.
  request.mutable_stopping()->clear_min_tokens();
  const uint32_t completing = Stream(request).Usage()->completion_tokens();
  request.mutable_stopping()->set_min_tokens(completing - 1);
  EXPECT_EQ(Stream(request).Text(), "곬 ");
  request.mutable_stopping()->set_min_tokens(completing);
  EXPECT_EQ(Stream(request).Text(), Cycles(1) + "곬 ");
}

TEST_F(GenerateTest, AHeldBackBeginningOfAStopComesAtTheEnd) {
  v1::GenerateRequest request = TextRequest("hello", TinyFolder::kCycleTokens);
  request.mutable_stopping()->add_stop("한국어");
  const Streamed got = Stream(request);
  EXPECT_EQ(got.Text(), Cycles(1));
  EXPECT_EQ(got.Finish()->reason(), v1::FINISH_REASON_LENGTH);
}

TEST_F(GenerateTest, EosAndStopIdsEndWithoutText) {
  v1::GenerateRequest request = TextRequest("hello", 50);
  (*request.mutable_sampling()->mutable_logit_bias())[TinyFolder::kEos] = 100;
  request.mutable_output()->set_token_ids(true);
  const Streamed eos = Stream(request);
  EXPECT_EQ(eos.Text(), "");
  EXPECT_THAT(eos.TokenIds(), ElementsAre(TinyFolder::kEos));
  EXPECT_EQ(eos.Finish()->reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(eos.Finish()->stop_token_id(), TinyFolder::kEos);
  EXPECT_EQ(eos.Usage()->completion_tokens(), 1u);

  request.mutable_stopping()->set_min_tokens(4);
  EXPECT_EQ(Stream(request).Usage()->completion_tokens(), 5u);
  request.mutable_stopping()->clear_min_tokens();
  request.mutable_stopping()->set_ignore_eos(true);
  EXPECT_EQ(Stream(request).Usage()->completion_tokens(), 50u);

  // The third token of the cycle as a stop id: the two before it have text.
  request = TextRequest("hello", 50);
  request.mutable_stopping()->add_stop_token_ids(305);
  const Streamed stopped = Stream(request);
  EXPECT_EQ(stopped.Text(), "곬");
  EXPECT_EQ(stopped.Finish()->stop_token_id(), 305u);
  EXPECT_EQ(stopped.Usage()->completion_tokens(), 3u);
}

// The head is padded beyond the tokenizer's vocabulary.
TEST_F(GenerateTest, AnIdWithoutATokenIsNeverDrawn) {
  v1::GenerateRequest request = TextRequest("hello", TinyFolder::kCycleTokens);
  (*request.mutable_sampling()->mutable_logit_bias())[TinyFolder::kVocabSize - 1] = 100;
  EXPECT_EQ(Stream(request).Text(), Cycles(1));
}

TEST_F(GenerateTest, SeveralOutputsEachWithItsEnd) {
  v1::GenerateRequest request = TextRequest("hello", 40);
  request.mutable_sampling()->set_temperature(1.5);
  request.mutable_sampling()->set_seed(3);
  request.mutable_sampling()->set_n(4);
  const Streamed got = Stream(request);
  ASSERT_TRUE(got.status.ok()) << got.status.error_message();
  for (uint32_t i = 0; i < 4; ++i) {
    EXPECT_NE(got.Finish(i), nullptr);
    EXPECT_FALSE(got.Text(i).empty());
  }
  EXPECT_NE(got.Text(0), got.Text(1));
  v1::GenerateOnceResponse once;
  ASSERT_TRUE(Once(request, &once).ok());
  ASSERT_EQ(once.outputs_size(), 4);
  for (uint32_t i = 0; i < 4; ++i) EXPECT_EQ(once.outputs(static_cast<int>(i)).text(), got.Text(i));
}

TEST_F(GenerateTest, SeedsRepeatAndDrawnSeedsDiffer) {
  v1::GenerateRequest request = TextRequest("hello", 60);
  request.mutable_sampling()->set_temperature(1.5);
  for (const uint64_t seed : {5, 0}) {
    request.mutable_sampling()->set_seed(seed);
    EXPECT_EQ(Stream(request).Text(), Stream(request).Text());
  }
  request.mutable_sampling()->clear_seed();
  EXPECT_NE(Stream(request).Text(), Stream(request).Text());
}

// The greedy answer repeats until its tokens have been generated too often. One penalty that is
// constant for a generated token does not suffice, two do.
TEST_F(GenerateTest, EachPenaltyIsItsOwn) {
  constexpr int kTimes = 10;
  const auto text = [&](float presence, float frequency, float repetition) {
    v1::GenerateRequest request = TextRequest("hello", kTimes * TinyFolder::kCycleTokens);
    request.mutable_sampling()->set_presence_penalty(presence);
    request.mutable_sampling()->set_frequency_penalty(frequency);
    request.mutable_sampling()->set_repetition_penalty(repetition);
    request.mutable_stopping()->set_ignore_eos(true);
    return Stream(request).Text();
  };
  EXPECT_EQ(text(0, 0, 1), Cycles(kTimes));
  EXPECT_EQ(text(2, 0, 1), Cycles(kTimes));
  EXPECT_NE(text(0, 2, 1), Cycles(kTimes));
  EXPECT_NE(text(2, 2, 1), text(0, 2, 1));
  EXPECT_EQ(text(0, 0, 2), Cycles(kTimes));
  EXPECT_NE(text(2, 0, 2), Cycles(kTimes));
}

// At temperature 2 the greedy token is drawn about once in eight times, so an answer is the greedy
// one only if something else leaves no other token.
TEST_F(GenerateTest, EachTruncationLeavesTheLikeliestTokenAlone) {
  constexpr int kTimes = 3;
  const auto text = [&](const std::function<void(v1::Sampling&)>& change) {
    v1::GenerateRequest request = TextRequest("hello", kTimes * TinyFolder::kCycleTokens);
    request.mutable_sampling()->set_temperature(2);
    request.mutable_sampling()->set_seed(1);
    request.mutable_stopping()->set_ignore_eos(true);
    change(*request.mutable_sampling());
    return Stream(request).Text();
  };
  EXPECT_NE(text([](auto&) {}), Cycles(kTimes));
  EXPECT_EQ(text([](auto& sampling) { sampling.set_top_k(1); }), Cycles(kTimes));
  EXPECT_EQ(text([](auto& sampling) { sampling.set_top_p(0.01f); }), Cycles(kTimes));
  EXPECT_EQ(text([](auto& sampling) { sampling.set_min_p(1); }), Cycles(kTimes));
}

// A request's own values take precedence. Without the folder's defaults the temperature is 1.
TEST_F(GenerateTest, TheFoldersSamplingDefaultsCountUnlessTurnedOff) {
  constexpr int kTimes = 3;
  struct Row {
    std::string file;
    bool greedy;                             // whether the file makes the answer the greedy one
    std::function<void(v1::Sampling&)> own;  // overrides that
  };
  const TinyFolder model;
  const auto starts = [&](const char* generation_config) {
    StartServer([&](server::Config& config) {
      config.model = model.path();
      config.generation_config = generation_config;
    });
  };
  const auto is_greedy = [&](const std::function<void(v1::Sampling&)>& change = {}) {
    v1::GenerateRequest request = TextRequest("hello", kTimes * TinyFolder::kCycleTokens);
    request.mutable_sampling()->clear_temperature();
    request.mutable_sampling()->set_seed(1);
    request.mutable_stopping()->set_ignore_eos(true);
    if (change) change(*request.mutable_sampling());
    return Stream(request).Text() == Cycles(kTimes);
  };
  for (const Row& row : {
           Row{R"({"temperature":0})", true, [](auto& s) { s.set_temperature(2); }},
           Row{R"({"temperature":2,"top_k":1})", true, [](auto& s) { s.set_top_k(0); }},
           Row{R"({"temperature":2,"top_p":0.01})", true, [](auto& s) { s.set_top_p(1); }},
           Row{R"({"temperature":2,"min_p":1})", true, [](auto& s) { s.set_min_p(0); }},
           Row{R"({"temperature":0,"repetition_penalty":100})", false,
               [](auto& s) { s.set_repetition_penalty(1); }},
       }) {
    std::ofstream(model.path() + "/generation_config.json") << row.file;
    starts("auto");
    EXPECT_EQ(is_greedy(), row.greedy) << row.file;
    EXPECT_EQ(is_greedy(row.own), !row.greedy) << row.file;
    starts("none");
    EXPECT_FALSE(is_greedy()) << row.file;
  }
}

TEST_F(GenerateTest, AMoreUrgentRequestGoesFirst) {
  StartServer([](server::Config& config) {
    config.max_num_seqs = 1;
    config.min_priority = -1;
  });
  v1::GenerateRequest lasting = TextRequest("hello", 400);
  lasting.mutable_sampling()->set_n(8);
  grpc::ClientContext context;
  const auto reader = inference().Generate(&context, lasting);
  v1::GenerateResponse event;
  ASSERT_TRUE(reader->Read(&event));  // it is running
  v1::GenerateRequest urgent = TextRequest("hello", 2);
  urgent.set_priority(-1);
  EXPECT_TRUE(Stream(urgent).status.ok());
  EXPECT_GE(server().engine().stats().preemptions.value(), 1u);
  context.TryCancel();
  while (reader->Read(&event)) continue;
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(GenerateTest, APriorityIsAsUrgentAsTheOperatorAllows) {
  v1::GenerateRequest request = TextRequest("hello", 2);
  request.set_priority(INT32_MAX);
  EXPECT_TRUE(Stream(request).status.ok());
  request.set_priority(-1);
  const grpc::Status refused = Stream(request).status;
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(refused.error_message(),
            "priority is -1 but must be at least 0, this server's --min-priority.");
  StartServer([](server::Config& config) { config.min_priority = -2; });
  request.set_priority(-2);
  EXPECT_TRUE(Stream(request).status.ok());
  request.set_priority(-3);
  EXPECT_EQ(Stream(request).status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

// Including the time before a request's text was read.
TEST_F(GenerateTest, TimesCountFromTheCallsArrival) {
  StartServer([](server::Config& config) { config.text_threads = 1; });
  std::promise<void> held;
  HoldTextPool(held.get_future());
  std::future<Streamed> got =
      std::async(std::launch::async, [this] { return Stream(TextRequest("hello", 2)); });
  std::this_thread::sleep_for(std::chrono::seconds(1));
  held.set_value();
  const Streamed streamed = got.get();
  ASSERT_TRUE(streamed.status.ok()) << streamed.status.error_message();
  EXPECT_GT(streamed.Usage()->queued_s(), 0.5);
}

TEST_F(GenerateTest, LogProbabilities) {
  v1::GenerateRequest request = TextRequest("hello", 3);
  request.mutable_output()->set_logprobs(2);
  request.mutable_output()->set_prompt_logprobs(0);
  const Streamed got = Stream(request);
  ASSERT_TRUE(got.status.ok()) << got.status.error_message();
  EXPECT_EQ(got.Prompt()->logprobs_size(), static_cast<int>(got.Prompt()->prompt_tokens()) - 1);
  for (const auto& score : got.Prompt()->logprobs()) {
    EXPECT_LT(score.logprob(), 0);
    EXPECT_GE(score.rank(), 1u);
    EXPECT_EQ(score.top_size(), 0);
  }
  int tokens = 0;
  for (const auto& event : got.events) {
    for (const auto& token : event.delta().logprobs()) {
      ++tokens;
      EXPECT_EQ(token.rank(), 1u);  // greedy
      ASSERT_EQ(token.top_size(), 2);
      EXPECT_EQ(token.top(0).token_id(), token.token_id());
      EXPECT_EQ(token.top(0).logprob(), token.logprob());
      EXPECT_GE(token.top(0).logprob(), token.top(1).logprob());
      EXPECT_FALSE(token.token().empty());
    }
  }
  EXPECT_EQ(tokens, 3);
}

// The prompt's and the output's alternatives are separate numbers.
TEST_F(GenerateTest, LogProbabilitiesOfThePromptAlone) {
  v1::GenerateRequest request = TextRequest("hello", 3);
  request.mutable_output()->set_prompt_logprobs(3);
  for (const bool both : {false, true}) {
    if (both) request.mutable_output()->set_logprobs(1);
    const Streamed got = Stream(request);
    ASSERT_TRUE(got.status.ok()) << got.status.error_message();
    ASSERT_EQ(got.Prompt()->logprobs_size(), static_cast<int>(got.Prompt()->prompt_tokens()) - 1);
    for (const auto& score : got.Prompt()->logprobs()) EXPECT_EQ(score.top_size(), 3);
    int tokens = 0;
    for (const auto& event : got.events) {
      for (const auto& token : event.delta().logprobs()) {
        ++tokens;
        EXPECT_EQ(token.top_size(), 1);
      }
    }
    EXPECT_EQ(tokens, both ? 3 : 0);
  }
}

TEST_F(GenerateTest, ChatUsesTheTemplateAndRenderChatShowsIt) {
  v1::RenderChatRequest render;
  v1::Message* message = render.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("안녕");
  v1::RenderChatResponse rendered;
  grpc::ClientContext context;
  ASSERT_TRUE(inference().RenderChat(&context, render, &rendered).ok());
  EXPECT_EQ(rendered.text(), "<|im_start|>user\n안녕<|im_end|>\n<|im_start|>assistant\n");

  v1::GenerateRequest request = TextRequest("", 2);
  *request.mutable_chat() = render.chat();
  request.mutable_output()->set_token_ids(true);
  const Streamed got = Stream(request);
  ASSERT_TRUE(got.status.ok()) << got.status.error_message();
  EXPECT_TRUE(std::equal(rendered.token_ids().begin(), rendered.token_ids().end(),
                         got.Prompt()->token_ids().begin(), got.Prompt()->token_ids().end()));
}

TEST_F(GenerateTest, TruncationKeepsTheEndOfThePrompt) {
  v1::GenerateRequest request = TextRequest("", 2);
  for (const uint32_t id : {10, 11, 12, 13}) request.mutable_token_ids()->add_ids(id);
  request.set_truncate_prompt_tokens(2);
  request.mutable_output()->set_token_ids(true);
  const Streamed got = Stream(request);
  EXPECT_THAT(got.Prompt()->token_ids(), ElementsAre(12, 13));
}

TEST_F(GenerateTest, RequestIdIsTakenAndEchoed) {
  v1::GenerateRequest request = TextRequest("hello", 2);
  {
    grpc::ClientContext context;
    context.AddMetadata("x-request-id", "from-metadata");
    EXPECT_EQ(Stream(request, context).Prompt()->request_id(), "from-metadata");
    const auto& headers = context.GetServerInitialMetadata();
    const auto found = headers.find("x-request-id");
    ASSERT_NE(found, headers.end());
    EXPECT_EQ(std::string(found->second.data(), found->second.size()), "from-metadata");
  }
  request.set_request_id("from-field");
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "from-metadata");
  EXPECT_EQ(Stream(request, context).Prompt()->request_id(), "from-field");
  request.clear_request_id();
  EXPECT_FALSE(Stream(request).Prompt()->request_id().empty());
}

// As over HTTP: a proxy wrote it, and the client can't fix it.
TEST_F(GenerateTest, MetadataThatIsNoRequestIdIsReplaced) {
  for (const std::string& none : {std::string("two words"), std::string(129, 'a')}) {
    grpc::ClientContext context;
    context.AddMetadata("x-request-id", none);
    const Streamed got = Stream(TextRequest("hello", 2), context);
    ASSERT_TRUE(got.status.ok()) << got.status.error_message();
    EXPECT_THAT(got.Prompt()->request_id(), StartsWith("req-"));
    const auto& headers = context.GetServerInitialMetadata();
    const auto found = headers.find("x-request-id");
    ASSERT_NE(found, headers.end());
    EXPECT_EQ(std::string(found->second.data(), found->second.size()), got.Prompt()->request_id());
  }
}

TEST_F(GenerateTest, ASecondPromptFindsItsPrefixCachedUnlessTold) {
  std::string prompt;
  for (int i = 0; i < 60; ++i) prompt += "hello ";
  v1::GenerateRequest request = TextRequest(prompt, 2);
  EXPECT_EQ(Stream(request).Usage()->cached_tokens(), 0u);
  EXPECT_GT(Stream(request).Usage()->cached_tokens(), 0u);
  request.mutable_cache()->set_salt("another");
  EXPECT_EQ(Stream(request).Usage()->cached_tokens(), 0u);
  request.mutable_cache()->clear_salt();
  request.mutable_cache()->set_read(false);
  EXPECT_EQ(Stream(request).Usage()->cached_tokens(), 0u);
}

}  // namespace
}  // namespace baram::testing
