// EngineCore: everything of the engine but its threads. Submit and its kin are called from any
// thread, the turns of the step loop by one, the engine thread.
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
  // Takes facts and sizes from `model`, which it does not keep.
  EngineCore(const EngineConfig& config, const LoadedModel& model);

  // --- any thread; see Engine
  absl::StatusOr<std::shared_ptr<Outbox>> Submit(Request request, void* reader);
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
  // One turn of the step loop: takes in, plans, runs, commits, delivers. `run` is given the step
  // that was planned, or null, and returns one that is finished, or null. `clock` is asked at the
  // beginning and when a step is finished. False: nothing was done.
  bool Turn(absl::FunctionRef<SteadyTime()> clock, absl::FunctionRef<Batch*(Batch*)> run);

  // Its parts.
  // Takes in what was submitted, and ends what must end.
  void Intake(SteadyTime now);
  // The next step, or null: as many as the device's depth are in flight, or nothing can run.
  Batch* PlanStep(SteadyTime now);
  void CommitStep(Batch* batch, SteadyTime now);
  // Hands what happened to the reader: one lock. True if anything did.
  bool Deliver(SteadyTime now);
  // Ends everything, accepts nothing more. What is in flight must be committed or dropped
  // afterwards.
  void Stop(SteadyTime now);
  int32_t steps_in_flight() const { return scheduler_.steps_in_flight(); }
  // When the engine thread must turn again by itself.
  SteadyTime next_event() const;
  // Before the engine thread sleeps with nothing in flight: what is left waits for its readers. It
  // is parked until there is work again, and does not stall.
  void Park();
  const Scheduler& scheduler() const { return scheduler_; }
  const PagePool& pool() const { return pool_; }

 private:
  // The requests of an id lie side by side, the parts of a call too, and are looked up without a
  // copy.
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
  Live::iterator FirstLive(std::string_view id);                         // at or behind that id
  void EndAll(const Finish& finish, SteadyTime now);
  void Unpark(SteadyTime now);  // any thread

  const EngineConfig config_;
  const EngineInfo info_;
  Stats stats_;
  std::shared_ptr<Wakeup> wakeup_ = std::make_shared<Wakeup>();
  TouchedList touched_;

  // A standard mutex, not Abseil's: the thread sanitizer can't see into the distribution's Abseil.
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
  std::atomic<int64_t> progress_;  // SteadyTime ticks of the last step, or of work's arrival

  // The engine thread's.
  PagePool pool_;
  Scheduler scheduler_;
  std::vector<std::unique_ptr<LiveRequest>> taken_;
  std::vector<std::unique_ptr<Batch>> batches_;
  std::vector<Batch*> free_batches_;
  std::vector<std::shared_ptr<Outbox>> changed_;
};

}  // namespace baram

#endif  // BARAM_ENGINE_CORE_H_
