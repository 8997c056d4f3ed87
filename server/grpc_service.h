// The gRPC services of baram.v1, as callback services: no thread waits for a call.
#ifndef BARAM_SERVER_GRPC_SERVICE_H_
#define BARAM_SERVER_GRPC_SERVICE_H_

#include "baram/v1/inference.grpc.pb.h"
#include "baram/v1/operator.grpc.pb.h"
#include "engine/steady_time.h"
#include "server/call_log.h"
#include "server/lifecycle.h"
#include "server/serving.h"
#include "server/unread_answers.h"

namespace baram::server {

// Owned by GrpcServer. gRPC calls its methods on its threads, concurrently; longer work goes to the
// text pool.
class InferenceService final : public v1::Inference::CallbackService {
 public:
  InferenceService(Serving& serving, CallLog& log)
      : serving_(serving), log_(log), unread_(kLargestUnread * serving.config().max_reply_bytes) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* GenerateOnce(grpc::CallbackServerContext* context,
                                         const v1::GenerateRequest* request,
                                         v1::GenerateOnceResponse* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* RenderChat(grpc::CallbackServerContext* context,
                                       const v1::RenderChatRequest* request,
                                       v1::RenderChatResponse* response) override;
  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context,
                                  const v1::AbortRequest* request,
                                  v1::AbortResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;

 private:
  // How many of the largest answers may wait for their readers.
  static constexpr int64_t kLargestUnread = 16;

  Serving& serving_;
  CallLog& log_;
  UnreadAnswers unread_;
};

// Like InferenceService.
class OperatorService final : public v1::Operator::CallbackService {
 public:
  OperatorService(Serving& serving, Lifecycle& lifecycle, CallLog& log);

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const v1::GetServerInfoRequest* request,
                                          v1::GetServerInfoResponse* response) override;
  grpc::ServerUnaryReactor* GetLoad(grpc::CallbackServerContext* context,
                                    const v1::GetLoadRequest* request,
                                    v1::GetLoadResponse* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override;

 private:
  Serving& serving_;
  Lifecycle& lifecycle_;
  CallLog& log_;
  const SteadyTime started_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_SERVICE_H_
