// The request half of baram.v1: converts messages to native calls. Replies are in grpc_reply.h.
#ifndef BARAM_SERVER_GRPC_MESSAGES_H_
#define BARAM_SERVER_GRPC_MESSAGES_H_

#include <malloc.h>

#include <cstddef>

#include "absl/status/statusor.h"
#include "baram/v1/inference.pb.h"
#include "server/call.h"
#include "server/serving.h"

namespace baram::server {

// Fields are passed on unchecked; `serving` validates them. Only what could be too large to wait
// for that is refused here, so that a queued call holds little besides its prompt.
absl::StatusOr<Call> ToCall(const v1::GenerateRequest& request, const Serving& serving);
absl::StatusOr<ChatPrompt> ToChatPrompt(const v1::Chat& chat);

// Frees a request's memory once everything needed is elsewhere: gRPC would keep it until the end of
// the call, and 8 MiB on the wire can take 30 times that in memory. gRPC's callbacks get a pointer
// to const, but the object is not const and is not looked at again.
template <typename Request>
void ReleaseRequest(const Request& request) {
  constexpr size_t kTrimBytes = 1 << 20;  // below this, returning memory costs more than it saves
  const bool large = request.ByteSizeLong() >= kTrimBytes;
  const_cast<Request&>(request) = Request();
  if (large) malloc_trim(0);
}

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_MESSAGES_H_
