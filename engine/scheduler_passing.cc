// Scheduler: which sequences pass a prompt that is too long for a step. In strict order of rank, a
// question of one line would wait until every document before it is read, minutes on a CPU.
//
// A prompt that the step's tokens do not suffice for gets at least 1 - short_prompt_share of them,
// and the rest too if no shorter prompt can use it. Of what it leaves, the next one that is cut off
// leaves a share in turn. Whoever passes leaves a slot, and for now the pages of its prompt, to the
// first that waits and is passed by. Priorities are strict: nobody passes a more urgent prompt.
#include <algorithm>
#include <iterator>

#include "engine/scheduler.h"

namespace baram {
namespace {

// A sequence passes one that has at least this many times as much left to compute. Prompts of like
// lengths run one after the other: side by side, all would end as late as the last.
constexpr int32_t kMuchShorter = 2;
// How many sequences are considered in one step: the queue may be long, and all of it waits.
constexpr int32_t kLookAhead = 256;

}  // namespace

// What the sequence has to compute before it draws. Of one that waits, it is an estimate: what the
// prefix cache held of it when this was first asked.
int32_t Scheduler::TokensToCompute(Sequence& sequence) {
  if (sequence.holds()) return sequence.remaining();
  if (sequence.likely_cached < 0) {
    sequence.likely_cached = MatchPrefix(sequence).blocks() * pool_.page_tokens();
  }
  return std::max(sequence.prompt_tokens, sequence.known()) - sequence.likely_cached;
}

// Whether tokens are all that the sequence may lack to continue, or to be admitted, if `scores` are
// left.
bool Scheduler::CanUseTokens(Sequence& sequence, int32_t scores, SteadyTime now) {
  if (sequence.state == SequenceState::kRunning) {
    if (sequence.token_set_aside || !sequence.wants_rows() || sequence.remaining() == 0) {
      return false;
    }
  } else if (WaitsForLeader(sequence)) {
    return false;
  }
  const LiveRequest& live = *sequence.live;
  if (scores == 0 && live.scoring() && sequence.planned >= live.scores_sent) return false;
  return HasRoom(sequence, now);
}

// How many of the budget's tokens a prompt that could use all of them leaves to shorter ones: as
// many as those can use that find a slot and pages, up to the share. `scores`: what it leaves of
// the scores.
int32_t Scheduler::LeaveToShorter(Sequence& sequence, int32_t scores, Budget& budget,
                                  SteadyTime now) {
  const auto share = static_cast<int32_t>(config_.short_prompt_share * budget.tokens);
  const int32_t most = sequence.remaining() / kMuchShorter;
  bool admits = budget.admits;
  int64_t slots = std::ssize(free_slots_);
  int64_t pages = pool_.available() - budget.pages_due;
  int32_t running = running_;
  const auto take_place = [&](const Sequence& waiting) {
    pages -= PagesFor(waiting, waiting.blocks());
    --slots;
    ++running;
  };
  const Sequence* passed_by = budget.first_passed_by;
  if (passed_by != nullptr) take_place(*passed_by);
  int32_t wanted = 0;
  const Sequence* last = nullptr;
  const Sequence* last_admitted = nullptr;
  auto next = std::ranges::upper_bound(ordered_, RankOf(sequence), {},
                                       [](const Sequence* other) { return RankOf(*other); });
  for (int32_t i = 0; i < kLookAhead && next != ordered_.end() && wanted < share; ++i, ++next) {
    Sequence& other = **next;
    if (other.live->request.priority != sequence.live->request.priority) break;
    const bool waits = other.state == SequenceState::kWaiting;
    if ((waits && !admits) || !CanUseTokens(other, scores, now)) continue;
    const int32_t tokens = TokensToCompute(other);
    const bool shorter = tokens <= most;
    if (waits) {
      // See TryAdmit: what a preempted sequence gave up is not for lower ranks.
      admits = other.preempted_in_step != step_ && other.rows_in_flight == 0 &&
               (shorter || other.preemptions == 0);
      if (!admits) continue;
      if (!shorter && passed_by == nullptr) {
        passed_by = &other;
        take_place(other);
      }
    }
    if (!shorter) continue;
    if (waits) {
      const int64_t needed = PagesFor(other, other.blocks());
      admits = slots > 0 && needed <= pages - PagesToLeaveFree(other, running);
      if (!admits) continue;
      take_place(other);
      last_admitted = &other;
    }
    int32_t scored = 0;
    wanted += LimitToScores(other, tokens, scores, &scored);
    scores -= scored;
    last = &other;
  }
  if (last == nullptr) return 0;
  budget.cut_off = &sequence;
  budget.cut_off_tokens = sequence.remaining();
  budget.last_to_pass = last;
  budget.last_to_admit = last_admitted;
  budget.first_passed_by = passed_by;
  return std::min(share, wanted);
}

// Whether a sequence behind budget.cut_off may use what is left of the budget.
bool Scheduler::MayPass(Sequence& sequence, const Budget& budget) {
  const int32_t most = budget.cut_off_tokens / kMuchShorter;
  if (RankBefore(*budget.last_to_pass, sequence) || TokensToCompute(sequence) > most) return false;
  if (sequence.holds()) return true;
  sequence.likely_cached = -1;  // now it matters what the cache holds
  return TokensToCompute(sequence) <= most;
}

}  // namespace baram
