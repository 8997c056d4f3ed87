// GrpcCalls: what every call of the gRPC services needs.
#ifndef BARAM_SERVER_GRPC_CALLS_H_
#define BARAM_SERVER_GRPC_CALLS_H_

#include "server/call_log.h"
#include "server/serving.h"
#include "server/unread_answers.h"

namespace baram::server {

// All must outlive the services.
struct GrpcCalls {
  Serving& serving;
  CallLog& log;
  UnreadAnswers& unread;  // where answers of one message count
};

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_CALLS_H_
