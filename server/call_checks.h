// Validates a call, except for its prompts: those are checked as they are read.
#ifndef BARAM_SERVER_CALL_CHECKS_H_
#define BARAM_SERVER_CALL_CHECKS_H_

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "engine/config.h"
#include "server/call.h"
#include "server/settings.h"

namespace baram::server {

// Reports the first invalid field, by its native path.
absl::Status CheckCall(const Call& call, const EngineInfo& model, const Config& config);

// Checks one id of a list that a client sent as `field`.
absl::Status CheckTokenId(std::string_view field, int64_t id, int64_t vocab_size);

}  // namespace baram::server

#endif  // BARAM_SERVER_CALL_CHECKS_H_
