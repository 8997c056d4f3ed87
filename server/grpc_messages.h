// The request half of baram.v1: messages as native calls. Replies are in grpc_reply.h.
#ifndef BARAM_SERVER_GRPC_MESSAGES_H_
#define BARAM_SERVER_GRPC_MESSAGES_H_

#include <malloc.h>

#include <cstddef>

#include "absl/status/statusor.h"
#include "baram/v1/inference.pb.h"
#include "server/call.h"
#include "server/serving.h"

namespace baram::server {

// Fields as they are; `serving` checks them. Only what could be too large to wait for that is
// refused here: a call then holds little but its prompt.
absl::StatusOr<Call> ToCall(const v1::GenerateRequest& request, const Serving& serving);
absl::StatusOr<ChatPrompt> ToChatPrompt(const v1::Chat& chat);

// Frees what a request holds, once all that is needed of it is elsewhere: gRPC would keep it to the
// end of its call, and what its sender makes of 8 MiB takes 30 times that. gRPC's callbacks get a
// pointer to const of an object that is not, and that is not looked at again.
template <typename Request>
void ReleaseRequest(const Request& request) {
  constexpr size_t kTrimBytes = 1 << 20;  // less costs less than giving it back
  const bool large = request.ByteSizeLong() >= kTrimBytes;
  const_cast<Request&>(request) = Request();
  if (large) malloc_trim(0);
}

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_MESSAGES_H_
