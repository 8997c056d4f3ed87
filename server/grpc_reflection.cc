// GrpcReflection's streams; what they answer is in grpc_descriptions.cc.
#include "server/grpc_reflection.h"

#include <grpcpp/alarm.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/errors.h"
#include "server/grpc_descriptions.h"
#include "server/grpc_endings.h"
#include "server/grpc_status.h"
#include "server/grpc_wire.h"

namespace baram::server {
namespace {

using Reactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;
using V1 = grpc::reflection::v1::ServerReflection;
using V1Alpha = grpc::reflection::v1alpha::ServerReflection;

absl::Status TooManyStreams() {
  constexpr int64_t kRetryMs = 1000;
  return WithFacts(absl::ResourceExhaustedError(
                       absl::StrCat("This server has ", GrpcReflection::kMaxStreams,
                                    " reflection streams, its limit: try again later.")),
                   {.reason = "TOO_MANY_REFLECTION_STREAMS", .retry_ms = kRetryMs});
}

std::vector<std::string> WithOwn(std::vector<std::string> services) {
  services.emplace_back(V1::service_full_name());
  services.emplace_back(V1Alpha::service_full_name());
  std::ranges::sort(services);
  return services;
}

}  // namespace

// One request or one response at a time. Owns itself until gRPC has called OnDone; an alarm may
// fire later. gRPC calls none of the reactions within the calls made here, so those may hold the
// lock.
class GrpcReflection::Stream final : public Reactor, public std::enable_shared_from_this<Stream> {
 public:
  Stream(GrpcReflection& owner, grpc::CallbackServerContext* context)
      : owner_(owner), context_(context) {}

  void Begin() {
    self_ = shared_from_this();
    std::lock_guard lock(mutex_);
    Read();
  }
  // Thread-safe.
  void End(const absl::Status& status) {
    std::lock_guard lock(mutex_);
    if (!end_) end_ = status;
    if (!writing_) FinishNow();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return End(absl::OkStatus());  // the client has no more, or the call is over
    grpc::reflection::v1::ServerReflectionRequest request;
    const absl::Status status = ParseMessage(&request_, kMaxRequestBytes, &request);
    if (!status.ok()) return End(status);
    response_ = Serialized(Describe(std::move(request), owner_.services_));
    std::lock_guard lock(mutex_);
    if (finished_) return;
    writing_ = true;
    SetAlarm();
    StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    response_.Clear();
    std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok && !end_) end_ = absl::CancelledError();
    if (end_) return FinishNow();
    Read();
  }
  void OnCancel() override { End(absl::CancelledError()); }
  void OnDone() override {
    owner_.Forget(this);
    const std::shared_ptr<Stream> self = std::move(self_);
  }

 private:
  // Requires the mutex, like the next two.
  void Read() {
    SetAlarm();
    StartRead(&request_);
  }
  void FinishNow() {
    if (std::exchange(finished_, true)) return;
    Finish(ToGrpc(*end_, *context_));
  }
  // Replaces the previous alarm, which may have gone off already.
  void SetAlarm() {
    alarm_.emplace().Set(SystemTimeIn(owner_.idle_s_),
                         [weak = weak_from_this(), alarm = ++alarms_](bool over) {
                           const auto stream = weak.lock();
                           if (over && stream) stream->OnAlarm(alarm);
                         });
  }
  void OnAlarm(int64_t alarm) {
    std::lock_guard lock(mutex_);
    if (alarm != alarms_ || finished_) return;
    if (writing_) return context_->TryCancel();  // nothing can be sent to it
    end_ = absl::DeadlineExceededError(
        absl::StrCat("There was no request for ", owner_.idle_s_, " s: start another stream."));
    FinishNow();
  }

  GrpcReflection& owner_;
  grpc::CallbackServerContext* const context_;  // valid until the call is finished
  std::shared_ptr<Stream> self_;
  grpc::ByteBuffer request_, response_;  // gRPC's from a start until it is done
  std::mutex mutex_;                     // guards what follows
  std::optional<grpc::Alarm> alarm_;
  int64_t alarms_ = 0;  // set so far
  std::optional<absl::Status> end_;
  bool writing_ = false, finished_ = false;
};

// The messages of both versions are the same.
template <typename Rpc>
class GrpcReflection::Service final
    : public Rpc::template WithRawCallbackMethod_ServerReflectionInfo<typename Rpc::Service> {
 public:
  explicit Service(GrpcReflection& owner) : owner_(owner) {}
  Reactor* ServerReflectionInfo(grpc::CallbackServerContext* context) override {
    return owner_.Start(context);
  }

 private:
  GrpcReflection& owner_;
};

GrpcReflection::GrpcReflection(std::vector<std::string> services, double idle_s)
    : services_(WithOwn(std::move(services))),
      idle_s_(idle_s),
      v1_(std::make_unique<Service<V1>>(*this)),
      v1alpha_(std::make_unique<Service<V1Alpha>>(*this)) {}

GrpcReflection::~GrpcReflection() = default;

void GrpcReflection::Register(grpc::ServerBuilder& builder) {
  builder.RegisterService(v1_.get());
  builder.RegisterService(v1alpha_.get());
}

void GrpcReflection::EndStreams() {
  std::lock_guard lock(mutex_);
  ended_ = true;
  for (Stream* const stream : streams_) stream->End(GoingDown());
}

Reactor* GrpcReflection::Start(grpc::CallbackServerContext* context) {
  absl::Status refused;
  {
    std::lock_guard lock(mutex_);
    if (ended_) {
      refused = GoingDown();
    } else if (streams_.size() >= kMaxStreams) {
      refused = TooManyStreams();
    } else {
      const auto stream = std::make_shared<Stream>(*this, context);
      stream->Begin();
      streams_.insert(stream.get());
      return stream.get();
    }
  }
  return new Refused<Reactor>(ToGrpc(refused, *context));
}

void GrpcReflection::Forget(Stream* stream) {
  std::lock_guard lock(mutex_);
  streams_.erase(stream);
}

}  // namespace baram::server
