// Scheduler: which sequences pass a prompt that is too long for a step. In strict order of rank, a
// question of one line would wait until every document before it is read, minutes on a CPU.
//
// The first prompt that a step's tokens do not suffice for gets at least 1 - short_prompt_share of
// them, and the rest too if no shorter prompt can use it. So it takes at most twice as long at the
// default, however many pass it. They take nothing else from those that they pass: the first that
// waits keeps a slot and pages. Priorities are strict: nobody passes a more urgent prompt.
#include <algorithm>
#include <iterator>
#include <utility>

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

// Whether tokens are all that the sequence may lack to continue, or to be admitted.
bool Scheduler::CanUseTokens(Sequence& sequence, SteadyTime now) {
  if (sequence.state == SequenceState::kRunning) {
    if (sequence.token_set_aside || !sequence.wants_rows() || sequence.remaining() == 0) {
      return false;
    }
  } else if (WaitsForLeader(sequence)) {
    return false;
  }
  return HasRoom(sequence, now);
}

// How many of the budget's tokens a prompt that could use all of them leaves to shorter ones: as
// many as those can use that find a slot and pages, up to the share.
int32_t Scheduler::LeaveToShorter(Sequence& sequence, Budget& budget, SteadyTime now) {
  const auto share = static_cast<int32_t>(config_.short_prompt_share * budget.tokens);
  if (budget.cut_off != nullptr || share == 0) return 0;
  const int32_t most = sequence.remaining() / kMuchShorter;
  int64_t slots = std::ssize(free_slots_);
  int64_t pages = pool_.available() - budget.pages_due;
  int32_t running = running_;
  bool passes_over = false;  // a waiting sequence, for which a slot and pages are kept
  int32_t wanted = 0;
  auto next = std::ranges::upper_bound(ordered_, RankOf(sequence), {},
                                       [](const Sequence* other) { return RankOf(*other); });
  for (int32_t i = 0; i < kLookAhead && next != ordered_.end() && wanted < share; ++i, ++next) {
    Sequence& other = **next;
    if (other.live->request.priority != sequence.live->request.priority) break;
    if (!CanUseTokens(other, now)) continue;
    const int32_t tokens = TokensToCompute(other);
    const bool shorter = tokens <= most;
    if (other.state == SequenceState::kWaiting) {
      if (!shorter && other.preemptions > 0) break;
      if (!shorter && std::exchange(passes_over, true)) continue;
      const int64_t needed = PagesFor(other, other.blocks());
      if (shorter && (slots <= 0 || needed > pages - PagesToLeaveFree(other, running))) break;
      pages -= needed;
      --slots;
      ++running;
    }
    if (!shorter) continue;
    wanted += tokens;
    budget.last_to_pass = &other;
  }
  if (wanted == 0) return 0;
  budget.cut_off = &sequence;
  budget.cut_off_tokens = sequence.remaining();
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
