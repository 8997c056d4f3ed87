// Probes: the routes of the operator's listener: /metrics, /startup, /ready, /live.
#ifndef BARAM_SERVER_PROBES_H_
#define BARAM_SERVER_PROBES_H_

#include <atomic>
#include <vector>

#include "server/http_server.h"
#include "server/lifecycle.h"
#include "server/metrics.h"

namespace baram::server {

// That listener's routes; both references must outlive it. `metrics` is null while the model loads.
std::vector<HttpRoute> ProbeRoutes(const Lifecycle& lifecycle,
                                   const std::atomic<const Metrics*>& metrics);

// Answers /metrics, about 40 KB of text; 503 while there are none (null).
void AnswerMetrics(HttpExchange& exchange, const Metrics* metrics);

}  // namespace baram::server

#endif  // BARAM_SERVER_PROBES_H_
