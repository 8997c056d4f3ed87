// The gRPC services of baram.v1, as callback services: no thread waits for a call. Their methods
// take and give bytes (grpc_wire.h).
#ifndef BARAM_SERVER_GRPC_SERVICE_H_
#define BARAM_SERVER_GRPC_SERVICE_H_

#include "baram/v1/inference.grpc.pb.h"
#include "baram/v1/operator.grpc.pb.h"
#include "engine/steady_time.h"
#include "server/call_log.h"
#include "server/grpc_calls.h"
#include "server/lifecycle.h"
#include "server/serving.h"
#include "server/unread_answers.h"

namespace baram::server {

// clang-format off
using RawInference =
    v1::Inference::WithRawCallbackMethod_Generate<
    v1::Inference::WithRawCallbackMethod_GenerateOnce<
    v1::Inference::WithRawCallbackMethod_Tokenize<
    v1::Inference::WithRawCallbackMethod_Detokenize<
    v1::Inference::WithRawCallbackMethod_RenderChat<
    v1::Inference::WithRawCallbackMethod_Abort<
    v1::Inference::WithRawCallbackMethod_ListModels<
    v1::Inference::Service>>>>>>>;
using RawOperator =
    v1::Operator::WithRawCallbackMethod_GetServerInfo<
    v1::Operator::WithRawCallbackMethod_GetLoad<
    v1::Operator::WithRawCallbackMethod_Drain<
    v1::Operator::Service>>>;
// clang-format on

// Owned by GrpcServer. gRPC calls its methods on its threads, concurrently; longer work goes to the
// text pool.
class InferenceService final : public RawInference {
 public:
  explicit InferenceService(const GrpcCalls& calls) : calls_(calls) {}

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* GenerateOnce(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* RenderChat(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;

 private:
  const GrpcCalls calls_;
};

// Like InferenceService.
class OperatorService final : public RawOperator {
 public:
  OperatorService(const GrpcCalls& calls, Lifecycle& lifecycle);

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetLoad(grpc::CallbackServerContext* context,
                                    const grpc::ByteBuffer* request,
                                    grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;

 private:
  const GrpcCalls calls_;
  Lifecycle& lifecycle_;
  const SteadyTime started_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_SERVICE_H_
