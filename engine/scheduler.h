// Scheduler: decides which tokens run in the next step, and commits the results of finished steps.
//
// There is no prefill phase and no decode phase: each sequence catches up to its known tokens, in
// order of rank, within the step's budget. A token for every running sequence that can decode is
// reserved from the budget first, so that prompts never starve decodes; the prompt tokens of a step
// with decodes are bounded, so that they do not delay decodes for long. A prompt that the budget
// cuts off leaves a share of it to much shorter ones behind it. A sequence that needs a page when
// none is free preempts a paused sequence, else the lowest-ranked one below it. The victim keeps
// its tokens, recomputes their KV later, and is admitted before anything ranked below it. The
// highest-ranked sequence can preempt every other, so some sequence always makes progress.
//
// Engine thread only (I1). The caller passes the time, so tests control the clock. The only state
// it shares with other threads is each request's Outbox, and Stats, which it only writes.
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

// EngineConfig's fields of these names, with zeros resolved; max_chunk_tokens 0 still means no
// limit.
struct SchedulerConfig {
  int32_t max_model_len = 0;
  int32_t max_num_seqs = 0;            // also the number of the device's slots
  int32_t max_num_batched_tokens = 0;  // at least max_num_seqs
  int32_t mixed_step_tokens = 0;
  int32_t max_logit_rows = 0;
  int32_t max_chunk_tokens = 0;
  double short_prompt_share = 0;
  bool prefix_cache = true;
  bool preempt_every_draw = false;
  double longest_pause_s = 30;
};

// An output that has ended. EngineCore::Deliver publishes it, once the request's id is free again
// if it is the last.
struct Ending {
  LiveRequest* live = nullptr;
  int32_t index = 0;
  Finish finish;
  bool last = false;  // the last of its request
};

class Scheduler {
 public:
  // `pool` and `stats` must outlive it.
  Scheduler(const SchedulerConfig& config, PagePool& pool, Stats& stats);

  void Add(std::unique_ptr<LiveRequest> live, SteadyTime now);

  // Ends outputs that were cancelled or stopped, are past their deadline, or have been paused for
  // too long. Does nothing before next_event() unless `has_end_requests`: some output was cancelled
  // or stopped.
  void EndExpired(bool has_end_requests, SteadyTime now);
  // Ends every output with `finish`.
  void EndAll(const Finish& finish, SteadyTime now);

  // Fills `batch` with the next step. Returns false if nothing can run now.
  bool Plan(Batch& batch, SteadyTime now);
  // Takes in the results of a step that the device finished. Steps are committed in the order in
  // which they were planned.
  void Commit(Batch& batch, SteadyTime now);

  // Outputs that ended and requests that changed since the caller last cleared the lists.
  std::vector<Ending>& endings() { return endings_; }
  std::vector<LiveRequest*>& changed() { return changed_; }
  // Requests, and their QueuedTokens, that left the queue since the last call, minus those that
  // returned: a request with no running output waits again.
  struct Departures {
    int64_t requests = 0;
    int64_t tokens = 0;
  };
  Departures TakeDepartures();
  // Destroys requests that have ended and have nothing in flight (I3). Call after their endings
  // were consumed.
  void Reap();

  // When EndExpired is next due because of the time alone.
  SteadyTime next_event() const { return next_event_; }
  int32_t steps_in_flight() const { return steps_in_flight_; }

  // Aborts unless the state is consistent (I2, I3). For tests: it visits everything.
  void CheckInvariants() const;
  std::span<const std::unique_ptr<LiveRequest>> requests() const { return requests_; }

 private:
  // What remains of a step while it is planned, and for whom.
  struct Budget {
    int32_t tokens = 0;  // without those that are set aside
    int32_t scores = 0;
    int64_t pages_due = 0;  // PagesDue of all running sequences together
    // The prompt that left the tokens to shorter ones behind it; null: none. Then only those that
    // MayPass use them.
    const Sequence* cut_off = nullptr;
    int32_t cut_off_tokens = 0;                 // that it had to compute before this step
    const Sequence* last_to_pass = nullptr;     // in rank; if `cut_off` is set
    const Sequence* last_to_admit = nullptr;    // of those that wait; null: none
    const Sequence* first_passed_by = nullptr;  // of those that wait

    bool admits = true;         // further sequences
    Sequence* stuck = nullptr;  // the first that was not admitted or had no pages to continue
  };

  // What a sequence preempts others for.
  enum class Need : uint8_t {
    kRow,        // it runs, and needs pages for its next tokens
    kAdmission,  // it waits, a slot is free, and it needs pages
    kSlot,       // it waits, and needs a slot and pages
  };

