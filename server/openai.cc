// The OpenAI-compatible HTTP front end: see the header.
#include "server/openai.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/errors.h"
#include "server/json_fields.h"
#include "server/openai_errors.h"
#include "server/openai_request.h"
#include "server/openai_stream.h"
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

// Bodies above this are parsed on the text pool: a listener's thread serves others meanwhile.
constexpr size_t kQuickBodyBytes = TextPool::kLongBytes;

// The header's id if it is one, else the body's, else a new one.
std::string RequestId(const HttpRequest& request, const std::string& in_body) {
  const std::string header(request.Header("x-request-id"));
  if (IsRequestId(header)) return header;
  return in_body.empty() ? Serving::NewRequestId() : in_body;
}

// A browser's page may send any other type anywhere without asking first.
absl::Status CheckContentType(const HttpRequest& request) {
  const std::string_view type = request.Header("content-type");
  const absl::string_view media(type.data(), std::min(type.find(';'), type.size()));
  if (absl::EqualsIgnoreCase(absl::StripAsciiWhitespace(media), "application/json")) {
    return absl::OkStatus();
  }
  return InvalidBody("Send JSON, with the header Content-Type: application/json.");
}

// Seconds in the header x-request-timeout, if there is one.
absl::StatusOr<std::optional<double>> Timeout(const HttpRequest& request) {
  const std::string_view value = request.Header("x-request-timeout");
  if (value.empty()) return std::nullopt;
  double seconds = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  const bool good = error == std::errc() && end == value.data() + value.size() && seconds > 0;
  if (good) return seconds;
  return InvalidField("x-request-timeout",
                      "The header X-Request-Timeout must be a positive number of seconds, as 30.");
}

// For a chat, also one that is only counted.
absl::Status CheckReasoningEffort(const std::string& effort, const Serving& serving) {
  if (serving.takes_reasoning_effort() || effort.empty() || effort == "none") {
    return absl::OkStatus();
  }
  return InvalidField("reasoning_effort",
                      "reasoning_effort is not served: this model's chat template does not read "
                      "it; leave it out.");
}

absl::StatusOr<OpenAiRequest> ReadRequest(OpenAiEndpoint endpoint, HttpExchange& exchange,
                                          const Serving& serving) {
  if (absl::Status status = CheckContentType(exchange.request()); !status.ok()) return status;
  auto read = ParseOpenAiRequest(endpoint, exchange.TakeBody(), serving.config().max_n);
  if (!read.ok()) return read;
  if (read->shows_tools && endpoint == OpenAiEndpoint::kChat && serving.takes_tools()) {
    return InvalidField(
        "tools",
        "tools is not served: this server has no tool calling yet, and this model's "
        "chat template would show them; leave it out.");
  }
  absl::Status effort = CheckReasoningEffort(read->reasoning_effort, serving);
  if (!effort.ok()) return effort;
  return read;
}

// A call of a route from its arrival to its line in the log, but for those that OpenAiStream
// answers.
struct RouteCall {
  RouteCall(const OpenAiContext& context, const char* path, Exchange taken)
      : log(context.log), route(path), exchange(std::move(taken)) {}

  void Fail(const absl::Status& status, OpenAiEndpoint endpoint, const std::string& id) const {
    const absl::Status told = InJsonNames(status, endpoint);
    CallRecord record = Record(id);
    record.SetError(told);
    RespondOpenAiError(*exchange, told, id, Ended(HttpStatusOf(told), std::move(record)));
  }
  // With a body of JSON.
  void Answer(absl::StatusOr<std::string> reply) const {
    const std::string_view header = exchange->request().Header("x-request-id");
    const std::string id(IsRequestId(header) ? header : "");
    if (!reply.ok()) return Fail(reply.status(), OpenAiEndpoint::kCompletions, id);
    exchange->Respond(200, {{"Content-Type", "application/json"}}, *std::move(reply),
                      Ended(200, Record(id)));
  }

  CallLog& log;
  const char* const route;  // one of a fixed set
  const Exchange exchange;
  const SteadyTime arrival = std::chrono::steady_clock::now();

 private:
  CallRecord Record(const std::string& id) const {
    CallRecord record;
    record.method = route;
    record.request_id = id;
    return record;
  }
  OnHttpEnd Ended(int code, CallRecord record) const {
    return [&log = log, arrival = arrival, code, record = std::move(record)](HttpEnd end) {
      CallRecord ended = record;
      ended.total_s = SecondsSince(arrival);
      log.RecordHttp(std::move(ended), code, end);
    };
  }
};

