// EngineCore: the engine without its threads. Submit and the methods next to it are called from any
// thread, those of the step loop by one, the engine thread.
#ifndef BARAM_ENGINE_CORE_H_
#define BARAM_ENGINE_CORE_H_

#include <atomic>
#include <compare>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "engine/batch.h"
#include "engine/config.h"
#include "engine/loaded_model.h"
#include "engine/outbox.h"
#include "engine/page_pool.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/stats.h"
#include "engine/touched_list.h"
#include "engine/wakeup.h"

namespace baram {

class EngineCore {
 public:
  // Copies facts and sizes from `model`, which it does not keep.
  EngineCore(const EngineConfig& config, const LoadedModel& model);

  // --- any thread; see Engine
  absl::StatusOr<std::shared_ptr<Outbox>> Submit(Request request);
  bool Abort(const std::string& id);
  void Drain(SteadyTime limit);
  bool draining() const { return draining_.load(); }
  int64_t unfinished() const { return unfinished_requests_.load(); }
  bool idle() const { return unfinished() == 0; }
  bool alive() const { return alive_.load(); }
  double stalled_s() const;
  const EngineInfo& info() const { return info_; }
  const Stats& stats() const { return stats_; }
  TouchedList& touched() { return touched_; }
  const std::shared_ptr<Wakeup>& wakeup() const { return wakeup_; }

  // --- the engine thread
  // One turn of the step loop: intake, plan, run, commit, deliver. `run` is given the planned step,
  // or null, and returns a finished one, or null. `clock` is called at the beginning and when a
  // step has finished. Returns false if nothing was done.
  bool Turn(absl::FunctionRef<SteadyTime()> clock, absl::FunctionRef<Batch*(Batch*)> run);

  // The parts of a turn.
  // Hands submitted requests to the scheduler, and ends outputs that are due to end.
  void Intake(SteadyTime now);
  // The next step; null if as many are in flight as the device's planning depth, nothing can run,
  // or the device is lost.
  Batch* PlanStep(SteadyTime now);
  void CommitStep(Batch* batch, SteadyTime now);
  // Shows readers what happened. Locks inbox_mutex_ if a request ended, then the touched list if an
  // outbox changed, each once. Returns whether anything happened.
  bool Deliver(SteadyTime now);
  // Ends everything and accepts nothing more. What is in flight must be committed or dropped
  // afterwards.
  void Stop(SteadyTime now);
  int32_t steps_in_flight() const { return scheduler_.steps_in_flight(); }
  // When the engine thread must run a turn even if it is not notified.
  SteadyTime next_event() const;
  // Call before the engine thread sleeps with nothing in flight: what is left waits for its
  // readers. Until there is work again, the engine is parked and stalled_s() is 0.
  void Park();
  const Scheduler& scheduler() const { return scheduler_; }
  const PagePool& pool() const { return pool_; }

 private:
  // Orders the requests of an id next to each other, and the parts of a call within them. The view
  // allows look-ups without a copy.
  struct LiveKeyView {
    std::string_view id;
    uint64_t call_number = 0;
    int32_t part = 0;
    auto operator<=>(const LiveKeyView&) const = default;
  };
  struct LiveKey {
    std::string id;
    uint64_t call_number = 0;
    int32_t part = 0;
    operator LiveKeyView() const { return {id, call_number, part}; }
  };
  struct ByKey {
    using is_transparent = void;
    bool operator()(const LiveKeyView& a, const LiveKeyView& b) const { return a < b; }
  };
  struct LivePart {
    std::shared_ptr<Outbox> outbox;
    bool own_id = false;
  };
  using Live = std::map<LiveKey, LivePart, ByKey>;

  absl::Status Validate(const Request& request) const;
  absl::Status Accepting(const Request& request) const;
  bool AddLive(const Request& request, std::shared_ptr<Outbox> outbox);  // false: the id is taken
  Live::iterator FirstLive(std::string_view id);  // the first at or after that id
  void TakeInbox(SteadyTime now);
  void EndAll(const Finish& finish, SteadyTime now);
  void Unpark(SteadyTime now);  // any thread

  const EngineConfig config_;
  const EngineInfo info_;
  Stats stats_;
  std::shared_ptr<Wakeup> wakeup_ = std::make_shared<Wakeup>();
  TouchedList touched_;

  // std::mutex rather than absl::Mutex: ThreadSanitizer can't see into the distribution's Abseil.
  std::mutex inbox_mutex_;
  std::vector<std::unique_ptr<LiveRequest>> inbox_;  // guarded by inbox_mutex_
  Live live_;                                        // guarded by inbox_mutex_
  std::atomic<bool> inbox_filled_{false};
  std::atomic<int64_t> queued_requests_{0}, queued_tokens_{0};
  std::atomic<int64_t> unfinished_requests_{0};
  std::atomic<bool> draining_{false};
  std::atomic<int64_t> drain_limit_;  // SteadyTime ticks
  std::atomic<bool> alive_{true};
  std::atomic<bool> parked_{true};
  std::atomic<int64_t> progress_;  // SteadyTime ticks; when a step last finished, or work arrived

  // Used by the engine thread only.
  PagePool pool_;
  Scheduler scheduler_;
  std::vector<std::unique_ptr<LiveRequest>> taken_;
  std::vector<std::unique_ptr<Batch>> batches_;
  std::vector<Batch*> free_batches_;
  std::vector<std::shared_ptr<Outbox>> changed_;
};

}  // namespace baram

#endif  // BARAM_ENGINE_CORE_H_
