// Probes: three truths about the process and its metrics.
#include "server/probes.h"

namespace baram::server {
namespace {

ProbeAnswer Truth(bool value) { return {value ? 200 : 503, "text/plain", value ? "ok\n" : "no\n"}; }

}  // namespace

ProbeAnswer AnswerProbe(std::string_view path, const Lifecycle& lifecycle, const Metrics* metrics) {
  if (path == "/metrics" && metrics == nullptr) return {503, "text/plain", "loading\n"};
  if (path == "/metrics") return {200, Metrics::kContentType, metrics->Text()};
  if (path == "/startup") return Truth(lifecycle.started());
  if (path == "/ready") return Truth(lifecycle.ready());
  if (path == "/live") return Truth(lifecycle.live());
  return {};
}

}  // namespace baram::server
