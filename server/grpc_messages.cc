// The request half of baram.v1: see the header.
#include "server/grpc_messages.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/call_checks.h"
#include "server/errors.h"
#include "server/json_fields.h"
#include "server/prompt_reader.h"

namespace baram::server {
namespace {

constexpr size_t kMaxMetadata = 16;
constexpr size_t kMaxMetadataBytes = 256;

absl::Status CheckMetadata(const v1::GenerateRequest& request) {
  if (request.metadata().size() > kMaxMetadata) {
    return TooMany("metadata", request.metadata().size(), kMaxMetadata, "entries");
  }
  for (const auto& [key, value] : request.metadata()) {
    if (key.size() + value.size() > kMaxMetadataBytes) {
      return InvalidField("metadata", absl::StrCat("An entry of metadata has more than ",
                                                   kMaxMetadataBytes, " bytes."));
    }
  }
  return absl::OkStatus();
}

// Limits are checked before copying: a message can hold millions of empty strings or a salt of
// megabytes, and copies that wait for the text pool are not counted.
absl::Status CheckSampling(const v1::Sampling& sampling) {
  const auto biased = static_cast<size_t>(sampling.logit_bias_size());
  if (biased <= kMaxBiasedTokens) return absl::OkStatus();
  return TooMany("sampling.logit_bias", biased, kMaxBiasedTokens, "entries");
}

absl::Status CheckStopping(const v1::Stopping& stopping) {
  const auto stops = static_cast<size_t>(stopping.stop_size());
  if (stops > kMaxStops) return TooMany("stopping.stop", stops, kMaxStops, "strings");
  for (const std::string& stop : stopping.stop()) {
    if (stop.size() <= kMaxStopBytes) continue;
    return TooMany("stopping.stop", stop.size(), kMaxStopBytes, "bytes in one string");
  }
  const auto ids = static_cast<size_t>(stopping.stop_token_ids_size());
  if (ids > kMaxStopTokenIds) {
    return TooMany("stopping.stop_token_ids", ids, kMaxStopTokenIds, "ids");
  }
  return absl::OkStatus();
}

absl::Status CheckSalt(const v1::Cache& cache) {
  if (cache.salt().size() <= kMaxSaltBytes) return absl::OkStatus();
  return TooMany("cache.salt", cache.salt().size(), kMaxSaltBytes, "bytes");
}

// Protobuf ids are unsigned. The others are checked with the prompt.
absl::StatusOr<Prompt> ToIds(const v1::TokenIds& sent, int32_t vocab_size) {
  std::vector<int32_t> ids;
  ids.reserve(sent.ids_size());
  for (const uint32_t id : sent.ids()) {
    if (!std::in_range<int32_t>(id)) return CheckTokenId("token_ids", id, vocab_size);
    ids.push_back(static_cast<int32_t>(id));
  }
  return Prompt(std::move(ids));
}

absl::StatusOr<Prompt> ToPrompt(const v1::GenerateRequest& request, int32_t vocab_size) {
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      return Prompt(TextPrompt{
          .text = request.text(),
          .add_special_tokens = !request.has_add_special_tokens() || request.add_special_tokens()});
    case v1::GenerateRequest::kTokenIds:
      return ToIds(request.token_ids(), vocab_size);
    case v1::GenerateRequest::kChat: {
      auto chat = ToChatPrompt(request.chat());
      if (!chat.ok()) return chat.status();
      chat->add_special_tokens = request.add_special_tokens();
      return Prompt(*std::move(chat));
    }
    case v1::GenerateRequest::PROMPT_NOT_SET:
      break;
  }
  return InvalidField("prompt", "There is no prompt: set text, token_ids or chat.");
}

}  // namespace

