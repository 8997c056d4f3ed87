// Fairness: the order of admissions, decodes and slots.
#include "tests/engine/fairness.h"

#include <algorithm>

#include "gtest/gtest.h"

namespace baram::testing {
namespace {

std::vector<const Sequence*> SequencesOf(const EngineRig& rig) {
  std::vector<const Sequence*> sequences;
  for (const auto& live : rig.core().scheduler().requests()) {
    for (const Sequence& sequence : live->outputs) sequences.push_back(&sequence);
  }
  return sequences;
}

int32_t SlotsTaken(const std::vector<const Sequence*>& sequences) {
  return static_cast<int32_t>(
      std::ranges::count_if(sequences, [](const Sequence* s) { return s->slot >= 0; }));
}

uint64_t Finished(const EngineRig& rig) {
  uint64_t finished = 0;
  for (const Counter& counter : rig.core().stats().finished) finished += counter.value();
  return finished;
}

bool Runs(const Sequence& sequence) { return sequence.state == SequenceState::kRunning; }

// Whether the sequence fits next to those it can't take from, whatever must stay free for them.
bool SurelyFits(const Sequence& sequence, const std::vector<const Sequence*>& others,
                const EngineRig& rig) {
  const PagePool& pool = rig.core().pool();
  const auto blocks_for = [&](int32_t tokens) {
    return (tokens + pool.page_tokens() - 1) / pool.page_tokens();
  };
  const int32_t blocks = blocks_for(std::max(sequence.prompt_tokens, sequence.known()));
  int64_t held = 0;  // or to come, of one that runs
  for (const Sequence* other : others) {
    const int32_t due = Runs(*other) ? blocks_for(other->known()) : 0;
    held += int64_t{std::max(other->blocks(), due)} * pool.groups();
  }
  const int64_t reserve = std::max<int64_t>(std::ssize(others) * pool.groups(), pool.total() / 4);
  return int64_t{blocks} * pool.groups() + reserve + held <= pool.total();
}

int32_t PriorityOf(const Sequence& sequence) { return sequence.live->request.priority; }

}  // namespace

Fairness::Fairness(const EngineRig& rig) {
  const std::vector<const Sequence*> sequences = SequencesOf(rig);
  slots_taken_ = SlotsTaken(sequences);
  finished_ = Finished(rig);
  step_tokens_ = rig.core().stats().step_tokens.sum();
  for (const Sequence* sequence : sequences) {
    const LiveRequest& live = *sequence->live;
    Before& before = before_[KeyOf(*sequence)];
    before.running = Runs(*sequence);
    before.paused = sequence->paused;
    before.ended = sequence->state == SequenceState::kRetiring;
    before.ready = sequence->state == SequenceState::kWaiting &&
                   (live.prompt_shared || live.leader() == sequence);
    before.decode = before.running && sequence->remaining() == 1 && sequence->wants_rows() &&
                    sequence->planned < sequence->blocks() * rig.info().page_tokens;
    before.scoring = live.scoring();
    before.in_flight = sequence->rows_in_flight > 0;
    before.priority = PriorityOf(*sequence);
    before.prompt_tokens = sequence->prompt_tokens;
    before.planned = sequence->planned;
    before.remaining = sequence->remaining();
    before.blocks = sequence->blocks();
    before.preemptions = sequence->preemptions;
  }
}

Fairness::Key Fairness::KeyOf(const Sequence& sequence) {
  return {sequence.live->order, sequence.index};
}

const Fairness::Before* Fairness::Find(const Sequence& sequence) const {
  const auto found = before_.find(KeyOf(sequence));
  return found == before_.end() ? nullptr : &found->second;
}

bool Fairness::LeftOut(const Sequence& sequence, const EngineRig& rig) const {
  if (sequence.state != SequenceState::kWaiting || sequence.paused) return false;
  const Before* before = Find(sequence);
  // A prompt that is to be scored waits for scores as well, unless it was preempted.
  const bool scoring = before == nullptr ? sequence.live->scoring() : before->scoring;
  const bool preempted = before != nullptr && before->running;
  if (scoring && sequence.preemptions == 0 && rig.NoScoresLeftFor(sequence)) return false;
  // One that ran before was preempted, and may not be overtaken by those after it either.
  return before == nullptr ? sequence.index == 0 : before->ready || preempted;
}

bool Fairness::MayPass(const Sequence& admitted, const Sequence& waiting,
                       const std::vector<const Sequence*>& sequences) const {
  if (waiting.preemptions > 0 || PriorityOf(waiting) != PriorityOf(admitted)) return false;
  // One that has ended since, with its whole request, cannot be asked whether it was cut off.
  for (const auto& [key, before] : before_) {
    const bool gone = std::ranges::none_of(
        sequences, [&](const Sequence* sequence) { return KeyOf(*sequence) == key; });
    if (!gone || before.ended || before.priority != PriorityOf(admitted)) continue;
    const int32_t had = std::max(before.remaining, before.prompt_tokens);
    if (key < KeyOf(waiting) && 2 * admitted.remaining() <= had) return true;
  }
  return std::ranges::any_of(sequences, [&](const Sequence* cut_off) {
    if (!RankBefore(*cut_off, waiting)) return false;
    if (PriorityOf(*cut_off) != PriorityOf(admitted)) return false;
    const Before* before = Find(*cut_off);
    const bool ran = before != nullptr && before->running;
    // It may have found a part in the cache.
    const int32_t had = ran ? before->remaining : cut_off->known();
    if (2 * admitted.remaining() > had) return false;
    if (cut_off->state == SequenceState::kRetiring) return ran && !before->ended;
    return Runs(*cut_off) && cut_off->planned > (ran ? before->planned : 0) &&
           cut_off->remaining() > 0;
  });
}

// No sequence is admitted ahead of one that could have been, including a preempted one, unless it
// may pass.
void Fairness::ExpectAdmissionsInOrder(const std::vector<const Sequence*>& sequences,
                                       const EngineRig& rig) const {
  const Sequence* first = nullptr;
  for (const Sequence* sequence : sequences) {
    if (LeftOut(*sequence, rig) && (first == nullptr || RankBefore(*sequence, *first)))
      first = sequence;
  }
  if (first == nullptr) return;
  for (const Sequence* sequence : sequences) {
    const Before* before = Find(*sequence);
    const bool admitted = Runs(*sequence) && (before == nullptr || !before->running);
    if (!admitted || MayPass(*sequence, *first, sequences)) continue;
    EXPECT_FALSE(RankBefore(*first, *sequence))
        << "request " << sequence->live->order << " passed request " << first->live->order;
  }
}

// A decode whose reader has room is in the step.
void Fairness::ExpectDecodesPlanned(const std::vector<const Sequence*>& sequences) const {
  for (const Sequence* sequence : sequences) {
    const Before* before = Find(*sequence);
    if (before == nullptr || !before->decode || !Runs(*sequence) || sequence->paused) continue;
    if (sequence->preemptions != before->preemptions) continue;
    EXPECT_EQ(sequence->planned, before->planned + 1) << "of request " << sequence->live->order;
  }
}

// While all slots stay taken, no sequence waits that is more urgent than a running one, or while a
// running one is paused; unless it would have no pages, no token of the step, or has rows in
// flight.
void Fairness::ExpectSlotsGoToTheUrgent(std::vector<const Sequence*> sequences,
                                        const EngineRig& rig) const {
  const int32_t slots = rig.info().max_num_seqs;
  if (slots_taken_ < slots || SlotsTaken(sequences) < slots) return;
  const double tokens = rig.core().stats().step_tokens.sum() - step_tokens_;
  // The budget of a step with decodes; other steps have more.
  if (tokens >= rig.info().mixed_step_tokens) return;
  std::ranges::sort(sequences,
                    [](const Sequence* a, const Sequence* b) { return RankBefore(*a, *b); });
  for (const Sequence* waiting : sequences) {
    const Before* waited = Find(*waiting);
    if (waited == nullptr || !waited->ready || !LeftOut(*waiting, rig)) continue;
    if (waited->in_flight) return;  // who is behind may not pass it
    std::vector<const Sequence*> kept;
    for (const Sequence* other : sequences) {
      const bool gives = RankBefore(*waiting, *other) &&
                         (!Runs(*other) || PriorityOf(*other) > PriorityOf(*waiting));
      if (other != waiting && !gives) kept.push_back(other);
    }
    if (!SurelyFits(*waiting, kept, rig)) return;  // nor may it here
    for (const Sequence* running : sequences) {
      const Before* ran = Find(*running);
      if (ran == nullptr || !ran->running || !Runs(*running)) continue;
      if (running->preemptions != ran->preemptions) continue;
      const bool paused = ran->paused && running->paused;
      EXPECT_FALSE(paused || PriorityOf(*running) > PriorityOf(*waiting))
          << "request " << waiting->live->order << " waits for request " << running->live->order;
    }
  }
}

// A sequence was preempted for another that was admitted, or that got a page; or for one that runs
// and still could not proceed, as those ahead of it hold everything.
void Fairness::ExpectNoPreemptionInVain(const std::vector<const Sequence*>& sequences,
                                        const EngineRig& rig) const {
  if (Finished(rig) != finished_) return;  // the finished one may have been the reason
  const Sequence* preempted = nullptr;
  for (const Sequence* sequence : sequences) {
    const Before* before = Find(*sequence);
    if (before != nullptr && sequence->preemptions != before->preemptions) preempted = sequence;
    const bool ran = before != nullptr && before->running;
    const bool ended =
        sequence->state == SequenceState::kRetiring && (before == nullptr || !before->ended);
    const bool admitted = !ran && Runs(*sequence);
    const bool grew = ran && Runs(*sequence) && sequence->blocks() > before->blocks;
    const bool stands = ran && Runs(*sequence) && !sequence->paused && sequence->wants_rows() &&
                        sequence->planned == before->planned;
    if (ended || admitted || grew || stands) return;
  }
  if (preempted == nullptr) return;
  ADD_FAILURE() << "request " << preempted->live->order << " was preempted for nobody";
}

void Fairness::ExpectKept(const EngineRig& rig) const {
  const std::vector<const Sequence*> sequences = SequencesOf(rig);
  ExpectAdmissionsInOrder(sequences, rig);
  ExpectDecodesPlanned(sequences);
  ExpectSlotsGoToTheUrgent(sequences, rig);
  ExpectNoPreemptionInVain(sequences, rig);
}

}  // namespace baram::testing
