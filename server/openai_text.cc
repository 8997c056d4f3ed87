// /tokenize and /detokenize: see the header.
#include "server/openai_text.h"

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/errors.h"
#include "server/json_fields.h"
#include "server/openai_request.h"

namespace baram::server {

namespace {

absl::StatusOr<Json> ReadJson(HttpExchange& exchange) {
  absl::Status type = CheckContentType(exchange.request().Header("content-type"));
  if (!type.ok()) return type;
  return ParseOpenAiBody(exchange.TakeBody());
}

absl::Status TooLarge(const Config& config) {
  return HttpReplyTooLarge(config.max_http_reply_bytes, "send less in one request");
}

// Limits the answers of /tokenize and /detokenize.
absl::Status CheckReplySize(size_t bytes, const Config& config) {
  return static_cast<int64_t>(bytes) <= config.max_http_reply_bytes ? absl::OkStatus()
                                                                    : TooLarge(config);
}

// Written incrementally: a JSON tree would take an object for every id and every text, about 100
// bytes in all, and there may be millions.
absl::StatusOr<std::string> Tokenized(const std::vector<int32_t>& ids, const Serving& serving) {
  const int32_t max_model_len = serving.info().max_model_len;
  std::string body = absl::StrCat(R"({"count":)", ids.size(), R"(,"max_model_len":)", max_model_len,
                                  R"(,"tokens":[)", absl::StrJoin(ids, ","), R"(],"token_strs":[)");
  absl::flat_hash_map<int32_t, std::string> texts;  // as JSON, for the ids so far
  const char* before = "";
  for (const int32_t id : ids) {
    const auto [text, added] = texts.try_emplace(id);
    if (added) text->second = Dump(serving.prompts().tokenizer().TokenText(id));
    absl::StrAppend(&body, std::exchange(before, ","), text->second);
    if (absl::Status size = CheckReplySize(body.size(), serving.config()); !size.ok()) return size;
  }
  body += "]}";
  return body;
}

}  // namespace

absl::StatusOr<std::string> Tokenize(const Serving& serving, HttpExchange& exchange) {
  const absl::StatusOr<Json> body = ReadJson(exchange);
  if (!body.ok()) return body.status();
  const absl::StatusOr<TokenizeRequest> request = ParseTokenizeRequest(*body);
  if (!request.ok()) return request.status();
  if (absl::Status status = serving.CheckModel(request->model); !status.ok()) return status;
  absl::Status effort =
      CheckReasoningEffort(request->reasoning_effort, serving.prompts().takes_reasoning_effort());
  if (!effort.ok()) return effort;
  const absl::StatusOr<std::vector<int32_t>> ids = serving.prompts().Tokenize(request->prompt);
  if (!ids.ok()) return ids.status();
  return Tokenized(*ids, serving);
}

absl::StatusOr<std::string> Detokenize(const Serving& serving, HttpExchange& exchange) {
  const absl::StatusOr<Json> body = ReadJson(exchange);
  if (!body.ok()) return body.status();
  JsonFields fields(*body);
  const std::string model = fields.String("model").value_or("");
  if (fields.Array("tokens") == nullptr) {
    fields.Fail("tokens", "tokens is missing: send an array of token ids.");
  }
  const std::vector<int64_t> ids = fields.Integers("tokens", serving.prompts().max_detokenized());
  if (!fields.status().ok()) return fields.status();
  if (absl::Status status = serving.CheckModel(model); !status.ok()) return status;
  const Config& config = serving.config();
  absl::StatusOr<std::string> text = serving.prompts().Detokenize(
      ids, /*skip_special_tokens=*/false, config.max_http_reply_bytes, TooLarge(config));
  if (text.ok()) {
    std::string body = Dump({{"prompt", *std::move(text)}});
    absl::Status size = CheckReplySize(body.size(), config);
    if (!size.ok()) return size;
    return body;
  }
  if (!absl::IsInvalidArgument(text.status())) return text.status();
  return RenameField(text.status(), "tokens");
}

}  // namespace baram::server
