// The OpenAI-compatible HTTP front end: from a request to its call, and the routes.
#include "server/openai.h"

#include <charconv>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "engine/steady_time.h"
#include "server/errors.h"
#include "server/json_fields.h"
#include "server/openai_call.h"
#include "server/openai_errors.h"
#include "server/openai_models.h"
#include "server/openai_request.h"
#include "server/openai_stream.h"
#include "server/openai_text.h"
#include "server/probes.h"
#include "server/request_id.h"
#include "server/text_pool.h"
#include "server/version.h"

namespace baram::server {

namespace {

using Exchange = std::shared_ptr<HttpExchange>;

void RespondJson(HttpExchange& exchange, const Json& json) {
  exchange.Respond(200, {{"Content-Type", "application/json"}}, Dump(json));
}

// Larger bodies, and those of many parts, are parsed on the text pool, to keep a listener thread
// free for others.
constexpr size_t kQuickBodyBytes = TextPool::kLongBytes;

// The client's id in the header, else the body's, else one of ours.
std::string RequestId(const HttpRequest& request, const std::string& in_body) {
  if (request.id_is_clients) return request.id;
  if (!in_body.empty()) return in_body;
  return request.id.empty() ? NewRequestId() : request.id;
}

// The seconds in the header x-request-timeout, if present.
absl::StatusOr<std::optional<double>> Timeout(const HttpRequest& request) {
  const std::string_view value = request.Header("x-request-timeout");
  if (value.empty()) return std::nullopt;
  double seconds = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  const bool good = error == std::errc() && end == value.data() + value.size() && seconds > 0;
  if (good) return seconds;
  return InvalidField(
      "x-request-timeout",
      "The header X-Request-Timeout must be a positive number of seconds, such as 30.");
}

absl::StatusOr<OpenAiRequest> ReadRequest(OpenAiEndpoint endpoint, HttpExchange& exchange,
                                          const Serving& serving) {
  absl::Status type = CheckContentType(exchange.request().Header("content-type"));
  if (!type.ok()) return type;
  auto read = ParseOpenAiRequest(endpoint, exchange.TakeBody(), serving.config().max_n);
  if (!read.ok()) return read;
  if (read->shows_tools && endpoint == OpenAiEndpoint::kChat && serving.prompts().takes_tools()) {
    return InvalidField(
        "tools",
        "tools is not served: this server has no tool calling yet, and this model's "
        "chat template would show them; leave it out.");
  }
  absl::Status effort =
      CheckReasoningEffort(read->reasoning_effort, serving.prompts().takes_reasoning_effort());
  if (!effort.ok()) return effort;
  return read;
}

// `on_text_pool`: whether this runs as a job of the text pool.
void Generate(OpenAiEndpoint endpoint, const OpenAiCall& call, bool on_text_pool) {
  const HttpRequest& http = call.exchange->request();
  absl::StatusOr<OpenAiRequest> request = ReadRequest(endpoint, *call.exchange, call.serving);
  const std::string id = RequestId(http, request.ok() ? request->call.request_id : std::string());
  const auto fail = [&](const absl::Status& status) {
    call.place->Leave();
    call.Fail(status, endpoint, id);
  };
  if (!request.ok()) return fail(request.status());
  const absl::StatusOr<std::optional<double>> timeout_s = Timeout(http);
  if (!timeout_s.ok()) return fail(timeout_s.status());
  request->call.arrival = call.arrival;
  request->call.deadline = call.serving.Deadline(call.arrival, *timeout_s);
  std::make_shared<OpenAiStream>(call, *request, id)->Start(std::move(request->call), on_text_pool);
}

// Runs `job` on the text pool, unless its client no longer waits by then; or refuses. A drain waits
// for that pool, so nothing new enters it during one.
void OnTextPool(const OpenAiCall& call, std::function<void()> job) {
  if (absl::Status status = call.serving.CheckAccepting(); !status.ok()) {
    return call.Answer(status);
  }
  call.exchange->OnGone([place = call.place](HttpEnd) { place->Abandon(); });
  const absl::StatusOr<std::optional<double>> timeout_s = Timeout(call.exchange->request());
  if (!timeout_s.ok()) return call.Answer(timeout_s.status());
  const SteadyTime deadline = call.serving.Deadline(call.arrival, *timeout_s);
  const auto run = [call, deadline, job = std::move(job)] {
    const absl::Status wanted = call.serving.CheckWanted(*call.place, deadline);
    // An aborted call ends as aborted, whatever else has happened meanwhile.
    if (!wanted.ok() && !call.place->aborted()) return call.Answer(wanted);
    job();
  };
  const size_t bytes = call.exchange->request().body.size();
  if (call.serving.pool().Run(bytes, deadline, run)) return;
  call.Answer(TooManyTexts());
}

absl::StatusOr<std::string> NoResponses(const OpenAiContext&, const HttpRequest&) {
  return absl::NotFoundError("/v1/responses is not served yet; use /v1/chat/completions.");
}

HttpRoute GenerateRoute(const OpenAiContext& context, OpenAiEndpoint endpoint, const char* path) {
  return {"POST", path, [context, endpoint, path](Exchange exchange) {
            const OpenAiCall call(context.serving, context.log, path, std::move(exchange));
            const HttpRequest& request = call.exchange->request();
            if (request.body.size() <= kQuickBodyBytes && ParsesQuickly(request.body)) {
              return Generate(endpoint, call, /*on_text_pool=*/false);
            }
            // The id in the body is not known yet.
            if (request.id_is_clients) call.place->Enter(request.id);
            OnTextPool(call, [=] { Generate(endpoint, call, /*on_text_pool=*/true); });
          }};
}

// `answer` returns the body or an error, at once: it runs on the listener's thread.
HttpRoute ShortRoute(const OpenAiContext& context, const char* method, const char* path,
                     absl::StatusOr<std::string> (*answer)(const OpenAiContext&,
                                                           const HttpRequest&)) {
  return {method, path, [context, path, answer](Exchange exchange) {
            const OpenAiCall call(context.serving, context.log, path, std::move(exchange));
            call.Answer(answer(context, call.exchange->request()));
          }};
}

// `answer` returns the body or an error, and may take its time on the text pool.
HttpRoute TextRoute(const OpenAiContext& context, const char* path,
                    absl::StatusOr<std::string> (*answer)(const Serving&, HttpExchange&)) {
  return {"POST", path, [context, path, answer](Exchange exchange) {
            const OpenAiCall call(context.serving, context.log, path, std::move(exchange));
            OnTextPool(call, [=] { call.Answer(answer(call.serving, *call.exchange)); });
          }};
}

HttpRoute HealthRoute(const OpenAiContext& context, const char* method, const char* path) {
  return {method, path, [&lifecycle = context.lifecycle](Exchange exchange) {
            exchange->Respond(lifecycle.ready() ? 200 : 503, {}, "");
          }};
}

HttpRoute VersionRoute() {
  return {"GET", "/version", [](Exchange exchange) {
            RespondJson(*exchange, {{"version", kVersion}});
          }};
}

HttpRoute LoadRoute(const OpenAiContext& context) {
  return {"GET", "/load", [context](Exchange exchange) {
            RespondJson(*exchange, {{"server_load", context.serving.unfinished()}});
          }};
}

HttpRoute MetricsRoute(const OpenAiContext& context) {
  return {"GET", "/metrics",
          [&metrics = context.metrics](Exchange exchange) { AnswerMetrics(*exchange, &metrics); }};
}

}  // namespace

std::string ListenerErrorBody(const HttpError& error) {
  return OpenAiError(error.status, error.message, "");
}

std::vector<HttpRoute> OpenAiRoutes(const OpenAiContext& context) {
  return {
      GenerateRoute(context, OpenAiEndpoint::kChat, "/v1/chat/completions"),
      GenerateRoute(context, OpenAiEndpoint::kCompletions, "/v1/completions"),
      ShortRoute(context, "POST", "/v1/responses", NoResponses),
      ShortRoute(context, "POST", "/v1/responses/*", NoResponses),
      ShortRoute(context, "GET", "/v1/responses", NoResponses),
      ShortRoute(context, "GET", "/v1/responses/*", NoResponses),
      ShortRoute(context, "DELETE", "/v1/responses", NoResponses),
      ShortRoute(context, "DELETE", "/v1/responses/*", NoResponses),
      ShortRoute(context, "GET", "/v1/models", ListModels),
      ShortRoute(context, "GET", "/v1/models/*", FindModel),
      TextRoute(context, "/tokenize", Tokenize),
      TextRoute(context, "/detokenize", Detokenize),
      // Requests that machines send every few seconds are not logged.
      HealthRoute(context, "GET", "/health"),
      HealthRoute(context, "GET", "/ping"),
      HealthRoute(context, "POST", "/ping"),
      VersionRoute(),
      LoadRoute(context),
      MetricsRoute(context),
  };
}

}  // namespace baram::server