// `on_text_pool`: this is a job of the text pool.
void Generate(const OpenAiContext& context, OpenAiEndpoint endpoint, const RouteCall& taken,
              const Serving::Place& place, bool on_text_pool) {
  const Exchange& exchange = taken.exchange;
  absl::StatusOr<OpenAiRequest> request = ReadRequest(endpoint, *exchange, context.serving);
  const std::string id =
      RequestId(exchange->request(), request.ok() ? request->call.request_id : std::string());
  const auto fail = [&](const absl::Status& status) {
    place->Leave();
    taken.Fail(status, endpoint, id);
  };
  if (!request.ok()) return fail(request.status());
  const absl::StatusOr<std::optional<double>> timeout_s = Timeout(exchange->request());
  if (!timeout_s.ok()) return fail(timeout_s.status());
  request->call.arrival = taken.arrival;
  request->call.deadline = context.serving.Deadline(taken.arrival, *timeout_s);
  std::make_shared<OpenAiStream>(exchange, *request, context.serving, context.log, taken.route, id,
                                 place)
      ->Start(std::move(request->call), on_text_pool);
}

// Runs `job` on the text pool, unless nobody wants it by then; or refuses. A drain waits for that
// pool: nothing new enters it then.
void OnTextPool(const OpenAiContext& context, const RouteCall& call, const Serving::Place& place,
                std::function<void()> job) {
  if (absl::Status status = context.serving.CheckAccepting(); !status.ok()) {
    return call.Answer(status);
  }
  call.exchange->OnGone([place](HttpEnd) { place->Abandon(); });
  const absl::StatusOr<std::optional<double>> timeout_s = Timeout(call.exchange->request());
  if (!timeout_s.ok()) return call.Answer(timeout_s.status());
  const SteadyTime deadline = context.serving.Deadline(call.arrival, *timeout_s);
  const auto run = [&serving = context.serving, call, place, deadline, job = std::move(job)] {
    const absl::Status wanted = serving.CheckWanted(*place, deadline);
    // A call that was aborted ends as such, whatever else has come meanwhile.
    if (!wanted.ok() && !place->aborted()) return call.Answer(wanted);
    job();
  };
  const size_t bytes = call.exchange->request().body.size();
  if (context.serving.pool().Run(bytes, deadline, run)) return;
  call.Answer(TooManyTexts());
}

absl::StatusOr<Json> ReadJson(HttpExchange& exchange) {
  if (absl::Status status = CheckContentType(exchange.request()); !status.ok()) return status;
  return ParseOpenAiBody(exchange.TakeBody());
}

// Of what /tokenize and /detokenize answer.
absl::Status CheckReplySize(size_t bytes, const Config& config) {
  if (static_cast<int64_t>(bytes) <= config.max_http_reply_bytes) return absl::OkStatus();
  return HttpReplyTooLarge(config.max_http_reply_bytes, "send less in one request");
}

// Written as it goes: in a document every id and every text would be an object first, some 100
// bytes together, and there may be millions.
absl::StatusOr<std::string> Tokenized(const std::vector<int32_t>& ids, const Serving& serving) {
  const int32_t max_model_len = serving.info().max_model_len;
  std::string body = absl::StrCat(R"({"count":)", ids.size(), R"(,"max_model_len":)", max_model_len,
                                  R"(,"tokens":[)", absl::StrJoin(ids, ","), R"(],"token_strs":[)");
  absl::flat_hash_map<int32_t, std::string> texts;  // as JSON, of the ids so far
  const char* before = "";
  for (const int32_t id : ids) {
    const auto [text, added] = texts.try_emplace(id);
    if (added) text->second = Dump(serving.tokenizer().TokenText(id));
    absl::StrAppend(&body, std::exchange(before, ","), text->second);
    if (absl::Status size = CheckReplySize(body.size(), serving.config()); !size.ok()) return size;
  }
  body += "]}";
  return body;
}

absl::StatusOr<std::string> Tokenize(const Serving& serving, HttpExchange& exchange) {
  const absl::StatusOr<Json> body = ReadJson(exchange);
  if (!body.ok()) return body.status();
  const absl::StatusOr<TokenizeRequest> request = ParseTokenizeRequest(*body);
  if (!request.ok()) return request.status();
  if (absl::Status status = serving.CheckModel(request->model); !status.ok()) return status;
  absl::Status effort = CheckReasoningEffort(request->reasoning_effort, serving);
  if (!effort.ok()) return effort;
  const absl::StatusOr<std::vector<int32_t>> ids = serving.Tokenize(request->prompt);
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
  const std::vector<int64_t> ids = fields.Integers("tokens", serving.max_detokenized());
  if (!fields.status().ok()) return fields.status();
  if (absl::Status status = serving.CheckModel(model); !status.ok()) return status;
  absl::StatusOr<std::string> text = serving.Detokenize(ids, /*skip_special_tokens=*/false);
  if (text.ok()) {
    std::string body = Dump({{"prompt", *std::move(text)}});
    absl::Status size = CheckReplySize(body.size(), serving.config());
    if (!size.ok()) return size;
    return body;
  }
  if (!absl::IsInvalidArgument(text.status())) return text.status();
  return RenameField(text.status(), "tokens");
}

