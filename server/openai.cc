// The OpenAI-compatible HTTP front end: see the header.
#include "server/openai.h"

#include <charconv>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "server/json_fields.h"
#include "server/openai_reply.h"
#include "server/openai_request.h"
#include "server/openai_stream.h"
#include "server/probes.h"
#include "server/text_pool.h"
#include "server/version.h"

namespace baram::server {

namespace {

using Exchange = std::shared_ptr<HttpExchange>;

void RespondJson(HttpExchange& exchange, int status, const Json& json) {
  exchange.Respond(status, {{"Content-Type", "application/json"}}, Dump(json));
}

void RespondProbe(HttpExchange& exchange, ProbeAnswer answer) {
  HttpHeaders headers;
  if (!answer.content_type.empty()) headers.emplace_back("Content-Type", answer.content_type);
  exchange.Respond(answer.code, std::move(headers), std::move(answer.body));
}

// The client's own id if it is one we take, else the body's, else a new one.
std::string RequestId(const HttpRequest& request, const std::string& in_body) {
  if (!in_body.empty()) return in_body;
  const std::string header(request.Header("x-request-id"));
  return Serving::IsValidRequestId(header) ? header : Serving::NewRequestId();
}

// Seconds in the header x-request-timeout, if it is a positive number.
std::optional<double> Timeout(const HttpRequest& request) {
  const std::string_view value = request.Header("x-request-timeout");
  double seconds = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  const bool good = error == std::errc() && end == value.data() + value.size() && seconds > 0;
  return good ? std::optional<double>(seconds) : std::nullopt;
}

void Generate(const OpenAiContext& context, OpenAiEndpoint endpoint, const std::string& route,
              Exchange exchange) {
  const SteadyTime now = std::chrono::steady_clock::now();
  absl::StatusOr<OpenAiRequest> request = ParseOpenAiRequest(endpoint, exchange->request().body);
  const std::string id = RequestId(
      exchange->request(), request.ok() ? request->calls[0].request_id : std::string());
  if (!request.ok()) {
    RespondError(*exchange, request.status(), endpoint, id);
    CallRecord record;
    record.method = route;
    record.request_id = id;
    record.code = std::to_string(HttpStatusOf(request.status()));
    record.reason = FactsOf(request.status()).reason;
    context.log.Record(record);
    return;
  }
  const SteadyTime deadline = context.serving.Deadline(now, Timeout(exchange->request()));
  for (Call& call : request->calls) {
    call.arrival = now;
    call.deadline = deadline;
  }
  std::make_shared<OpenAiStream>(std::move(exchange), *std::move(request), context.serving, context.log,
                                 route, id)
      ->Start();
}

// Runs `answer` on the text pool, which gives the body or an error.
template <typename Answer>
void OnTextPool(const OpenAiContext& context, const Exchange& exchange, Answer answer) {
  const bool queued = context.serving.pool().Run([exchange, answer = std::move(answer)] {
    const absl::StatusOr<Json> json = answer(exchange->request());
    if (json.ok()) {
      RespondJson(*exchange, 200, *json);
    } else {
      RespondError(*exchange, json.status(), OpenAiEndpoint::kCompletions, "");
    }
  });
  if (!queued) {
    RespondError(*exchange, Overloaded("the server has too much text to tokenize: retry later"),
                 OpenAiEndpoint::kCompletions, "");
  }
}

absl::StatusOr<Json> Tokenize(const Serving& serving, const HttpRequest& request) {
  const absl::StatusOr<Json> body = ParseJsonObject(request.body);
  if (!body.ok()) return body.status();
  std::string model;
  const absl::StatusOr<Prompt> prompt = ParseTokenizePrompt(*body, &model);
  if (!prompt.ok()) return prompt.status();
  if (absl::Status status = serving.CheckModel(model); !status.ok()) return status;
  const absl::StatusOr<std::vector<int32_t>> ids = serving.Tokenize(*prompt);
  if (!ids.ok()) return ids.status();
  Json texts = Json::array();
  for (int32_t id : *ids) texts.push_back(serving.tokenizer().TokenText(id));
  return Json{{"count", ids->size()},
              {"max_model_len", serving.info().max_model_len},
              {"tokens", *ids},
              {"token_strs", std::move(texts)}};
}

absl::StatusOr<Json> Detokenize(const Serving& serving, const HttpRequest& request) {
  const absl::StatusOr<Json> body = ParseJsonObject(request.body);
  if (!body.ok()) return body.status();
  JsonFields fields(*body);
  const std::string model = fields.String("model").value_or("");
  if (fields.Array("tokens") == nullptr) fields.Fail("tokens", "tokens must be an array of token ids");
  const std::vector<int64_t> ids = fields.Integers("tokens");
  if (!fields.status().ok()) return fields.status();
  if (absl::Status status = serving.CheckModel(model); !status.ok()) return status;
  absl::StatusOr<std::string> text = serving.Detokenize(ids, /*skip_special_tokens=*/false);
  if (!text.ok()) return text.status();
  return Json{{"prompt", *std::move(text)}};
}

Json ModelEntry(const OpenAiContext& context, const std::string& name) {
  return {{"id", name},
          {"object", "model"},
          {"created", context.start_time},
          {"owned_by", "baram"},
          {"root", context.serving.config().model},
          {"parent", nullptr},
          {"max_model_len", context.serving.info().max_model_len},
          {"permission", Json::array()}};
}

}  // namespace

std::string ListenerErrorBody(int status, const std::string& message) {
  return OpenAiError(status, message, "");
}

std::vector<HttpRoute> ProbeRoutes(const Lifecycle& lifecycle, const Metrics& metrics) {
  std::vector<HttpRoute> routes;
  for (const char* path : {"/metrics", "/startup", "/ready", "/live"}) {
    routes.push_back({"GET", path, [path, &lifecycle, &metrics](Exchange exchange) {
                        RespondProbe(*exchange, AnswerProbe(path, lifecycle, metrics));
                      }});
  }
  return routes;
}

std::vector<HttpRoute> OpenAiRoutes(const OpenAiContext& context) {
  std::vector<HttpRoute> routes;
  const auto add = [&](const char* method, std::string path, auto answer) {
    routes.push_back({method, std::move(path), std::move(answer)});
  };
  add("POST", "/v1/chat/completions", [context](Exchange exchange) {
    Generate(context, OpenAiEndpoint::kChat, "/v1/chat/completions", std::move(exchange));
  });
  add("POST", "/v1/completions", [context](Exchange exchange) {
    Generate(context, OpenAiEndpoint::kCompletions, "/v1/completions", std::move(exchange));
  });
  add("POST", "/v1/responses", [](Exchange exchange) {
    RespondError(*exchange,
                 absl::NotFoundError("/v1/responses is not served: use /v1/chat/completions"),
                 OpenAiEndpoint::kChat, "");
  });
  add("GET", "/v1/models", [context](Exchange exchange) {
    Json list = Json::array();
    for (const std::string& name : context.serving.served_names()) list.push_back(ModelEntry(context, name));
    RespondJson(*exchange, 200, {{"object", "list"}, {"data", std::move(list)}});
  });
  for (const std::string& name : context.serving.served_names()) {
    add("GET", "/v1/models/" + name, [context, name](Exchange exchange) {
      RespondJson(*exchange, 200, ModelEntry(context, name));
    });
  }
  add("POST", "/tokenize", [context](Exchange exchange) {
    OnTextPool(context, exchange, [&serving = context.serving](const HttpRequest& request) {
      return Tokenize(serving, request);
    });
  });
  add("POST", "/detokenize", [context](Exchange exchange) {
    OnTextPool(context, exchange, [&serving = context.serving](const HttpRequest& request) {
      return Detokenize(serving, request);
    });
  });
  const auto health = [&lifecycle = context.lifecycle](Exchange exchange) {
    exchange->Respond(lifecycle.ready() && lifecycle.live() ? 200 : 503, {}, "");
  };
  add("GET", "/health", health);
  add("GET", "/ping", health);
  add("POST", "/ping", health);
  add("GET", "/version", [](Exchange exchange) {
    RespondJson(*exchange, 200, {{"version", kVersion}});
  });
  add("GET", "/load", [context](Exchange exchange) {
    const Stats& stats = context.serving.engine().stats();
    RespondJson(*exchange, 200,
                {{"server_load", static_cast<int64_t>(stats.running.value() + stats.waiting.value())}});
  });
  add("GET", "/metrics", [context](Exchange exchange) {
    RespondProbe(*exchange, AnswerProbe("/metrics", context.lifecycle, context.metrics));
  });
  return routes;
}

}  // namespace baram::server
