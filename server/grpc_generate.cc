// The reactors of Generate and GenerateOnce.
//
// Three kinds of threads meet in a reactor: the text pool's (accepted or refused, long chunks),
// delivery's (chunks) and gRPC's (written, cancelled, done). An accepted call always ends with its
// last chunk, whatever happens to its client: cancelling only makes that chunk come soon. Delivery
// keeps watching a client that does not read until OnDone, which deletes the reactor: after Finish
// only delivery may touch it.
#include "server/grpc_generate.h"

#include <mutex>
#include <optional>
#include <utility>

#include "server/errors.h"
#include "server/grpc_context.h"
#include "server/grpc_generate_call.h"
#include "server/grpc_reply.h"
#include "server/grpc_wire.h"

namespace baram::server {
namespace {

class GenerateStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer>, public ReplySink {
 public:
  GenerateStream(const GrpcCalls& calls, grpc::CallbackServerContext* context,
                 const grpc::ByteBuffer* request)
      : call_(calls, "Generate", context, request) {
    call_.Start(this, [this](const absl::Status& status) { Finish(call_.End(status)); });
  }

  // --- delivery thread
  bool Write(ReplyChunk chunk) override {
    call_.Note(chunk);
    {
      std::lock_guard lock(mutex_);
      if (chunk.last) final_ = chunk.status;
      writing_ = true;
    }
    call_.Bring(std::move(chunk), [this](ReplyChunk taken) { OnChunk(std::move(taken)); });
    return true;
  }

  void Break(absl::Status status, const UsageEvent& so_far) override {
    call_.NoteBroken(so_far);
    {
      std::lock_guard lock(mutex_);
      broken_ = status;
      // The pending write then fails, and finishes the call; a finishing call ends too.
      if (writing_ || final_) return call_.Break(status);
    }
    Finish(call_.End(status));
  }

  // --- gRPC's threads
  void OnWriteDone(bool ok) override {
    bool more = false;
    {
      std::lock_guard lock(mutex_);
      more = ok && !broken_ && more_;
    }
    if (more) {
      call_.reply().Progressed(static_cast<int64_t>(message_.Length()));
      return WriteNext();
    }
    if (!ok) call_.Cancel();
    Written();
  }
  void OnCancel() override { call_.Cancel(); }
  void OnDone() override {
    call_.Over();
    delete this;
  }

 private:
  // Only one write is ever in flight, so what is touched here belongs to the caller. No buffer
  // hints: with them gRPC 1.51 may hold back a stream's last messages until the next keep-alive
  // ping.
  void OnChunk(ReplyChunk chunk) {
    messages_.emplace(call_.Messages(std::move(chunk)));
    MakeNext();
    if (more_) return WriteNext();
    Written();
  }
  void MakeNext() {
    v1::GenerateResponse message;
    more_ = messages_->Next(&message);
    if (more_) next_ = Serialized(message);
  }
  void WriteNext() {
    message_.Swap(&next_);
    MakeNext();
    if (!more_ && final_) {
      StartWriteAndFinish(&message_, grpc::WriteOptions(), call_.End(*final_));
    } else {
      StartWrite(&message_);
    }
  }
  // The chunk is sent, or can't be.
  void Written() {
    std::optional<absl::Status> end;
    {
      std::lock_guard lock(mutex_);
      writing_ = false;
      end = broken_ ? broken_ : final_;
    }
    if (end) {
      Finish(call_.End(*end));
    } else {
      call_.reply().WriteDone();
    }
  }

  GenerateCall call_;
  // Touched only by the thread that makes the one write.
  std::optional<ChunkMessages> messages_;  // of the chunk being written
  grpc::ByteBuffer message_, next_;        // in flight, and the one after it
  bool more_ = false;                      // next_ holds a message

  std::mutex mutex_;      // guards what follows
  bool writing_ = false;  // a chunk is being converted, or a message is in flight
  std::optional<absl::Status> final_, broken_;
};

// What response_ takes of a message.
int64_t KeptBytes(const v1::GenerateResponse& message) {
  const auto ids = message.prompt().token_ids_size() + message.delta().token_ids_size();
  size_t bytes = message.delta().text().size() + sizeof(uint32_t) * static_cast<size_t>(ids);
  for (const auto* scores : {&message.prompt().logprobs(), &message.delta().logprobs()}) {
    for (const v1::TokenLogprob& score : *scores) bytes += score.SpaceUsedLong();
  }
  return static_cast<int64_t>(bytes);
}

class GenerateUnary final : public grpc::ServerUnaryReactor, public ReplySink {
 public:
  GenerateUnary(const GrpcCalls& calls, grpc::CallbackServerContext* context,
                const grpc::ByteBuffer* request, grpc::ByteBuffer* response)
      : call_(calls, "GenerateOnce", context, request),
        all_kept_(calls.serving.kept()),
        all_unread_(calls.unread),
        answer_(response),
        max_bytes_(calls.serving.config().max_reply_bytes) {
    call_.Start(
        this, [this](const absl::Status& status) { Finish(call_.End(status)); },
        OneMessage{.max_bytes = max_bytes_,
                   .setting = "--max-reply-bytes",
                   .instead = "use Generate, which sends them in several messages, or "});
  }

