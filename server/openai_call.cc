// OpenAiCall: see the header.
#include "server/openai_call.h"

#include <chrono>
#include <utility>

#include "server/openai_errors.h"

namespace baram::server {

OpenAiCall::OpenAiCall(Serving& serving, CallLog& log, const char* route,
                       std::shared_ptr<HttpExchange> exchange)
    : serving(serving),
      log(log),
      route(route),
      exchange(std::move(exchange)),
      arrival(std::chrono::steady_clock::now()),
      place(serving.NewPlace()) {}

void OpenAiCall::Answer(absl::StatusOr<std::string> body) const {
  const std::string& id = exchange->request().id;
  if (!body.ok()) return Fail(body.status(), OpenAiEndpoint::kCompletions, id);
  exchange->Respond(200, {{"Content-Type", "application/json"}}, *std::move(body),
                    Ended(200, Record(id)));
}

void OpenAiCall::Fail(const absl::Status& status, OpenAiEndpoint endpoint,
                      const std::string& id) const {
  const absl::Status told = InJsonNames(status, endpoint);
  CallRecord record = Record(id);
  record.SetError(told);
  RespondOpenAiError(*exchange, told, id, Ended(HttpStatusOf(told), std::move(record)));
}

CallRecord OpenAiCall::Record(const std::string& id) const {
  CallRecord record;
  record.method = route;
  record.request_id = id;
  record.peer = exchange->request().peer;
  record.total_s = SecondsSince(arrival);
  return record;
}

OnHttpEnd OpenAiCall::Ended(int code, CallRecord record) const {
  return [&log = log, arrival = arrival, code, record = std::move(record)](HttpEnd end) {
    CallRecord ended = record;
    ended.total_s = SecondsSince(arrival);
    log.RecordHttp(std::move(ended), code, end);
  };
}

}  // namespace baram::server
