// OpenAI's errors: shape, status, names of fields.
#include "server/openai_errors.h"

#include <gtest/gtest.h>

#include <string_view>

#include "server/json_fields.h"

namespace baram::server {
namespace {

TEST(OpenAiErrorTest, HasItsShape) {
  EXPECT_EQ(OpenAiError(400, "no \"x\"", "x"),
            R"({"error":{"message":"no \"x\"","type":"BadRequestError","param":"x","code":400}})");
  EXPECT_EQ(OpenAiError(404, "no", ""),
            R"({"error":{"message":"no","type":"NotFoundError","param":null,"code":404}})");
  EXPECT_EQ(Json::parse(OpenAiError(503, "\xff", ""))["error"]["type"], "ServiceUnavailableError");
}

TEST(HttpStatusOfTest, FollowsTheContract) {
  EXPECT_EQ(HttpStatusOf(absl::OkStatus()), 200);
  EXPECT_EQ(HttpStatusOf(absl::InvalidArgumentError("")), 400);
  EXPECT_EQ(HttpStatusOf(absl::UnauthenticatedError("")), 401);
  EXPECT_EQ(HttpStatusOf(absl::PermissionDeniedError("")), 403);
  EXPECT_EQ(HttpStatusOf(absl::NotFoundError("")), 404);
  EXPECT_EQ(HttpStatusOf(absl::ResourceExhaustedError("")), 429);
  EXPECT_EQ(HttpStatusOf(absl::InternalError("")), 500);
  EXPECT_EQ(HttpStatusOf(absl::UnavailableError("")), 503);
  EXPECT_EQ(HttpStatusOf(absl::DeadlineExceededError("")), 504);
}

TEST(OpenAiParamTest, TranslatesNativeNames) {
  const auto chat = [](std::string_view name) { return OpenAiParam(OpenAiEndpoint::kChat, name); };
  const auto completion = [](std::string_view name) {
    return OpenAiParam(OpenAiEndpoint::kCompletions, name);
  };
  EXPECT_EQ(chat("sampling.top_p"), "top_p");
  EXPECT_EQ(chat("stopping.max_tokens"), "max_tokens");
  EXPECT_EQ(chat("output.logprobs"), "top_logprobs");
  EXPECT_EQ(completion("output.logprobs"), "logprobs");
  EXPECT_EQ(completion("output.prompt_logprobs"), "prompt_logprobs");
  EXPECT_EQ(chat("prompt"), "messages");
  EXPECT_EQ(completion("prompt"), "prompt");
  EXPECT_EQ(completion("text"), "prompt");
  EXPECT_EQ(completion("token_ids"), "prompt");
  EXPECT_EQ(chat("chat"), "messages");
  EXPECT_EQ(chat("chat.messages"), "messages");
  EXPECT_EQ(chat("chat.continue_final_message"), "continue_final_message");
  EXPECT_EQ(chat("chat.template_arguments_json"), "chat_template_kwargs");
  EXPECT_EQ(chat("chat_template"), "chat_template");
  EXPECT_EQ(chat("cache.salt"), "cache_salt");
  EXPECT_EQ(chat("model"), "model");
  EXPECT_EQ(chat("messages[0].role"), "messages[0].role");
}

}  // namespace
}  // namespace baram::server
