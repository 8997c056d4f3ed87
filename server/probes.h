// Probes: what the operator's listener answers: /metrics, /startup, /ready, /live.
#ifndef BARAM_SERVER_PROBES_H_
#define BARAM_SERVER_PROBES_H_

#include <atomic>
#include <vector>

#include "server/http_server.h"
#include "server/lifecycle.h"
#include "server/metrics.h"

namespace baram::server {

// The routes of that listener; both references must outlive it. `metrics` is null while the model
// loads.
std::vector<HttpRoute> ProbeRoutes(const Lifecycle& lifecycle,
                                   const std::atomic<const Metrics*>& metrics);

// Answers /metrics, some 40 KB of text: 503 if there are none yet (null).
void AnswerMetrics(HttpExchange& exchange, const Metrics* metrics);

}  // namespace baram::server

#endif  // BARAM_SERVER_PROBES_H_
