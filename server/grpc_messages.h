// The request half of baram.v1: converts messages to native calls. Replies are in grpc_reply.h.
#ifndef BARAM_SERVER_GRPC_MESSAGES_H_
#define BARAM_SERVER_GRPC_MESSAGES_H_

#include "absl/status/statusor.h"
#include "baram/v1/inference.pb.h"
#include "server/call.h"
#include "server/serving.h"

namespace baram::server {

// Fields are passed on unchecked; `serving` validates them. Only what could be too large to wait
// for that is refused here, so that a queued call holds little besides its prompt.
absl::StatusOr<Call> ToCall(const v1::GenerateRequest& request, const Serving& serving);
absl::StatusOr<ChatPrompt> ToChatPrompt(const v1::Chat& chat);

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_MESSAGES_H_
