// The reactors of Generate and GenerateOnce: between gRPC's threads and the delivery thread.
#ifndef BARAM_SERVER_GRPC_GENERATE_H_
#define BARAM_SERVER_GRPC_GENERATE_H_

#include <grpcpp/grpcpp.h>

#include "baram/v1/inference.pb.h"
#include "server/call_log.h"
#include "server/serving.h"
#include "server/unread_answers.h"

namespace baram::server {

// Start the call and release `request`. A whole answer counts among `unread`. The reactors own
// themselves until gRPC has called OnDone.
grpc::ServerWriteReactor<v1::GenerateResponse>* StartGenerate(Serving& serving, CallLog& log,
                                                              grpc::CallbackServerContext* context,
                                                              const v1::GenerateRequest* request);
grpc::ServerUnaryReactor* StartGenerateOnce(Serving& serving, CallLog& log, UnreadAnswers& unread,
                                            grpc::CallbackServerContext* context,
                                            const v1::GenerateRequest* request,
                                            v1::GenerateOnceResponse* response);

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_GENERATE_H_