Json ModelEntry(const OpenAiContext& context, const std::string& name) {
  return {{"id", name},
          {"object", "model"},
          {"created", context.start_time},
          {"owned_by", "baram"},
          {"root", context.serving.model_root()},
          {"parent", nullptr},
          {"max_model_len", context.serving.info().max_model_len},
          {"permission", Json::array()}};
}

absl::StatusOr<std::string> ListModels(const OpenAiContext& context, const HttpRequest&) {
  Json list = Json::array();
  for (const std::string& name : context.serving.served_names()) {
    list.push_back(ModelEntry(context, name));
  }
  return Dump({{"object", "list"}, {"data", std::move(list)}});
}

absl::StatusOr<std::string> FindModel(const OpenAiContext& context, const HttpRequest& request) {
  const std::string name = request.path.substr(sizeof("/v1/models/") - 1);
  if (name.empty()) return ListModels(context, request);  // as clients join a base URL's slash
  const std::vector<std::string>& served = context.serving.served_names();
  if (std::find(served.begin(), served.end(), name) == served.end()) {
    return UnknownModel(name, served);
  }
  return Dump(ModelEntry(context, name));
}

absl::StatusOr<std::string> NoResponses(const OpenAiContext&, const HttpRequest&) {
  return absl::NotFoundError("/v1/responses is not served yet; use /v1/chat/completions.");
}

}  // namespace

std::string ListenerErrorBody(const HttpError& error) {
  return OpenAiError(error.status, error.message, "");
}

std::vector<HttpRoute> OpenAiRoutes(const OpenAiContext& context) {
  std::vector<HttpRoute> routes;
  const auto add = [&](const char* method, std::string path, auto answer) {
    routes.push_back({method, std::move(path), std::move(answer)});
  };
  const auto add_generate = [&](OpenAiEndpoint endpoint, const char* path) {
    add("POST", path, [context, endpoint, path](Exchange exchange) {
      const RouteCall call(context, path, std::move(exchange));
      const Serving::Place place = context.serving.NewPlace();
      if (call.exchange->request().body.size() <= kQuickBodyBytes) {
        return Generate(context, endpoint, call, place, /*on_text_pool=*/false);
      }
      // The body's id is not known yet.
      const std::string_view id = call.exchange->request().Header("x-request-id");
      if (IsRequestId(id)) place->Enter(id);
      OnTextPool(context, call, place,
                 [=] { Generate(context, endpoint, call, place, /*on_text_pool=*/true); });
    });
  };
  // `answer` gives the body or an error; it may take its time on the text pool, and none elsewhere.
  const auto add_short = [&](const char* method, const char* path, auto answer) {
    add(method, path, [context, path, answer](Exchange exchange) {
      const RouteCall call(context, path, std::move(exchange));
      call.Answer(answer(context, call.exchange->request()));
    });
  };
  const auto add_on_pool = [&](const char* path, auto answer) {
    add("POST", path, [context, path, answer](Exchange exchange) {
      const RouteCall call(context, path, std::move(exchange));
      OnTextPool(context, call, context.serving.NewPlace(),
                 [=] { call.Answer(answer(context.serving, *call.exchange)); });
    });
  };
  add_generate(OpenAiEndpoint::kChat, "/v1/chat/completions");
  add_generate(OpenAiEndpoint::kCompletions, "/v1/completions");
  for (const char* method : {"POST", "GET", "DELETE"}) {
    add_short(method, "/v1/responses", NoResponses);
    add_short(method, "/v1/responses/*", NoResponses);
  }
  add_short("GET", "/v1/models", ListModels);
  add_short("GET", "/v1/models/*", FindModel);
  add_on_pool("/tokenize", Tokenize);
  add_on_pool("/detokenize", Detokenize);
  // What machines ask every few seconds leaves no line.
  const auto health = [&lifecycle = context.lifecycle](Exchange exchange) {
    exchange->Respond(lifecycle.ready() ? 200 : 503, {}, "");
  };
  add("GET", "/health", health);
  add("GET", "/ping", health);
  add("POST", "/ping", health);
  add("GET", "/version", [](Exchange exchange) {
    RespondJson(*exchange, {{"version", kVersion}});
  });
  add("GET", "/load", [context](Exchange exchange) {
    RespondJson(*exchange, {{"server_load", context.serving.unfinished()}});
  });
  add("GET", "/metrics",
      [&metrics = context.metrics](Exchange exchange) { AnswerMetrics(*exchange, &metrics); });
  return routes;
}

}  // namespace baram::server
