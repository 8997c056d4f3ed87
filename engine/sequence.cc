// Sequence and LiveRequest: values derived from their fields, and lists in order of rank.
#include "engine/sequence.h"

#include <algorithm>

#include "kernels/check.h"

namespace baram {

const Sequence* LiveRequest::leader() const {
  for (const Sequence& sequence : outputs) {
    if (sequence.state != SequenceState::kRetiring) return &sequence;
  }
  return nullptr;
}

Rank RankOf(const Sequence& sequence) {
  return {sequence.live->request.priority, sequence.live->order, sequence.index};
}

bool RankBefore(const Sequence& a, const Sequence& b) { return RankOf(a) < RankOf(b); }

void InsertByRank(std::vector<Sequence*>& list, Sequence& sequence) {
  const auto rank = [](const Sequence* other) { return RankOf(*other); };
  list.insert(std::ranges::upper_bound(list, RankOf(sequence), {}, rank), &sequence);
}

void EraseByRank(std::vector<Sequence*>& list, const Sequence& sequence) {
  const auto rank = [](const Sequence* other) { return RankOf(*other); };
  const auto at = std::ranges::lower_bound(list, RankOf(sequence), {}, rank);
  Check(at != list.end() && *at == &sequence, "a sequence is where its rank is");
  list.erase(at);
}

}  // namespace baram
