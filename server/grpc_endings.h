// How gRPC calls end that are refused at once, or whose answer is not read.
#ifndef BARAM_SERVER_GRPC_ENDINGS_H_
#define BARAM_SERVER_GRPC_ENDINGS_H_

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "server/grpc_context.h"
#include "server/slow_reader.h"
#include "server/unread_answers.h"

namespace baram::server {

// For gRPC's alarms.
inline std::chrono::system_clock::time_point SystemTimeIn(double seconds) {
  using std::chrono::system_clock;
  return system_clock::now() +
         std::chrono::duration_cast<system_clock::duration>(std::chrono::duration<double>(seconds));
}

// A call that ends with `status` at once.
template <typename Reactor>
class Refused final : public Reactor {
 public:
  explicit Refused(const grpc::Status& status) { this->Finish(status); }
  void OnDone() override { delete this; }
};

// The answer of one message that its client has yet to read; a member of its reactor.
class UnreadCall {
 public:
  explicit UnreadCall(grpc::CallbackServerContext* context)
      : state_(std::make_shared<State>(context)) {}

  // Call before Finish, with the bytes of the answer. It counts among `all` until this is
  // destroyed. The call is ended if it is cut off there, or not read in time.
  void Begin(UnreadAnswers& all, int64_t bytes, double slow_reader_s) {
    unread_.emplace(all, bytes, MetadataBytes(*state_->context),
                    [state = state_] { state->Break(); });
    patience_.Set(SystemTimeIn(PatienceFor(static_cast<double>(bytes), slow_reader_s)),
                  [state = state_](bool over) {
                    if (over) state->Break();
                  });
  }
  // Call in OnDone. Returns whether the call was ended for that.
  bool Over() {
    std::lock_guard lock(state_->mutex);
    state_->over = true;
    return state_->broken;
  }

 private:
  // Shared with the alarm, which may fire concurrently with OnDone.
  struct State {
    explicit State(grpc::CallbackServerContext* context) : context(context) {}
    void Break() {
      std::lock_guard lock(mutex);
      if (over) return;
      broken = true;
      context->TryCancel();
    }

    grpc::CallbackServerContext* const context;
    std::mutex mutex;  // guards what follows
    bool over = false, broken = false;
  };

  const std::shared_ptr<State> state_;
  grpc::Alarm patience_;
  std::optional<UnreadAnswers::One> unread_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_GRPC_ENDINGS_H_
