// The OpenAI-compatible HTTP front end: which path does what.
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

// What the routes need; all of it must outlive the listener.
struct OpenAiContext {
  Serving& serving;
  const Lifecycle& lifecycle;
  const Metrics& metrics;
  CallLog& log;
  int64_t start_time = 0;  // Unix time, `created` of the models
};

// /v1/chat/completions, /v1/completions, /v1/models, /tokenize, /detokenize: a line and a count in
// `log` for each call. /health, /ping, /version, /load, /metrics: none, machines ask them for ever.
std::vector<HttpRoute> OpenAiRoutes(const OpenAiContext& context);

// The body of an error the listener itself answers.
std::string ListenerErrorBody(const HttpError& error);

}  // namespace baram::server

#endif  // BARAM_SERVER_OPENAI_H_
