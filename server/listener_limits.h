// The limits of the HTTP listeners, as they follow from the configuration.
#ifndef BARAM_SERVER_LISTENER_LIMITS_H_
#define BARAM_SERVER_LISTENER_LIMITS_H_

#include <chrono>

#include "server/descriptors.h"
#include "server/http_server.h"
#include "server/settings.h"

namespace baram::server {

// The time after the drain limit for the last chunks to reach their clients.
inline constexpr auto kLastWords = std::chrono::seconds(2);

// Of the listener for calls.
HttpLimits CallLimits(const Config& config, const ConnectionShares& shares);
// Of the metrics listener, which the probes ask.
HttpLimits ProbeLimits(const Config& config, const ConnectionShares& shares);

}  // namespace baram::server

#endif  // BARAM_SERVER_LISTENER_LIMITS_H_
