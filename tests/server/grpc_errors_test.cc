// Invalid input over gRPC: each row is a request, with the code and the field of its refusal.
#include <gmock/gmock.h>

#include <fstream>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "server/errors.h"
#include "server/prompt_reader.h"
#include "server/text/utf8.h"
#include "tests/server/grpc_detail.h"
#include "tests/server/server_fixture.h"

namespace baram::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

struct BadRow {
  const char* field;  // "" if none is named
  std::function<void(v1::GenerateRequest&)> spoil;
  grpc::StatusCode code = grpc::StatusCode::INVALID_ARGUMENT;
};

std::vector<BadRow> BadRows() {
  using Request = v1::GenerateRequest;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto sampling = [](auto set) { return [set](Request& r) { set(*r.mutable_sampling()); }; };
  const auto stopping = [](auto set) { return [set](Request& r) { set(*r.mutable_stopping()); }; };
  return {
      {"sampling.temperature", sampling([](auto& s) { s.set_temperature(2.1f); })},
      {"sampling.temperature", sampling([](auto& s) { s.set_temperature(-0.1f); })},
      {"sampling.temperature", sampling([nan](auto& s) { s.set_temperature(nan); })},
      {"sampling.top_p", sampling([](auto& s) { s.set_top_p(-0.01f); })},
      {"sampling.top_p", sampling([](auto& s) { s.set_top_p(1.01f); })},
      {"sampling.min_p", sampling([](auto& s) { s.set_min_p(-1); })},
      {"sampling.repetition_penalty", sampling([](auto& s) { s.set_repetition_penalty(0); })},
      {"sampling.presence_penalty", sampling([](auto& s) { s.set_presence_penalty(3); })},
      {"sampling.frequency_penalty", sampling([](auto& s) { s.set_frequency_penalty(-3); })},
      {"sampling.n", sampling([](auto& s) { s.set_n(0); })},
      {"sampling.n", sampling([](auto& s) { s.set_n(17); })},
      {"sampling.logit_bias", sampling([](auto& s) { (*s.mutable_logit_bias())[720] = 1; })},
      {"sampling.logit_bias", sampling([](auto& s) { (*s.mutable_logit_bias())[1] = 101; })},
      {"sampling.logit_bias", sampling([](auto& s) {
         for (uint32_t id = 0; id < 301; ++id) (*s.mutable_logit_bias())[id] = 1;
       })},
      {"stopping.max_tokens", stopping([](auto& s) { s.set_max_tokens(0); })},
      {"stopping.max_tokens", stopping([](auto& s) { s.set_max_tokens(512); })},
      {"stopping.min_tokens", stopping([](auto& s) { s.set_min_tokens(9); })},
      {"stopping.stop", stopping([](auto& s) { s.add_stop(""); })},
      {"stopping.stop", stopping([](auto& s) { s.add_stop(std::string(257, 'a')); })},
      {"stopping.stop", stopping([](auto& s) {
         for (int i = 0; i < 17; ++i) s.add_stop("x");
       })},
      {"stopping.stop_token_ids", stopping([](auto& s) { s.add_stop_token_ids(720); })},
      {"stopping.stop_token_ids", stopping([](auto& s) {
         for (int i = 0; i < 33; ++i) s.add_stop_token_ids(1);
       })},
      {"output.logprobs", [](Request& r) { r.mutable_output()->set_logprobs(21); }},
      {"output.prompt_logprobs", [](Request& r) { r.mutable_output()->set_prompt_logprobs(21); }},
      {"cache.salt", [](Request& r) { r.mutable_cache()->set_salt(std::string(129, 's')); }},
      {"request_id", [](Request& r) { r.set_request_id("no spaces"); }},
      {"request_id", [](Request& r) { r.set_request_id(std::string(129, 'i')); }},
      {"metadata", [](Request& r) { (*r.mutable_metadata())["k"] = std::string(257, 'v'); }},
      {"truncate_prompt_tokens", [](Request& r) { r.set_truncate_prompt_tokens(0); }},
      {"prompt", [](Request& r) { r.clear_prompt(); }},
      {"text", [](Request& r) { r.set_text(""); }},
      {"token_ids", [](Request& r) { r.mutable_token_ids(); }},
      {"token_ids", [](Request& r) { r.mutable_token_ids()->add_ids(720); }},
      {"token_ids", [](Request& r) { r.mutable_token_ids()->add_ids(0xFFFFFFFFu); }},
      {"chat.messages", [](Request& r) { r.mutable_chat(); }},
      {"chat.template_arguments_json",
       [](Request& r) {
         r.mutable_chat()->add_messages()->set_role("user");
         r.mutable_chat()->set_template_arguments_json("{not json");
       }},
      {"chat.continue_final_message",
       [](Request& r) {
         r.mutable_chat()->add_messages()->set_role("user");
         r.mutable_chat()->set_add_generation_prompt(true);
         r.mutable_chat()->set_continue_final_message(true);
       }},
      {"model", [](Request& r) { r.set_model("gpt-9"); }, grpc::StatusCode::NOT_FOUND},
  };
}

