// The OpenAI-compatible HTTP front end: the routes.
#ifndef BARAM_SERVER_OPENAI_H_
#define BARAM_SERVER_OPENAI_H_

#include <cstdint>
#include <string>
#include <vector>

#include "server/call_log.h"
#include "server/http_server.h"
#include "server/lifecycle.h"
#include "server/metrics.h"
#include "server/serving.h"

namespace baram::server {

// What the routes use; all of it must outlive the listener.
struct OpenAiContext {
  Serving& serving;
  const Lifecycle& lifecycle;
  const Metrics& metrics;
  CallLog& log;
  int64_t start_time = 0;  // Unix time; `created` of the models
};

// /v1/chat/completions, /v1/completions, /v1/models, /tokenize, /detokenize: one log line and one
// count in `log` per call. /health, /ping, /version, /load, /metrics: none, as machines poll them.
std::vector<HttpRoute> OpenAiRoutes(const OpenAiContext& context);

// The body of an error that the listener itself answers.
std::string ListenerErrorBody(const HttpError& error);

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_H_
