// The reactors of Generate and GenerateOnce: between gRPC's threads and the delivery thread.
#ifndef BARAM_SERVER_GRPC_GENERATE_H_
#define BARAM_SERVER_GRPC_GENERATE_H_

#include <grpcpp/grpcpp.h>

#include "server/grpc_calls.h"

namespace baram::server {

// Start the call and take its message. A whole answer counts as unread until it is read. The
// reactors own themselves until gRPC has called OnDone.
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartGenerate(const GrpcCalls& calls,
                                                          grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer* request);
grpc::ServerUnaryReactor* StartGenerateOnce(const GrpcCalls& calls,
                                            grpc::CallbackServerContext* context,
                                            const grpc::ByteBuffer* request,
                                            grpc::ByteBuffer* response);

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_GENERATE_H_