class GrpcErrorsTest : public ServerFixture {
 protected:
  void SetUp() override { StartServer(); }
};

TEST_F(GrpcErrorsTest, EveryBadFieldIsNamedAndNothingElseDisturbed) {
  int row_number = 0;
  for (const BadRow& row : BadRows()) {
    SCOPED_TRACE("row " + std::to_string(row_number++) + ": " + row.field);
    v1::GenerateRequest request = TextRequest("hello", 8);
    row.spoil(request);
    const Streamed streamed = Stream(request);
    EXPECT_EQ(streamed.status.error_code(), row.code) << streamed.status.error_message();
    EXPECT_TRUE(streamed.events.empty());
    const auto bad = Detail<google::rpc::BadRequest>(streamed.status);
    ASSERT_TRUE(bad.has_value());
    ASSERT_EQ(bad->field_violations_size(), 1);
    EXPECT_EQ(bad->field_violations(0).field(), row.field);
    EXPECT_FALSE(streamed.status.error_message().empty());
    EXPECT_FALSE(Detail<google::rpc::RetryInfo>(streamed.status).has_value());

    v1::GenerateOnceResponse once;
    const grpc::Status status = Once(request, &once);
    EXPECT_EQ(status.error_code(), row.code);
    EXPECT_EQ(status.error_message(), streamed.status.error_message());
  }
  EXPECT_TRUE(Stream(TextRequest("hello", 8)).status.ok());
}

// Also beyond the range in which ids are kept.
TEST_F(GrpcErrorsTest, AnIdOutsideOfTheVocabularyIsNamed) {
  for (const uint32_t id : {720u, 0x7FFFFFFFu, 0x80000000u, 0xFFFFFFFFu}) {
    v1::GenerateRequest request;
    request.mutable_token_ids()->add_ids(id);
    EXPECT_EQ(
        Stream(request).status.error_message(),
        "token_ids holds the token id " + std::to_string(id) + " but the vocabulary ends at 719.");
  }
}