absl::StatusOr<ChatPrompt> ToChatPrompt(const v1::Chat& chat) {
  const auto count = static_cast<size_t>(chat.messages_size());
  if (count == 0 || count > kMaxMessages) {
    return InvalidField("chat.messages", absl::StrCat("There are ", count, " messages; send 1 to ",
                                                      kMaxMessages, "."));
  }
  // Templates see the keys in this order, which is how HTTP clients write them.
  Json messages = Json::array();
  for (const v1::Message& message : chat.messages()) {
    Json object = {{"role", message.role()}, {"content", message.content()}};
    if (!message.name().empty()) object["name"] = message.name();
    messages.push_back(std::move(object));
  }
  const std::string& arguments = chat.template_arguments_json();
  if (absl::Status size = PromptReader::CheckArgumentsSize(arguments); !size.ok()) return size;
  if (const auto object = ParseBody(arguments, "It"); !arguments.empty() && !object.ok()) {
    return InvalidField("chat.template_arguments_json",
                        absl::StrCat("chat.template_arguments_json must be a JSON object, as in ",
                                     R"({"enable_thinking": false}. )", object.status().message()));
  }
  ChatPrompt prompt;
  prompt.messages_json = Dump(messages);
  prompt.arguments_json = arguments;
  if (chat.has_add_generation_prompt()) prompt.add_generation_prompt = chat.add_generation_prompt();
  if (chat.has_continue_final_message()) {
    prompt.continue_final_message = chat.continue_final_message();
  }
  return prompt;
}

absl::StatusOr<Call> ToCall(const v1::GenerateRequest& request, const Serving& serving) {
  if (absl::Status status = CheckMetadata(request); !status.ok()) return status;
  if (absl::Status status = CheckSampling(request.sampling()); !status.ok()) return status;
  if (absl::Status status = CheckStopping(request.stopping()); !status.ok()) return status;
  if (absl::Status status = CheckSalt(request.cache()); !status.ok()) return status;
  if (absl::Status status = serving.CheckModel(request.model()); !status.ok()) return status;
  const auto ids = static_cast<size_t>(request.token_ids().ids_size());
  absl::Status fits = serving.prompts().CheckPromptIds(ids, request.has_truncate_prompt_tokens());
  if (!fits.ok()) return fits;
  auto prompt = ToPrompt(request, serving.info().vocab_size);
  if (!prompt.ok()) return prompt.status();
  Call call;
  call.request_id = request.request_id();
  call.model = request.model();
  call.prompts.push_back(*std::move(prompt));

  const v1::Sampling& sampling = request.sampling();
  if (sampling.has_temperature()) call.temperature = sampling.temperature();
  if (sampling.has_top_p()) call.top_p = sampling.top_p();
  if (sampling.has_top_k()) call.top_k = sampling.top_k();
  if (sampling.has_min_p()) call.min_p = sampling.min_p();
  if (sampling.has_repetition_penalty()) call.repetition_penalty = sampling.repetition_penalty();
  if (sampling.has_presence_penalty()) call.presence_penalty = sampling.presence_penalty();
  if (sampling.has_frequency_penalty()) call.frequency_penalty = sampling.frequency_penalty();
  if (sampling.has_seed()) call.seed = sampling.seed();
  if (sampling.has_n()) call.n = sampling.n();
  for (const auto& [id, bias] : sampling.logit_bias()) call.logit_bias[id] = bias;

  const v1::Stopping& stopping = request.stopping();
  if (stopping.has_max_tokens()) call.max_tokens = stopping.max_tokens();
  call.min_tokens = stopping.min_tokens();
  call.stop.assign(stopping.stop().begin(), stopping.stop().end());
  call.stop_token_ids.assign(stopping.stop_token_ids().begin(), stopping.stop_token_ids().end());
  call.include_stop = stopping.include_stop();
  call.ignore_eos = stopping.ignore_eos();

  const v1::Output& output = request.output();
  if (output.has_logprobs()) call.logprobs = output.logprobs();
  if (output.has_prompt_logprobs()) call.prompt_logprobs = output.prompt_logprobs();
  call.text = !output.has_text() || output.text();
  call.token_ids = output.token_ids();
  call.skip_special_tokens = !output.has_skip_special_tokens() || output.skip_special_tokens();

  call.priority = request.priority();
  call.cache_salt = request.cache().salt();
  call.read_prefix_cache = !request.cache().has_read() || request.cache().read();
  if (request.has_truncate_prompt_tokens()) {
    call.truncate_prompt_tokens = request.truncate_prompt_tokens();
  }
  return call;
}

}  // namespace baram::server