  // --- scheduler_admission.cc
  bool WaitsForLeader(const Sequence& sequence) const;
  bool Admit(Sequence& sequence, Budget& budget, SteadyTime now);
  PrefixMatch MatchPrefix(const Sequence& sequence);
  int64_t PagesToLeaveFree(const Sequence& sequence, int32_t running) const;
  int64_t PagesDue(const Sequence& sequence) const;
  int64_t PagesDueBeside(const Sequence& sequence, const Budget& budget) const;
  bool Fits(const Sequence& sequence, const PrefixMatch& match, int64_t available,
            int32_t running) const;
  int64_t PagesFor(const Sequence& sequence, int32_t blocks) const;
  Need AdmissionNeed() const { return free_slots_.empty() ? Need::kSlot : Need::kAdmission; }
  bool PreemptionSuffices(const Sequence& sequence, const Budget& budget);
  void BeginTables(Sequence& sequence);
  void Bind(Sequence& sequence, const PrefixMatch& match, SteadyTime now);

  // --- scheduler.cc: planning
  int32_t groups() const { return pool_.groups(); }
  int32_t BlocksFor(int32_t tokens) const;
  void EndExpiredOutputs(LiveRequest& live, SteadyTime now);
  bool HasRoom(Sequence& sequence, SteadyTime now);
  enum class Progress : uint8_t { kPlanned, kNotNow, kNoPages };
  Sequence* PlanRows(Batch& batch, SteadyTime now);
  bool TryAdmit(Sequence& sequence, Budget& budget, SteadyTime now);
  Budget BeginBudget(SteadyTime now);
  void ReturnToken(Sequence& sequence, Budget& budget);
  Progress PlanRow(Sequence& sequence, Budget& budget, Batch& batch, SteadyTime now);
  int32_t LimitToScores(const Sequence& sequence, int32_t count, int32_t score_budget,
                        int32_t* scores) const;
  int32_t TokensWithPages(const Sequence& sequence, int32_t count) const;
  void Extend(Sequence& sequence, int32_t tokens);
  void SetState(Sequence& sequence, SequenceState to);
  void SetPaused(Sequence& sequence, bool paused, SteadyTime now);
  void UpdateGauges();

  // --- scheduler_passing.cc
  int32_t TokensToCompute(Sequence& sequence);
  bool CanUseTokens(Sequence& sequence, int32_t scores, SteadyTime now);
  int32_t LeaveToShorter(Sequence& sequence, int32_t scores, Budget& budget, SteadyTime now);
  bool MayPass(Sequence& sequence, const Budget& budget);

  // --- scheduler_preemption.cc
  bool PreemptFor(const Sequence& sequence, Need need, Budget& budget);
  bool GivesWay(const Sequence& other, const Sequence& sequence, Need need) const;
  bool MayGiveWay(const Sequence& other, const Sequence& sequence) const;
  Sequence* VictimFor(const Sequence& sequence, Need need) const;
  bool PreemptLowestRanked(const Sequence& sequence);
  void Preempt(Sequence& sequence);
  void ReleasePages(Sequence& sequence);
  void FailStuck(Sequence& sequence, SteadyTime now);

  // --- scheduler_commit.cc: results and endings
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

  std::vector<std::unique_ptr<LiveRequest>> requests_;  // in order of arrival
  std::vector<Sequence*> ordered_;                      // in order of rank, all that have not ended
  std::vector<Sequence*> holders_;  // in order of rank, those that run or hold pages
  std::vector<int32_t> free_slots_;
  int32_t running_ = 0;
  int32_t paused_ = 0;
  // Waiting sequences that need neither a slot nor pages yet: those that wait for a leader's
  // prompt, and those that wait for their reader.
  int32_t followers_ = 0;
  int32_t waiting_paused_ = 0;
  std::vector<LiveRequest*> ended_;  // not yet reaped
  int32_t steps_in_flight_ = 0;
  uint64_t drawn_in_step_ = 0;     // tokens drawn in the step being committed
  bool waits_for_reader_ = false;  // the last Plan skipped a paused sequence
  uint64_t next_order_ = 1;
  uint64_t step_ = 0;
  SteadyTime next_event_ = SteadyTime::max();
  SteadyTime last_commit_ = {};
  std::vector<int32_t> block_pages_;  // [groups] scratch of PublishPages
  std::vector<int32_t> given_up_;  // [pages] scratch of PreemptionSuffices, all zero between calls
  std::vector<Ending> endings_;
  std::vector<LiveRequest*> changed_;
  Departures departures_;
};

}  // namespace baram

#endif  // BARAM_ENGINE_SCHEDULER_H_
