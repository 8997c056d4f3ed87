// Scheduler::Plan: the rows of the next step, in order of rank. And what it plans from: new
// requests, what has expired, paused sequences.
#include "engine/scheduler.h"

#include <algorithm>
#include <optional>
#include <ranges>
#include <utility>

#include "kernels/check.h"
#include "kernels/rounding.h"

namespace baram {

Scheduler::Scheduler(const SchedulerConfig& config, PagePool& pool, Stats& stats)
    : config_(config),
      pool_(pool),
      stats_(stats),
      block_pages_(pool.groups()),
      given_up_(pool.total()) {
  Check(config.max_num_batched_tokens >= config.max_num_seqs,
        "a step has room for a token of every sequence");
  Check(config.mixed_step_tokens > 0, "prompts go on beside decodes");
  for (int32_t slot = config.max_num_seqs - 1; slot >= 0; --slot) free_slots_.push_back(slot);
  stats_.kv_pages_total.Set(pool.total());
}

int32_t Scheduler::BlocksFor(int32_t tokens) const {
  return static_cast<int32_t>(CeilDivide(tokens, pool_.page_tokens()));
}

void Scheduler::Add(std::unique_ptr<LiveRequest> live, SteadyTime now) {
  const Request& request = live->request;
  live->order = next_order_++;
  live->queued_at = now;
  live->unfinished = request.n;
  live->salt = pool_.AcquireSalt(request.cache_salt);
  for (int32_t i = 0; i < request.n; ++i) {
    Sequence& sequence = live->outputs[i];
    sequence.live = live.get();
    sequence.index = i;
    sequence.prompt_tokens = live->prompt_tokens();
    sequence.max_output =
        std::min(request.max_tokens, config_.max_model_len - sequence.prompt_tokens);
    sequence.tables.resize(groups());
    InsertByRank(ordered_, sequence);
  }
  holders_.reserve(ordered_.capacity());
  followers_ += request.n - 1;
  next_event_ = std::min(next_event_, std::max(request.deadline, now));
  requests_.push_back(std::move(live));
  ended_.reserve(requests_.capacity());
}

void Scheduler::EndExpired(bool has_end_requests, SteadyTime now) {
  if (!has_end_requests && now < next_event_) return;
  next_event_ = SteadyTime::max();
  // Newest first: at equal priority, each removal is at the end of the rank-ordered lists and
  // shifts nothing, however many end at once.
  for (const std::unique_ptr<LiveRequest>& live : std::views::reverse(requests_)) {
    if (live->unfinished == 0) continue;
    const bool due =
        live->outbox->TakeEndRequest() || live->paused > 0 || now >= live->request.deadline;
    if (due) EndExpiredOutputs(*live, now);
    if (live->unfinished > 0) next_event_ = std::min(next_event_, live->request.deadline);
  }
}

void Scheduler::EndExpiredOutputs(LiveRequest& live, SteadyTime now) {
  std::optional<FinishReason> end = live.outbox->cancelled();
  if (!end && now >= live.request.deadline) end = FinishReason::kDeadline;
  for (Sequence& sequence : std::views::reverse(live.outputs)) {
    if (sequence.state == SequenceState::kRetiring) continue;
    if (end) {
      EndOutput(sequence, {.reason = *end}, now);
      continue;
    }
    if (live.outbox->stopped(sequence.index)) {
      EndOutput(sequence, {.reason = FinishReason::kStop}, now);
      continue;
    }
    if (!sequence.paused || HasRoom(sequence, now)) continue;
    const SteadyTime limit = After(sequence.paused_since, config_.longest_pause_s);
    if (now >= limit) {
      EndOutput(sequence, {.reason = FinishReason::kSlowReader}, now);
    } else {
      next_event_ = std::min(next_event_, limit);
    }
  }
}

// The only writer of Sequence::state. A sequence that starts to run has a slot already; one that
// stops gives it up. Devices run steps in order, so what it has in flight ends before a step that
// binds the slot again begins; its results are matched by row.
void Scheduler::SetState(Sequence& sequence, SequenceState to) {
  LiveRequest& live = *sequence.live;
  const auto change = [&](SequenceState state) {
    return (to == state) - (sequence.state == state);
  };
  const int32_t runs = change(SequenceState::kRunning);
  running_ += runs;
  live.running += runs;
  if (sequence.paused) waiting_paused_ += change(SequenceState::kWaiting);
  if (runs < 0) free_slots_.push_back(std::exchange(sequence.slot, -1));
  sequence.state = to;
  UpdateQueued(live);
}

void Scheduler::SetPaused(Sequence& sequence, bool paused, SteadyTime now) {
  if (sequence.paused == paused) return;
  sequence.paused = paused;
  paused_ += paused ? 1 : -1;
  sequence.live->paused += paused ? 1 : -1;
  if (sequence.state == SequenceState::kWaiting) waiting_paused_ += paused ? 1 : -1;
  if (!paused) return;
  sequence.paused_since = now;
  next_event_ = std::min(next_event_, After(now, config_.longest_pause_s));
}

// Whether there is room for the next token. A preempted sequence returns only when half of its
// ring, or room for all that it has left to draw, is free: to recompute its context for a few
// tokens and then be the next victim would gain nothing.
bool Scheduler::HasRoom(Sequence& sequence, SteadyTime now) {
  Outbox& outbox = *sequence.live->outbox;
  int32_t needed = 1;
  if (sequence.state == SequenceState::kWaiting && sequence.preemptions > 0) {
    needed =
        std::min((outbox.ring_tokens() + 1) / 2, sequence.max_output - sequence.output_tokens());
  }
  needed = std::max(needed, sequence.draws_in_flight + 1);
  int32_t room = outbox.Room(sequence.index);
  if (room < needed) {
    outbox.WakeWhenDrained(sequence.index);
    room = outbox.Room(sequence.index);
  }
  // A reader that took tokens gets the full time limit again.
  if (sequence.paused && room > sequence.paused_room) sequence.paused_since = now;
  sequence.paused_room = room;
  SetPaused(sequence, room < needed, now);
  return !sequence.paused;
}

bool Scheduler::Plan(Batch& batch, SteadyTime now) {
  while (true) {
    Sequence* stuck = PlanRows(batch, now);
    if (!batch.empty()) break;
    if (stuck != nullptr && steps_in_flight_ == 0) {
      if (PreemptLowestRanked(*stuck)) continue;
      if (!waits_for_reader_) FailStuck(*stuck, now);
    }
    UpdateGauges();
    return false;
  }
  batch.Seal();
  ++steps_in_flight_;
  stats_.step_tokens.Observe(batch.tokens());
  UpdateGauges();
  return true;
}

// Returns the first sequence that was not admitted or had no pages to continue; null if there is
// none.
Sequence* Scheduler::PlanRows(Batch& batch, SteadyTime now) {
  ++step_;
  batch.Clear();
  batch.planned_at = now;
  waits_for_reader_ = false;
  Budget budget = BeginBudget(now);
  for (Sequence* sequence : ordered_) {
    if (sequence->state != SequenceState::kRunning) {
      const bool none_behind_runs = holders_.empty() || !RankBefore(*sequence, *holders_.back());
      if (!budget.admits && none_behind_runs) break;
      if (!TryAdmit(*sequence, budget, now)) continue;
    } else if (budget.cut_off != nullptr && !sequence->token_set_aside &&
               !MayPass(*sequence, budget)) {
      continue;
    }
    const Progress progress = PlanRow(*sequence, budget, batch, now);
    if (progress != Progress::kPlanned) ReturnToken(*sequence, budget);
    if (progress == Progress::kNoPages && budget.stuck == nullptr) budget.stuck = sequence;
  }
  return budget.stuck;
}

// Returns whether the waiting sequence was admitted, and runs from now on.
bool Scheduler::TryAdmit(Sequence& sequence, Budget& budget, SteadyTime now) {
  if (!budget.admits || WaitsForLeader(sequence)) return false;
  if (!HasRoom(sequence, now)) {
    waits_for_reader_ = true;
    return false;
  }
  if (sequence.preempted_in_step == step_ || sequence.rows_in_flight > 0) {
    budget.admits = false;  // what it gave up is not for lower ranks
    return false;
  }
  if (budget.cut_off != nullptr) {
    // Behind the last that may be admitted waits one that nobody passes, or nobody who would be.
    const Sequence* const last = budget.last_to_admit;
    budget.admits = last != nullptr && !RankBefore(*last, sequence);
    if (!budget.admits) return false;
    if (!MayPass(sequence, budget)) {
      // The cache has lost what would have made a preempted one short enough.
      budget.admits = sequence.preemptions == 0;
      return false;
    }
  }
  // It would hold a slot without making progress: prompts of higher rank use all the scores of this
  // step. Others may pass it, unless it was preempted. By rank, it is the next to get scores.
  if (sequence.preemptions == 0 && sequence.live->scoring() && budget.scores == 0) return false;
  if (Admit(sequence, budget, now)) return true;
  budget.admits = false;
  if (budget.stuck == nullptr) budget.stuck = &sequence;
  return false;
}

// No token is set aside for a sequence whose ring is full: it has no use for one until its reader
// makes room.
Scheduler::Budget Scheduler::BeginBudget(SteadyTime now) {
  Budget budget{.tokens = config_.max_num_batched_tokens, .scores = config_.max_logit_rows};
  bool decodes = false;
  for (size_t i = holders_.size(); i-- > 0;) {  // backwards: a preempted sequence leaves the list
    Sequence& sequence = *holders_[i];
    if (sequence.state != SequenceState::kRunning) continue;
    if (config_.preempt_every_draw && sequence.device_has_token) {
      Preempt(sequence);
      sequence.preempted_in_step = 0;  // it may be admitted again at once
      continue;
    }
    budget.pages_due += PagesDue(sequence);
    sequence.token_set_aside =
        sequence.remaining() == 1 && sequence.wants_rows() && HasRoom(sequence, now);
    if (sequence.token_set_aside) {
      --budget.tokens;
      decodes = true;
    }
  }
  // Every stream waits for the step, so steps with decodes take few prompt tokens.
  if (decodes) budget.tokens = std::min(budget.tokens, config_.mixed_step_tokens);
  return budget;
}

void Scheduler::ReturnToken(Sequence& sequence, Budget& budget) {
  if (std::exchange(sequence.token_set_aside, false)) ++budget.tokens;
}

// How many of the next `count` tokens can run if at most `score_budget` of them may be scored.
// Tokens before the watermark, scores_sent, were scored before a preemption: they run in a row of
// their own.
int32_t Scheduler::LimitToScores(const Sequence& sequence, int32_t count, int32_t score_budget,
                                 int32_t* scores) const {
  const LiveRequest& live = *sequence.live;
  *scores = 0;
  if (!live.scoring()) return count;
  if (sequence.planned < live.scores_sent) {
    return std::min(count, live.scores_sent - sequence.planned);
  }
  // The prompt's last token has no successor to score.
  const int32_t unscored = std::max(0, sequence.prompt_tokens - 1 - sequence.planned);
  *scores = std::min(count, unscored);
  if (*scores <= score_budget) return count;
  *scores = score_budget;
  return score_budget;
}

// How many of the next `count` tokens have pages, counting those that Allocate can provide.
int32_t Scheduler::TokensWithPages(const Sequence& sequence, int32_t count) const {
  const int64_t blocks = sequence.blocks() + pool_.available() / groups();
  return static_cast<int32_t>(
      std::min<int64_t>(count, blocks * pool_.page_tokens() - sequence.planned));
}

void Scheduler::Extend(Sequence& sequence, int32_t tokens) {
  for (PageTable& table : sequence.tables) {
    while (static_cast<int32_t>(table.pages.size()) < BlocksFor(tokens)) {
      table.pages.push_back(pool_.Allocate());
    }
  }
}

Scheduler::Progress Scheduler::PlanRow(Sequence& sequence, Budget& budget, Batch& batch,
                                       SteadyTime now) {
  if (!sequence.wants_rows()) return Progress::kNotNow;
  int32_t count = sequence.remaining();
  if (config_.max_chunk_tokens > 0) count = std::min(count, config_.max_chunk_tokens);
  int32_t scores = 0;
  count = LimitToScores(sequence, count, budget.scores, &scores);
  if (!sequence.token_set_aside && count > budget.tokens) {
    const int32_t scores_left = budget.scores - std::min(scores, budget.tokens);
    count = budget.tokens - LeaveToShorter(sequence, scores_left, budget, now);
  }
  if (count == 0) return Progress::kNotNow;
  if (sequence.planned + count == sequence.known() && !HasRoom(sequence, now)) {
    waits_for_reader_ = true;
    return Progress::kNotNow;
  }
  while (TokensWithPages(sequence, count) <= 0) {
    if (!PreemptFor(sequence, Need::kRow, budget)) return Progress::kNoPages;
  }
  count = TokensWithPages(sequence, count);
  scores = std::min(scores, count);
  const bool draws = sequence.planned + count == sequence.known();

  budget.pages_due -= PagesDue(sequence);
  Extend(sequence, sequence.planned + count);
  if (sequence.init_pending) {
    batch.Bind(sequence);
    sequence.init_pending = false;
  }
  batch.UploadTables(sequence);
  batch.AddRow(sequence, count, scores, draws);
  sequence.planned += count;
  ++sequence.rows_in_flight;
  if (draws) ++sequence.draws_in_flight;
  sequence.device_has_token = draws;
  budget.pages_due += PagesDue(sequence);
  if (!std::exchange(sequence.token_set_aside, false)) budget.tokens -= count;
  budget.scores -= scores;
  return Progress::kPlanned;
}

void Scheduler::UpdateGauges() {
  stats_.running.Set(running_);
  stats_.waiting.Set(static_cast<double>(ordered_.size()) - running_);
  stats_.deferred.Set(followers_ + waiting_paused_);
  stats_.paused.Set(paused_);
  stats_.kv_pages_used.Set(pool_.total() - pool_.available());
  stats_.kv_pages_cached.Set(pool_.cached());
}

}  // namespace baram
