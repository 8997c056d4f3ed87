// Probes: started, ready, live, and the metrics.
#include "server/probes.h"

#include <memory>

namespace baram::server {

void AnswerMetrics(HttpExchange& exchange, const Metrics* metrics) {
  if (metrics == nullptr) {
    exchange.Respond(503, {{"Content-Type", "text/plain"}}, "loading\n");
  } else {
    exchange.Respond(200, {{"Content-Type", Metrics::kContentType}}, metrics->Text());
  }
}

std::vector<HttpRoute> ProbeRoutes(const Lifecycle& lifecycle,
                                   const std::atomic<const Metrics*>& metrics) {
  std::vector<HttpRoute> routes;
  const auto add_truth = [&](const char* path, bool (Lifecycle::*holds)() const) {
    routes.push_back({"GET", path, [&lifecycle, holds](std::shared_ptr<HttpExchange> exchange) {
                        const bool yes = (lifecycle.*holds)();
                        exchange->Respond(yes ? 200 : 503, {{"Content-Type", "text/plain"}},
                                          yes ? "ok\n" : "no\n");
                      }});
  };
  add_truth("/startup", &Lifecycle::started);
  add_truth("/ready", &Lifecycle::ready);
  add_truth("/live", &Lifecycle::live);
  routes.push_back({"GET", "/metrics", [&metrics](std::shared_ptr<HttpExchange> exchange) {
                      AnswerMetrics(*exchange, metrics.load());
                    }});
  return routes;
}

}  // namespace baram::server
