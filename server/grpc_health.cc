// GrpcHealth: see the header.
#include "server/grpc_health.h"

#include <grpcpp/alarm.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "server/grpc_status.h"
#include "server/grpc_wire.h"

namespace baram::server {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// Ends with `status` at once.
class Refusal final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit Refusal(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

absl::Status TooManyWatches() {
  constexpr int64_t kRetryMs = 10'000;
  return WithFacts(absl::ResourceExhaustedError(
                       absl::StrCat("This server has ", GrpcHealth::kMaxWatches,
                                    " health watches, its limit: use Check, or try again later.")),
                   {.reason = "TOO_MANY_WATCHES", .retry_ms = kRetryMs});
}

// A Check whose answer is on its way. Owns itself until gRPC has called OnDone.
class Answered final : public grpc::ServerUnaryReactor {
 public:
  static Answered* Start(grpc::CallbackServerContext* context, const absl::Status& status,
                         double slow_reader_s) {
    auto call = std::make_shared<Answered>(context);
    call->self_ = call;
    const auto limit = std::chrono::system_clock::now() +
                       std::chrono::duration_cast<std::chrono::system_clock::duration>(
                           std::chrono::duration<double>(slow_reader_s));
    call->patience_.Set(limit, [weak = std::weak_ptr(call)](bool over) {
      const auto call = weak.lock();
      if (over && call) call->Break();
    });
    call->Finish(ToGrpc(status, *context));
    return call.get();
  }

  explicit Answered(grpc::CallbackServerContext* context) : context_(context) {}

  void OnDone() override {
    const std::shared_ptr<Answered> self = std::move(self_);
    std::lock_guard lock(mutex_);
    context_ = nullptr;
  }

 private:
  void Break() {
    std::lock_guard lock(mutex_);
    if (context_ != nullptr) context_->TryCancel();
  }

  std::shared_ptr<Answered> self_;
  grpc::Alarm patience_;
  std::mutex mutex_;
  grpc::CallbackServerContext* context_;  // null once the call is over
};

}  // namespace

// A watch of one name. At most one message is on its way; after it the latest status counts. Owns
// itself until gRPC has called OnDone. gRPC calls none of the reactions within the calls made here,
// so those may hold the lock.
class GrpcHealth::Watcher final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  Watcher(GrpcHealth& health, Of of) : health_(health), of_(of) {}

  // Requires the mutex.
  void Advance() {
    if (writing_ || finished_) return;
    if (end_) {
      finished_ = true;
      return Finish(*end_);
    }
    const Status status = health_.StatusOf(of_);
    if (status == sent_) return;
    sent_ = status;
    HealthCheckResponse message;
    message.set_status(status);
    message_ = Serialized(message);
    writing_ = true;
    StartWrite(&message_);
  }
  // Requires the mutex.
  void End(const grpc::Status& status) {
    if (!end_) end_ = status;
    Advance();
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard lock(health_.mutex_);
    writing_ = false;
    if (!ok && !end_) end_ = grpc::Status::CANCELLED;
    Advance();
  }
  void OnCancel() override {
    std::lock_guard lock(health_.mutex_);
    End(grpc::Status::CANCELLED);
  }
  void OnDone() override {
    {
      std::lock_guard lock(health_.mutex_);
      health_.watchers_.erase(this);
    }
    delete this;
  }

 private:
  GrpcHealth& health_;
  const Of of_;
  grpc::ByteBuffer message_;  // the last one
  std::optional<Status> sent_;
  std::optional<grpc::Status> end_;
  bool writing_ = false, finished_ = false;
};

void GrpcHealth::Set(bool ready, bool live) {
  std::lock_guard lock(mutex_);
  ready_ = ready;
  live_ = live;
  started_ = started_ || ready;
  for (Watcher* const watcher : watchers_) watcher->Advance();
}

void GrpcHealth::EndWatches() {
  std::lock_guard lock(mutex_);
  ended_ = true;
  const grpc::Status status(grpc::StatusCode::UNAVAILABLE, std::string(GoingDown().message()));
  for (Watcher* const watcher : watchers_) watcher->End(status);
}

grpc::ServerUnaryReactor* GrpcHealth::Check(grpc::CallbackServerContext* context,
                                            const grpc::ByteBuffer* request,
                                            grpc::ByteBuffer* response) {
  grpc::ByteBuffer bytes = TakeMessage(request);
  HealthCheckRequest question;
  absl::Status status = ParseMessage(&bytes, kMaxRequestBytes, &question);
  if (status.ok()) {
    HealthCheckResponse answer;
    {
      std::lock_guard lock(mutex_);
      answer.set_status(StatusOf(Meaning(question.service())));
    }
    if (answer.status() == HealthCheckResponse::SERVICE_UNKNOWN) {
      status = absl::NotFoundError("This server has no service of this name.");
    } else {
      *response = Serialized(answer);
    }
  }
  return Answered::Start(context, status, slow_reader_s_);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* GrpcHealth::Watch(grpc::CallbackServerContext* context,
                                                              const grpc::ByteBuffer* request) {
  grpc::ByteBuffer bytes = TakeMessage(request);
  HealthCheckRequest question;
  absl::Status status = ParseMessage(&bytes, kMaxRequestBytes, &question);
  if (status.ok()) {
    std::lock_guard lock(mutex_);
    if (ended_) {
      status = GoingDown();
    } else if (watchers_.size() >= kMaxWatches) {
      status = TooManyWatches();
    } else {
      auto* const watcher = new Watcher(*this, Meaning(question.service()));
      watchers_.insert(watcher);
      watcher->Advance();
      return watcher;
    }
  }
  return new Refusal(ToGrpc(status, *context));
}

GrpcHealth::Of GrpcHealth::Meaning(std::string_view service) {
  for (const char* const name : {"", "readiness", "baram.v1.Inference", "baram.v1.Operator"}) {
    if (service == name) return Of::kReady;
  }
  if (service == "liveness") return Of::kLive;
  if (service == "startup") return Of::kStarted;
  return Of::kNothing;
}

GrpcHealth::Status GrpcHealth::StatusOf(Of of) const {
  if (of == Of::kNothing) return HealthCheckResponse::SERVICE_UNKNOWN;
  const bool serving = of == Of::kReady ? ready_ : of == Of::kLive ? live_ : started_;
  return serving ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

}  // namespace baram::server
