// OpenAiCall: an HTTP call of a route that is logged, from its arrival to its log line.
#ifndef BARAM_SERVER_OPENAI_CALL_H_
#define BARAM_SERVER_OPENAI_CALL_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/steady_time.h"
#include "server/call_log.h"
#include "server/http_server.h"
#include "server/openai_request.h"
#include "server/serving.h"

namespace baram::server {

// Copies are the same call. `serving` and `log` must outlive it.
struct OpenAiCall {
  // `route` is from a fixed set.
  OpenAiCall(Serving& serving, CallLog& log, const char* route,
             std::shared_ptr<HttpExchange> exchange);

  // Answers with a JSON body, or with an error under the names of a completions call.
  void Answer(absl::StatusOr<std::string> body) const;
  // Answers with an error. `id` is the request's.
  void Fail(const absl::Status& status, OpenAiEndpoint endpoint, const std::string& id) const;

  // For callers that answer by themselves: what is known now,
  CallRecord Record(const std::string& id) const;
  // and for the end of the answer, the log line.
  OnHttpEnd Ended(int code, CallRecord record) const;

  Serving& serving;
  CallLog& log;
  const char* const route;
  const std::shared_ptr<HttpExchange> exchange;
  const SteadyTime arrival;  // when the request had arrived completely
  const Serving::Place place;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_CALL_H_
