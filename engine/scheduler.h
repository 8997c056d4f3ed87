// Scheduler: decides which tokens run in the next step, and takes in what a step brought back.
//
// There is no prefill phase and no decode phase: each sequence catches up to what is known of it,
// in order of rank, within the step's budget. The next token of every running sequence that can use
// it is set aside from the budget first, so that prompts never starve decodes, and what is left for
// prompts beside them is bounded, so that they do not hold them up for long. Who needs a page when
// none is left takes it from a paused sequence, or from the last in rank behind it; that one
// recomputes later (its tokens stay fixed), before anybody behind it in rank is admitted. The first
// in rank can take from everybody, so somebody always gets on.
//
// Engine thread only (I1). Time comes from the caller, which makes it a pure function of its
// inputs.
#ifndef BARAM_ENGINE_SCHEDULER_H_
#define BARAM_ENGINE_SCHEDULER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/batch.h"
#include "engine/page_pool.h"
#include "engine/sequence.h"
#include "engine/stats.h"

namespace baram {

// As EngineConfig, its zeros resolved; max_chunk_tokens 0 still is no limit.
struct SchedulerConfig {
  int32_t max_model_len = 0;
  int32_t max_num_seqs = 0;            // also the device's slots
  int32_t max_num_batched_tokens = 0;  // at least max_num_seqs
  int32_t mixed_step_tokens = 0;
  int32_t max_logit_rows = 0;
  int32_t max_chunk_tokens = 0;
  bool prefix_cache = true;
  bool preempt_every_draw = false;
  double longest_pause_s = 30;
};

// An output that ended. Published by the engine once the request's id is free again.
struct Ending {
  LiveRequest* live = nullptr;
  int32_t index = 0;
  Finish finish;
  bool last = false;  // of its request
};

class Scheduler {
 public:
  // `pool` and `stats` must outlive it.
  Scheduler(const SchedulerConfig& config, PagePool& pool, Stats& stats);

  void Add(std::unique_ptr<LiveRequest> live, SteadyTime now);

  // Ends what was cancelled or stopped (looked for only if `look_at_all`), is past its deadline, or
  // waits for a reader that does not read.
  void Sweep(bool look_at_all, SteadyTime now);
  // Ends every output with `finish`.
  void EndAll(const Finish& finish, SteadyTime now);

  // Fills `batch` with the next step. False: nothing can run now.
  bool Plan(Batch& batch, SteadyTime now);
  // Takes in a step that the device finished. Steps are committed in the order they were planned.
  void Commit(Batch& batch, SteadyTime now);

  // What happened since the caller last cleared them.
  std::vector<Ending>& endings() { return endings_; }
  std::vector<LiveRequest*>& changed() { return changed_; }
  // Requests and prompt tokens that left the queue since the last call, less those that came back:
  // a request of which nothing runs any more waits again.
  struct Departures {
    int64_t requests = 0;
    int64_t tokens = 0;
  };
  Departures TakeDepartures();
  // Destroys requests that ended and have nothing in flight (I3). After their endings were taken.
  void Reap();

  // When Sweep next has something to do by itself.
  SteadyTime next_event() const { return next_event_; }
  int32_t steps_in_flight() const { return steps_in_flight_; }

  // Aborts unless the state is consistent (I2, I3). For tests: visits everything.
  void CheckInvariants() const;
  std::span<const std::unique_ptr<LiveRequest>> requests() const { return requests_; }

 private:
  // What is left of a step's limits while it is planned.
  struct Budget {
    int32_t tokens = 0;  // but for those that are set aside
    int32_t scores = 0;
    int64_t pages_due = 0;  // see PagesDue, of all that run
  };

  // Whom a step still lets in, while it is planned.
  struct Entry {
    bool closed = false;
    Sequence* stuck = nullptr;  // the first that had to stay out, or had no pages to go on
  };

  // What a sequence asks others to give way for.
  enum class Need : uint8_t {
    kRow,        // it runs: pages for its next tokens
    kAdmission,  // it waits, and a slot is free: pages
    kSlot,       // it waits: a slot, and pages
  };

