// GrpcReflection: grpc.reflection.v1 and v1alpha, in bounded memory and without threads. gRPC's own
// service keeps the parsed request of each stream, and a thread.
#ifndef BARAM_SERVER_GRPC_REFLECTION_H_
#define BARAM_SERVER_GRPC_REFLECTION_H_

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

namespace baram::server {

// Describes the messages and services that are linked into this program. Must outlive the gRPC
// server it is registered with.
class GrpcReflection {
 public:
  // Of both versions together, over all connections: people and tools need a few for a moment.
  static constexpr size_t kMaxStreams = 64;
  static constexpr size_t kMaxRequestBytes = 4096;
  // A stream without a request for this long is ended, as is one whose response is not read.
  static constexpr double kIdleS = 60;

  // `services`: what to list, besides its own two.
  explicit GrpcReflection(std::vector<std::string> services, double idle_s = kIdleS);
  ~GrpcReflection();

  // Call before the server is built.
  void Register(grpc::ServerBuilder& builder);
  // Ends every stream, also later ones, with UNAVAILABLE: only their clients would. Thread-safe.
  void EndStreams();

 private:
  class Stream;
  template <typename Rpc>
  class Service;

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Start(
      grpc::CallbackServerContext* context);
  void Forget(Stream* stream);

  const std::vector<std::string> services_;
  const double idle_s_;
  const std::unique_ptr<grpc::Service> v1_, v1alpha_;
  std::mutex mutex_;  // guards what follows
  bool ended_ = false;
  std::unordered_set<Stream*> streams_;  // until gRPC has ended their calls
};

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_REFLECTION_H_
