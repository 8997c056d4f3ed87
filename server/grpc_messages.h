// The request half of baram.v1: messages as native calls. Replies are in grpc_reply.h.
#ifndef BARAM_SERVER_GRPC_MESSAGES_H_
#define BARAM_SERVER_GRPC_MESSAGES_H_

#include "absl/status/statusor.h"
#include "baram/v1/inference.pb.h"
#include "server/call.h"

namespace baram::server {

// Fields as they are; serving checks them.
absl::StatusOr<Call> ToCall(const v1::GenerateRequest& request);
absl::StatusOr<ChatPrompt> ToChatPrompt(const v1::Chat& chat);

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_MESSAGES_H_
