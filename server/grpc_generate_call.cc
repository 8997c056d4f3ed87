// GenerateCall: see the header.
#include "server/grpc_generate_call.h"

#include <utility>

#include "server/errors.h"
#include "server/grpc_messages.h"
#include "server/grpc_status.h"
#include "server/grpc_wire.h"
#include "server/request_id.h"

namespace baram::server {
namespace {

// Chunks with more tokens and alternatives than this are converted on the text pool: that takes a
// millisecond, and the delivery thread has all other replies to serve.
constexpr size_t kQuickEntries = 4096;

size_t EntriesOf(const ReplyChunk& chunk) {
  const auto of = [](const std::vector<TokenResult>& tokens) {
    return tokens.empty() ? 0 : tokens.size() * (1 + static_cast<size_t>(tokens[0].top_count));
  };
  size_t entries = chunk.prompt ? of(chunk.prompt->scores) : 0;
  for (const DeltaEvent& delta : chunk.deltas) entries += of(delta.tokens);
  return entries;
}

}  // namespace

GenerateCall::GenerateCall(const GrpcCalls& calls, const char* method,
                           grpc::CallbackServerContext* context, const grpc::ByteBuffer* request)
    : serving_(calls.serving),
      context_(context),
      logged_(calls.log, method, *context),
      place_(serving_.NewPlace()),
      deadline_(serving_.Deadline(logged_.arrival(), TimeLeft(*context))),
      message_(TakeMessage(request)) {
  // The field identifies one call. Proxies write the metadata, the same into several calls.
  const std::string id = StringField(message_, v1::GenerateRequest::kRequestIdFieldNumber);
  own_id_ = !id.empty();
  if (own_id_) request_id() = id;
  if (request_id().empty()) request_id() = NewRequestId();
}

void GenerateCall::Start(ReplySink* sink, const Refused& refused,
                         std::optional<OneMessage> one_message) {
  if (absl::Status id = CheckRequestId(request_id()); !id.ok()) {
    request_id().clear();  // it would go into the log
    return refused(id);
  }
  context_->AddInitialMetadata(kRequestIdKey, request_id());
  if (ParsesQuickly(message_, *v1::GenerateRequest::descriptor())) {
    return Read(sink, refused, one_message, /*on_text_pool=*/false);
  }
  // A drain waits for the pool, so nothing new enters it during one.
  if (absl::Status no = serving_.CheckAccepting(); !no.ok()) return refused(no);
  place_->Enter(request_id());
  const auto read = [=, this] {
    const absl::Status wanted = serving_.CheckWanted(*place_, deadline_);
    if (!wanted.ok()) return refused(place_->LeaveRefused(wanted));
    Read(sink, refused, one_message, /*on_text_pool=*/true);
  };
  if (serving_.pool().Run(message_.Length(), deadline_, read)) return;
  refused(place_->LeaveRefused(TooManyTexts()));
}

absl::StatusOr<Call> GenerateCall::TakeCall() {
  v1::GenerateRequest request;
  const auto most = static_cast<size_t>(serving_.config().max_body_bytes);
  absl::Status status = ParseMessage(&message_, most, &request);
  if (!status.ok()) return status;
  writer_.emplace(serving_.prompts().tokenizer(), request.output());
  return ToCall(request, serving_);
}

void GenerateCall::Read(ReplySink* sink, const Refused& refused,
                        const std::optional<OneMessage>& one_message, bool on_text_pool) {
  absl::StatusOr<Call> call = TakeCall();
  if (!call.ok()) return refused(place_->LeaveRefused(call.status()));
  call->request_id = request_id();
  call->own_id = own_id_;
  call->one_message = one_message;
  call->arrival = logged_.arrival();
  call->deadline = deadline_;
  const auto done = [this, refused](size_t, absl::StatusOr<Accepted> accepted) {
    if (!accepted.ok()) {
      refused(accepted.status());
      return false;
    }
    std::optional<FinishReason> cancelled;
    std::shared_ptr<Reply> reply = accepted->reply;
    {
      std::lock_guard lock(mutex_);
      prompt_ids_ = std::move(accepted->prompt_ids);
      reply_ = reply;
      cancelled = cancelled_;
    }
    if (cancelled) reply->Cancel(*cancelled);
    return true;
  };
  if (on_text_pool) return serving_.Read(*call, {sink}, done, *place_);
  serving_.Start(*std::move(call), {sink}, done, place_);
}

void GenerateCall::Cancel() {
  const FinishReason why =
      logged_.IsCutByDeadline() ? FinishReason::kDeadline : FinishReason::kCancelled;
  place_->Abandon();
  std::shared_ptr<Reply> reply;
  {
    std::lock_guard lock(mutex_);
    cancelled_ = why;
    reply = reply_;
  }
  if (reply) reply->Cancel(why);
}

grpc::Status GenerateCall::End(const absl::Status& status) {
  logged_.SetStatus(status);
  return ToGrpc(status, *context_);
}

void GenerateCall::Note(const ReplyChunk& chunk) {
  NoteEnds(chunk.ends, &worst_end_);
  if (worst_end_) logged_.record().reason = NameOf(*worst_end_);
  if (chunk.usage) logged_.record().usage = *chunk.usage;
}

void GenerateCall::NoteBroken(const UsageEvent& so_far) {
  std::lock_guard lock(mutex_);
  broken_usage_ = so_far;
}

void GenerateCall::Break(const absl::Status& status) {
  {
    std::lock_guard lock(mutex_);
    broken_ = status;
  }
  context_->TryCancel();
}

void GenerateCall::Over() {
  {
    std::lock_guard lock(mutex_);
    if (broken_) logged_.SetStatus(*broken_);
    if (broken_usage_) logged_.record().usage = *broken_usage_;
  }
  logged_.Record();
  if (reply_) reply_->Over();
}

void GenerateCall::Bring(ReplyChunk chunk, const std::function<void(ReplyChunk)>& on_chunk) const {
  if (EntriesOf(chunk) <= kQuickEntries) return on_chunk(std::move(chunk));
  const auto shared = std::make_shared<ReplyChunk>(std::move(chunk));
  reply_->WriteWaits();
  serving_.pool().RunOutput([shared, on_chunk, reply = reply_] {
    reply->WriteBegins();
    on_chunk(std::move(*shared));
  });
}

ChunkMessages GenerateCall::Messages(ReplyChunk chunk) const {
  return {*writer_, std::move(chunk), logged_.record().request_id, prompt_ids_};
}

}  // namespace baram::server
