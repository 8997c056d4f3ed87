// GrpcServer: listening, limits, health and reflection.
#include "server/grpc_server.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "server/library_log.h"
#include "server/setting_values.h"

namespace baram::server {
namespace {

// Dead peers are detected within 40 s. Clients may ping every 10 s, with or without calls: the
// library's own limit is 5 min, which disconnects clients that keep a connection open through a
// proxy.
constexpr int kKeepaliveMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 10'000;
constexpr int kMinClientPingMs = 10'000;
// Connections without calls are closed after half an hour: clients reconnect by themselves.
constexpr int kMaxIdleMs = 1'800'000;
// From a connection's start to its client's first frame.
constexpr int kHandshakeMs = 10'000;

// What half-sent requests may hold, over all connections.
int64_t HalfSentBytes(const Config& config) {
  return std::max<int64_t>(128 << 20, kRequestsAtOnce / 2 * config.max_body_bytes);
}

// The memory that the library may use for incomplete requests, which have no deadline, and for its
// connections (read buffers, windows). Past it the library reads less from each client, then ends
// idle connections and calls of any client; so it is far above what Http2Guard lets clients use.
size_t MemoryBytes(const Config& config) {
  constexpr size_t kConnectionBytes = size_t{64} << 10;
  return static_cast<size_t>(config.max_connections) * kConnectionBytes +
         static_cast<size_t>(2 * HalfSentBytes(config));
}

// The library checks the limit against a message's compressed size, and decompresses without one.
void RefuseCompression(grpc::ServerBuilder& builder) {
  for (const auto algorithm : {GRPC_COMPRESS_DEFLATE, GRPC_COMPRESS_GZIP}) {
    builder.SetCompressionAlgorithmSupportStatus(algorithm, false);
  }
  // Nor should it decompress the messages of a call that is being refused.
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
}

}  // namespace

GrpcServer::GrpcServer(ListeningSockets sockets, Serving& serving, Lifecycle& lifecycle,
                       CallLog& log)
    : unread_(kLargestUnread * serving.config().max_reply_bytes),
      inference_({serving, log, unread_}),
      operator_unread_(kLargestUnread * serving.config().max_reply_bytes),
      operator_({serving, log, operator_unread_}, lifecycle),
      health_(serving.config().slow_reader_s, serving.config().max_connections),
      reflection_({v1::Inference::service_full_name(), v1::Operator::service_full_name(),
                   grpc::health::v1::Health::service_full_name()}),
      address_(sockets.address()),
      acceptor_(std::move(sockets)) {}

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Listen(ListeningSockets sockets,
                                                               Serving& serving,
                                                               Lifecycle& lifecycle, CallLog& log,
                                                               const Config& config,
                                                               int32_t max_closing) {
  // For example about the field of a client's message that is not UTF-8. They would go to stderr
  // and block on its reader.
  RedirectLibraryLogs();
  std::unique_ptr<GrpcServer> server(new GrpcServer(std::move(sockets), serving, lifecycle, log));
  grpc::ServerBuilder builder;
  server->acceptor_.Register(builder);
  builder.RegisterService(&server->inference_);
  builder.RegisterService(&server->operator_);
  builder.RegisterService(&server->health_);
  server->reflection_.Register(builder);
  builder.SetMaxReceiveMessageSize(static_cast<int>(config.max_body_bytes));
  builder.SetResourceQuota(grpc::ResourceQuota("baram").Resize(MemoryBytes(config)));
  RefuseCompression(builder);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, config.max_streams);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, config.max_header_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kMaxIdleMs);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinClientPingMs);
  server->server_ = builder.BuildAndStart();
  if (!server->server_) return absl::InternalError("gRPC can't start its server.");
  server->SetHealth(/*ready=*/false, /*live=*/true);
  const absl::Status accepts = server->acceptor_.Start(
      config.max_connections, max_closing,
      {.max_header_bytes = config.max_header_bytes,
       .max_streams = config.max_streams,
       .max_half_sent_bytes = HalfSentBytes(config)},
      [&log](const char* reason) {
        log.RecordRefused("grpc", "UNAVAILABLE", reason, std::chrono::steady_clock::now());
      });
  if (!accepts.ok()) return accepts;
  return server;
}

GrpcServer::~GrpcServer() { Shutdown(std::chrono::steady_clock::now()); }

void GrpcServer::Shutdown(SteadyTime deadline) {
  if (!server_) return;
  acceptor_.Stop();
  health_.EndWatches();
  reflection_.EndStreams();
  const auto left = deadline - std::chrono::steady_clock::now();
  server_->Shutdown(std::chrono::system_clock::now() +
                    std::chrono::duration_cast<std::chrono::system_clock::duration>(left));
  server_.reset();  // waits for gRPC's remaining work
}

}  // namespace baram::server