  // --- admission.cc
  bool WaitsForLeader(const Sequence& sequence) const;
  bool Admit(Sequence& sequence, Budget& budget, SteadyTime now);
  PrefixMatch MatchPrefix(const Sequence& sequence);
  int64_t PagesToLeaveFree(const Sequence& sequence, int32_t running) const;
  int64_t PagesDue(const Sequence& sequence) const;
  int64_t PagesDueBeside(const Sequence& sequence, const Budget& budget) const;
  bool Fits(const Sequence& sequence, const PrefixMatch& match, int64_t available,
            int32_t running) const;
  Need AdmissionNeed() const { return free_slots_.empty() ? Need::kSlot : Need::kAdmission; }
  bool PreemptionSuffices(const Sequence& sequence, const Budget& budget);
  void BeginTables(Sequence& sequence);
  void Bind(Sequence& sequence, const PrefixMatch& match, SteadyTime now);

  // --- scheduler.cc: planning
  int32_t groups() const { return pool_.groups(); }
  int32_t BlocksFor(int32_t tokens) const;
  void SweepOutputs(LiveRequest& live, SteadyTime now);
  bool HasRoom(Sequence& sequence, SteadyTime now);
  enum class Progress : uint8_t { kPlanned, kNotNow, kNoPages };
  Sequence* PlanRows(Batch& batch, SteadyTime now);
  bool LetIn(Sequence& sequence, Entry& entry, Budget& budget, SteadyTime now);
  Budget BeginBudget(SteadyTime now);
  void ReturnToken(Sequence& sequence, Budget& budget);
  Progress PlanRow(Sequence& sequence, Budget& budget, Batch& batch, SteadyTime now);
  int32_t LimitToScores(const Sequence& sequence, int32_t count, int32_t score_budget,
                        int32_t* scores) const;
  int32_t Coverable(const Sequence& sequence, int32_t count) const;
  void Extend(Sequence& sequence, int32_t tokens);
  void SetPaused(Sequence& sequence, bool paused, SteadyTime now);
  void UpdateGauges();

  // --- preemption.cc
  bool PreemptFor(const Sequence& sequence, Need need, Budget& budget);
  bool CanNotGoOn(const Sequence& sequence) const;
  bool GivesWay(const Sequence& other, const Sequence& sequence, Need need) const;
  bool MayGiveWay(const Sequence& other, const Sequence& sequence) const;
  Sequence* VictimFor(const Sequence& sequence, Need need) const;
  bool PreemptAnyBut(const Sequence& sequence);
  void Preempt(Sequence& sequence);
  void ReleasePages(Sequence& sequence);
  void ReleaseSlot(Sequence& sequence);
  void FailStuck(Sequence& sequence, SteadyTime now);

  // --- commit.cc: results and endings
  void CommitRow(const PlannedRow& planned, std::span<const TokenResult> results, SteadyTime now);
  void CommitScores(const PlannedRow& planned, std::span<const TokenResult> results);
  void CommitToken(Sequence& sequence, const TokenResult& result, SteadyTime now);
  void PublishPages(Sequence& sequence);
  void UnpublishPages(const Sequence& sequence);
  void CountPrompt(LiveRequest& live);
  void SharePrompt(Sequence& leader);
  void SlideWindows(Sequence& sequence);
  void EndOutput(Sequence& sequence, Finish finish, SteadyTime now);
  void Record(const LiveRequest& live, SteadyTime now);
  void UpdateQueued(LiveRequest& live);
  void SetChanged(LiveRequest& live);

  const SchedulerConfig config_;
  PagePool& pool_;
  Stats& stats_;

  std::vector<std::unique_ptr<LiveRequest>> requests_;  // by arrival
  std::vector<Sequence*> ordered_;                      // by rank, all that have not ended
  std::vector<Sequence*> holders_;                      // by rank, those that run or hold pages
  std::vector<int32_t> free_slots_;
  int32_t running_ = 0;
  int32_t paused_ = 0;
  // Waiting sequences that wait for no slot and no pages: for a leader's prompt, for a reader.
  int32_t followers_ = 0;
  int32_t waiting_paused_ = 0;
  std::vector<LiveRequest*> ended_;  // not yet reaped
  int32_t steps_in_flight_ = 0;
  uint64_t drawn_in_step_ = 0;     // tokens of the step that is being committed
  bool waits_for_reader_ = false;  // the last Plan left out a paused sequence
  uint64_t next_order_ = 1;
  uint64_t step_ = 0;
  SteadyTime next_event_ = SteadyTime::max();
  SteadyTime last_commit_ = {};
  std::vector<int32_t> block_pages_;  // [groups] scratch of PublishPages
  std::vector<int32_t> given_up_;     // [pages] zeros: scratch of PreemptionSuffices
  std::vector<Ending> endings_;
  std::vector<LiveRequest*> changed_;
  Departures departures_;
};

}  // namespace baram

#endif  // BARAM_ENGINE_SCHEDULER_H_
