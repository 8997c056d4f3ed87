// GenerateCall: what the reactors of Generate and GenerateOnce have in common, from a call's
// arrival to its log line.
#ifndef BARAM_SERVER_GRPC_GENERATE_CALL_H_
#define BARAM_SERVER_GRPC_GENERATE_CALL_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/steady_time.h"
#include "server/call.h"
#include "server/grpc_calls.h"
#include "server/grpc_context.h"
#include "server/grpc_reply.h"
#include "server/reply.h"
#include "server/reply_events.h"
#include "server/serving.h"

namespace baram::server {

// A member of its reactor. See grpc_generate.cc for the threads.
class GenerateCall {
 public:
  GenerateCall(const GrpcCalls& calls, const char* method, grpc::CallbackServerContext* context,
               const grpc::ByteBuffer* request);

  // Calls `refused` with the reason, after which this may be gone, or has chunks delivered to
  // `sink`. See Call::one_message. Returns at once; a message that takes long to parse is parsed on
  // the text pool.
  using Refused = std::function<void(const absl::Status&)>;
  void Start(ReplySink* sink, const Refused& refused, std::optional<OneMessage> one_message = {});
  // gRPC reports that the call is cancelled.
  void Cancel();

  // The status to finish with; recorded for the log.
  grpc::Status End(const absl::Status& status);
  // What delivery wrote, for the log.
  void Note(const ReplyChunk& chunk);
  // What a call that delivery breaks has used.
  void NoteBroken(const UsageEvent& so_far);
  // Ends a call whose client does not read, even one that is finishing.
  void Break(const absl::Status& status);
  // Called in OnDone: writes the log line and ends the reply.
  void Over();

  // Valid from the first chunk on. Calls on_chunk(chunk), on this thread or, if that takes long, on
  // the text pool.
  void Bring(ReplyChunk chunk, const std::function<void(ReplyChunk)>& on_chunk) const;
  Reply& reply() const { return *reply_; }
  int64_t metadata_bytes() const { return MetadataBytes(*context_); }
  ChunkMessages Messages(ReplyChunk chunk) const;

 private:
  std::string& request_id() { return logged_.record().request_id; }
  // The call, without what is known of it besides its message.
  absl::StatusOr<Call> TakeCall();
  void Read(ReplySink* sink, const Refused& refused, const std::optional<OneMessage>& one_message,
            bool on_text_pool);

  Serving& serving_;
  grpc::CallbackServerContext* const context_;
  LoggedCall logged_;
  const Serving::Place place_;
  const SteadyTime deadline_;
  grpc::ByteBuffer message_;            // until it is parsed
  bool own_id_ = false;                 // the message has a request_id
  std::optional<EventWriter> writer_;   // once the message is parsed
  std::optional<EndReason> worst_end_;  // of what delivery wrote

  std::mutex mutex_;  // guards what follows
  // Constant from the first chunk on:
  std::optional<FinishReason> cancelled_;  // by gRPC, with the reason
  std::shared_ptr<Reply> reply_;
  std::vector<int32_t> prompt_ids_;
  // Guarded at all times:
  std::optional<absl::Status> broken_;
  std::optional<UsageEvent> broken_usage_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_GENERATE_CALL_H_
