// The limits of the HTTP listeners.
#include "server/listener_limits.h"

#include <algorithm>
#include <cstdint>

namespace baram::server {
namespace {

// Seconds for a probe to ask, which takes one line, and for each part of an answer to be read:
// silent connections keep no others out.
constexpr double kProbeS = 5;

// How many HTTP answers of maximum size may be in flight.
constexpr int64_t kAnswersAtOnce = 32;

}  // namespace

HttpLimits CallLimits(const Config& config, const ConnectionShares& shares) {
  HttpLimits limits;
  limits.max_body_bytes = config.max_body_bytes;
  limits.max_bodies_bytes =
      std::max(limits.max_bodies_bytes, kRequestsAtOnce * config.max_body_bytes);
  limits.max_answers_bytes =
      std::max<int64_t>(256 << 20, kAnswersAtOnce * config.max_http_reply_bytes);
  limits.max_header_bytes = config.max_header_bytes;
  limits.max_connections = shares.calls;
  limits.max_refused = shares.refused;
  limits.write_s = config.slow_reader_s;
  // A half-sent request's client is told so, and has the remaining time to read that.
  limits.closing_s = std::chrono::duration<double>(kLastWords).count() - HttpServer::kLingerS;
  return limits;
}

HttpLimits ProbeLimits(const Config& config, const ConnectionShares& shares) {
  HttpLimits limits = CallLimits(config, shares);
  limits.max_connections = shares.probes;
  limits.first_idle_s = limits.request_s = limits.write_s = kProbeS;
  return limits;
}

}  // namespace baram::server
