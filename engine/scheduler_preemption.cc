// Scheduler: which sequence is preempted when pages or slots run out, and which fails when none can
// be.
#include <ranges>

#include "engine/scheduler.h"

namespace baram {
namespace {

// Whether it runs but is paused, and has no use for what it holds until its reader makes room. Asks
// what the plan found, not the ring: its reader may drain it between two passes of a decision.
bool IsBlockedOnReader(const Sequence& sequence) {
  return sequence.state == SequenceState::kRunning && sequence.paused;
}

}  // namespace

// Preempts a victim for the pages, or the slot, that `sequence` needs. No sequence of lower rank
// has a row in this step yet.
bool Scheduler::PreemptFor(const Sequence& sequence, Need need, Budget& budget) {
  Sequence* victim = VictimFor(sequence, need);
  if (victim == nullptr) return false;
  ReturnToken(*victim, budget);
  budget.pages_due -= PagesDue(*victim);
  Preempt(*victim);
  return true;
}

// An admission preempts a running sequence only if its own priority is higher, and takes a slot
// only from those.
bool Scheduler::GivesWay(const Sequence& other, const Sequence& sequence, Need need) const {
  if (!RankBefore(sequence, other)) return false;
  if (need == Need::kRow) return true;
  if (other.state != SequenceState::kRunning) return need == Need::kAdmission;
  return other.live->request.priority > sequence.live->request.priority;
}

// Whether PreemptFor can preempt `other` for an admission of `sequence`.
bool Scheduler::MayGiveWay(const Sequence& other, const Sequence& sequence) const {
  return IsBlockedOnReader(other) || GivesWay(other, sequence, Need::kAdmission);
}

// A paused sequence if there is one, else the lowest-ranked one below `sequence` that gives way.
Sequence* Scheduler::VictimFor(const Sequence& sequence, Need need) const {
  if (paused_ > waiting_paused_) {
    for (Sequence* other : std::views::reverse(holders_)) {
      if (other != &sequence && IsBlockedOnReader(*other)) return other;
    }
  }
  for (Sequence* other : std::views::reverse(holders_)) {
    if (!RankBefore(sequence, *other)) break;
    if (GivesWay(*other, sequence, need)) return other;
  }
  return nullptr;
}

// When nothing at all can run: preempts the lowest-ranked holder but `sequence`, whatever its rank.
// A sequence of higher rank may have become ready after that one was admitted (a reader drained its
// ring), and cannot displace it by an admission.
bool Scheduler::PreemptLowestRanked(const Sequence& sequence) {
  for (Sequence* other : std::views::reverse(holders_)) {
    if (other == &sequence || other->blocks() == 0) continue;
    Preempt(*other);
    return true;
  }
  return false;
}

void Scheduler::Preempt(Sequence& sequence) {
  ReleasePages(sequence);
  sequence.preempted_in_step = step_;
  if (sequence.state != SequenceState::kRunning) return;
  SetState(sequence, SequenceState::kWaiting);
  ++sequence.preemptions;
  stats_.preemptions.Add();
}

// Before SetState: holds() tells whether the sequence is in holders_.
void Scheduler::ReleasePages(Sequence& sequence) {
  if (sequence.holds()) EraseByRank(holders_, sequence);
  for (PageTable& table : sequence.tables) {
    for (size_t block = table.first; block < table.pages.size(); ++block) {
      pool_.Release(table.pages[block]);
    }
    table.pages.clear();
    table.first = 0;
  }
  sequence.planned = sequence.committed = 0;
  sequence.likely_cached = -1;
  sequence.published_blocks = 0;
}

// Nothing runs, nothing is in flight, and still the highest-ranked sequence cannot continue (I8).
void Scheduler::FailStuck(Sequence& sequence, SteadyTime now) {
  for (Sequence& output : sequence.live->outputs) {
    if (output.state == SequenceState::kRetiring) continue;
    EndOutput(output,
              {.reason = FinishReason::kFailed,
               .message = "the request needs more KV cache pages than this server has"},
              now);
  }
}

}  // namespace baram