  // --- delivery thread
  bool Write(ReplyChunk chunk) override {
    call_.Note(chunk);
    const bool last = chunk.last;
    call_.Bring(std::move(chunk), [this](ReplyChunk taken) { OnChunk(std::move(taken)); });
    return last;
  }
  // All chunks but the last are consumed at once, so what stalls is the whole reply.
  void Break(absl::Status status, const UsageEvent& so_far) override {
    call_.NoteBroken(so_far);
    call_.Break(status);
  }

  // --- gRPC's threads
  void OnCancel() override { call_.Cancel(); }
  void OnDone() override {
    call_.Over();
    delete this;
  }

 private:
  // Once the reply exceeds its limit, or is cut off, the rest is discarded until the request has
  // ended.
  void OnChunk(ReplyChunk chunk) {
    const bool last = chunk.last;
    const absl::Status status = chunk.status;
    if (!kept_) {
      kept_.emplace(all_kept_);
      kept_->OnCut([reply = call_.reply().shared_from_this()] { reply->Cancel(); });
    }
    ChunkMessages messages = call_.Messages(std::move(chunk));
    v1::GenerateResponse message;
    while (!too_large_ && !kept_->cut() && messages.Next(&message)) {
      Add(message);
      message.Clear();
    }
    if (!last) return call_.reply().WriteDone();
    const absl::Status end = EndOf(status);
    if (end.ok()) {
      *answer_ = Serialized(response_);
      const auto bytes = static_cast<int64_t>(answer_->Length());
      unread_.emplace(all_unread_, bytes, call_.metadata_bytes(),
                      [this] { call_.Break(SlowReader()); });
      call_.reply().WriteBegins(/*unseen_bytes=*/bytes);
    }
    response_ = {};
    kept_.reset();
    Finish(call_.End(end));
  }

  // Reports the size if that is why it was cancelled.
  absl::Status EndOf(const absl::Status& status) const {
    if (too_large_) {
      return ReplyTooLarge(max_bytes_,
                           "ask for less, or use Generate, which sends several messages");
    }
    return kept_->cut() ? TooMuchKept("use Generate, which streams") : status;
  }

  void Add(v1::GenerateResponse& message) {
    if (message.has_prompt()) {
      response_.mutable_prompt()->MergeFrom(message.prompt());
    } else if (message.has_delta()) {
      v1::GenerateOnceResponse::Output* output = At(message.delta().index());
      output->mutable_text()->append(message.delta().text());
      output->mutable_token_ids()->MergeFrom(message.delta().token_ids());
      output->mutable_logprobs()->MergeFrom(message.delta().logprobs());
    } else if (message.has_finish()) {
      *At(message.finish().index())->mutable_finish() = message.finish();
    } else if (message.has_usage()) {
      *response_.mutable_usage() = message.usage();
    }
    kept_->Add(KeptBytes(message));
    // The sum over messages overestimates the reply, and the more messages the more so. What counts
    // is the reply's own size; it is computed only when the sum exceeds the limit.
    bytes_ += static_cast<int64_t>(message.ByteSizeLong());
    if (bytes_ <= max_bytes_) return;
    bytes_ = static_cast<int64_t>(response_.ByteSizeLong());
    too_large_ = bytes_ > max_bytes_;
    if (too_large_) call_.reply().Cancel();
  }

  v1::GenerateOnceResponse::Output* At(uint32_t index) {
    while (static_cast<uint32_t>(response_.outputs_size()) <= index) {
      const auto next = static_cast<uint32_t>(response_.outputs_size());
      response_.add_outputs()->set_index(next);
    }
    return response_.mutable_outputs(static_cast<int>(index));
  }

  GenerateCall call_;
  KeptAnswers& all_kept_;
  UnreadAnswers& all_unread_;
  grpc::ByteBuffer* const answer_;
  v1::GenerateOnceResponse response_;  // so far
  const int64_t max_bytes_;
  int64_t bytes_ = 0;  // of the reply, slightly overestimated
  bool too_large_ = false;
  std::optional<KeptAnswers::One> kept_;      // from the first chunk to the last
  std::optional<UnreadAnswers::One> unread_;  // after that
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartGenerate(const GrpcCalls& calls,
                                                          grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer* request) {
  return new GenerateStream(calls, context, request);
}

grpc::ServerUnaryReactor* StartGenerateOnce(const GrpcCalls& calls,
                                            grpc::CallbackServerContext* context,
                                            const grpc::ByteBuffer* request,
                                            grpc::ByteBuffer* response) {
  return new GenerateUnary(calls, context, request, response);
}

}  // namespace baram::server
