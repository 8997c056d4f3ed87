// Fairness: the order of admission, decodes, slots.
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

bool Runs(const Sequence& sequence) { return sequence.state == SequenceState::kRunning; }

int32_t PriorityOf(const Sequence& sequence) { return sequence.request->request.priority; }

}  // namespace

Fairness::Fairness(const EngineRig& rig) {
  const std::vector<const Sequence*> sequences = SequencesOf(rig);
  slots_taken_ = SlotsTaken(sequences);
  for (const Sequence* sequence : sequences) {
    const LiveRequest& live = *sequence->request;
    Before& before = before_[KeyOf(*sequence)];
    before.running = Runs(*sequence);
    before.paused = sequence->paused;
    before.ready = sequence->state == SequenceState::kWaiting &&
                   (live.prompt_shared || live.leader() == sequence);
    before.decode = before.running && sequence->remaining() == 1 && sequence->wants_rows() &&
                    sequence->planned < sequence->blocks() * rig.info().page_tokens;
    before.planned = sequence->planned;
    before.preemptions = sequence->preemptions;
  }
}

Fairness::Key Fairness::KeyOf(const Sequence& sequence) {
  return {sequence.request->order, sequence.index};
}

const Fairness::Before* Fairness::Find(const Sequence& sequence) const {
  const auto found = before_.find(KeyOf(sequence));
  return found == before_.end() ? nullptr : &found->second;
}

bool Fairness::LeftOut(const Sequence& sequence) const {
  if (sequence.state != SequenceState::kWaiting || sequence.paused) return false;
  const Before* before = Find(sequence);
  // Who ran before was preempted, and may not be followed by who is behind either.
  return before == nullptr ? sequence.index == 0 : before->ready || before->running;
}

// Nobody is admitted past one that could have been, a preempted one included.
void Fairness::ExpectAdmissionsInOrder(const std::vector<const Sequence*>& sequences) const {
  const Sequence* first = nullptr;
  for (const Sequence* sequence : sequences) {
    if (LeftOut(*sequence) && (first == nullptr || RankBefore(*sequence, *first))) first = sequence;
  }
  if (first == nullptr) return;
  for (const Sequence* sequence : sequences) {
    const Before* before = Find(*sequence);
    const bool admitted = Runs(*sequence) && (before == nullptr || !before->running);
    EXPECT_FALSE(admitted && RankBefore(*first, *sequence))
        << "request " << sequence->request->order << " passed request " << first->request->order;
  }
}

// A decode whose reader has made room is in the step.
void Fairness::ExpectDecodesPlanned(const std::vector<const Sequence*>& sequences) const {
  for (const Sequence* sequence : sequences) {
    const Before* before = Find(*sequence);
    if (before == nullptr || !before->decode || !Runs(*sequence) || sequence->paused) continue;
    if (sequence->preemptions != before->preemptions) continue;
    EXPECT_EQ(sequence->planned, before->planned + 1) << "of request " << sequence->request->order;
  }
}

// While all slots stay taken, nobody waits who is more urgent than one that runs, or where one that
// runs is paused.
void Fairness::ExpectSlotsGoToTheUrgent(const std::vector<const Sequence*>& sequences,
                                        int32_t slots) const {
  if (slots_taken_ < slots || SlotsTaken(sequences) < slots) return;
  for (const Sequence* waiting : sequences) {
    const Before* waited = Find(*waiting);
    if (waited == nullptr || !waited->ready || !LeftOut(*waiting)) continue;
    for (const Sequence* running : sequences) {
      const Before* ran = Find(*running);
      if (ran == nullptr || !ran->running || !Runs(*running)) continue;
      if (running->preemptions != ran->preemptions) continue;
      const bool paused = ran->paused && running->paused;
      EXPECT_FALSE(paused || PriorityOf(*running) > PriorityOf(*waiting))
          << "request " << waiting->request->order << " waits for request "
          << running->request->order;
    }
  }
}

void Fairness::ExpectKept(const EngineRig& rig) const {
  const std::vector<const Sequence*> sequences = SequencesOf(rig);
  ExpectAdmissionsInOrder(sequences);
  ExpectDecodesPlanned(sequences);
  ExpectSlotsGoToTheUrgent(sequences, rig.info().max_num_seqs);
}

}  // namespace baram::testing