TEST_F(GrpcErrorsTest, TemplateArgumentsAreMeasuredBeforeTheyAreParsed) {
  v1::GenerateRequest request = TextRequest("", 1);
  request.mutable_chat()->add_messages()->set_role("user");
  request.mutable_chat()->set_template_arguments_json(std::string(100'000, '['));
  EXPECT_EQ(Stream(request).status.error_message(),
            "The template's arguments have 100000 bytes, but at most 65536 are allowed.");
  request.mutable_chat()->set_template_arguments_json("[1]");
  EXPECT_EQ(Stream(request).status.error_message(),
            "chat.template_arguments_json must be a JSON object, as in "
            "{\"enable_thinking\": false}. It must be a JSON object.");
}

TEST_F(GrpcErrorsTest, APromptPastTheContextSaysHowLongItMayBe) {
  v1::GenerateRequest request = TextRequest("", 1);
  for (int i = 0; i < TinyFolder::kMaxModelLen; ++i) request.mutable_token_ids()->add_ids(5);
  const Streamed got = Stream(request);
  EXPECT_EQ(got.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(got.status.error_message(),
              StartsWith("This model's maximum context length is 512 tokens"));
}

TEST_F(GrpcErrorsTest, TheDefaultOfMaxTokensFillsTheContext) {
  v1::GenerateRequest request = TextRequest("", 1);
  for (int i = 0; i < 500; ++i) request.mutable_token_ids()->add_ids(5);
  request.mutable_stopping()->clear_max_tokens();
  EXPECT_EQ(Stream(request).Usage()->completion_tokens(), 12u);
}

TEST_F(GrpcErrorsTest, InvalidUtf8NeverReachesTheModel) {
  // Protobuf refuses to parse such a string; a C++ client only warns when it writes one.
  const Streamed got = Stream(TextRequest("\xff\xfe", 4));
  EXPECT_FALSE(got.status.ok());
  EXPECT_TRUE(got.events.empty());
}

// Whatever a client wrote, its error fits into the trailers that gRPC clients accept.
TEST_F(GrpcErrorsTest, LongWordsComeBackCut) {
  v1::GenerateRequest request = TextRequest("hello", 1);
  std::string name;
  for (int i = 0; i < 50'000; ++i) name += "한";
  request.set_model(name);
  const Streamed unknown = Stream(request);
  EXPECT_EQ(unknown.status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_LT(unknown.status.error_message().size(), 400u);
  EXPECT_TRUE(text::IsValidUtf8(unknown.status.error_message()));
}

TEST_F(GrpcErrorsTest, ServedNamesAreAllKnown) {
  for (const char* name : {"", "tiny", "tiny-alias"}) {
    v1::GenerateRequest request = TextRequest("hello", 1);
    request.set_model(name);
    EXPECT_TRUE(Stream(request).status.ok()) << name;
  }
}

TEST_F(GrpcErrorsTest, OtherCallsCheckTheirFieldsToo) {
  {
    grpc::ClientContext context;
    v1::TokenizeRequest request;
    request.set_model("gpt-9");
    v1::TokenizeResponse response;
    EXPECT_EQ(inference().Tokenize(&context, request, &response).error_code(),
              grpc::StatusCode::NOT_FOUND);
  }
  {
    grpc::ClientContext context;
    v1::DetokenizeRequest request;
    request.add_token_ids(720);
    v1::DetokenizeResponse response;
    const grpc::Status status = inference().Detokenize(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr("720"));
  }
  {
    grpc::ClientContext context;
    v1::AbortResponse response;
    EXPECT_EQ(inference().Abort(&context, {}, &response).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
  }
  {
    grpc::ClientContext context;
    v1::DrainRequest request;
    request.set_limit_s(-1);
    v1::DrainResponse response;
    EXPECT_EQ(operation().Drain(&context, request, &response).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
  }
}

TEST_F(GrpcErrorsTest, AChatThatIsTooLongIsTheChats) {
  StartServer([](server::Config& config) { config.max_prompt_bytes = 10; });
  grpc::ClientContext context;
  v1::RenderChatRequest request;
  v1::Message* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("longer than that");
  v1::RenderChatResponse response;
  const auto bad =
      Detail<google::rpc::BadRequest>(inference().RenderChat(&context, request, &response));
  ASSERT_TRUE(bad.has_value());
  EXPECT_EQ(bad->field_violations(0).field(), "chat");
}

// A folder may name one that is outside its vocabulary: no request uses it.
TEST_F(GrpcErrorsTest, AnEosIdOutsideTheVocabularyIsIgnored) {
  const TinyFolder folder;
  std::ofstream(folder.path() + "/generation_config.json") << R"({"eos_token_id":9999})";
  StartServer([&](server::Config& config) { config.model = folder.path(); });
  const Streamed got = Stream(TextRequest("hello", 8));
  EXPECT_TRUE(got.status.ok()) << got.status.error_message();
}

TEST(TextErrors, WhatFailsHereIsNotTheClients) {
  const absl::Status theirs =
      server::PromptReader::OfText("text", absl::InvalidArgumentError("Empty."));
  EXPECT_TRUE(absl::IsInvalidArgument(theirs));
  EXPECT_EQ(theirs.message(), "Empty.");
  EXPECT_EQ(server::FactsOf(theirs).field, "text");
  const absl::Status ours =
      server::PromptReader::OfText("text", absl::InternalError("failed at x.rs:3"));
  EXPECT_TRUE(absl::IsInternal(ours));
  EXPECT_EQ(server::FactsOf(ours).reason, "INTERNAL");
  EXPECT_EQ(server::FactsOf(ours).field, "");
  EXPECT_THAT(std::string(ours.message()), Not(HasSubstr("x.rs")));
  EXPECT_THAT(std::string(ours.message()), HasSubstr("under req-"));
}

TEST_F(GrpcErrorsTest, OversizeMessagesAreRefused) {
  const Streamed got = Stream(TextRequest(std::string(9 << 20, 'a'), 1));
  EXPECT_EQ(got.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  const Streamed large = Stream(TextRequest(std::string((4 << 20) + 1, 'a'), 1));
  EXPECT_EQ(large.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(GrpcErrorsTest, APassedDeadlineIsRefused) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() - std::chrono::seconds(1));
  EXPECT_EQ(Stream(TextRequest("hello", 4), context).status.error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
}

}  // namespace
}  // namespace baram::testing
