// Sequence and LiveRequest: what follows from their fields.
#include "engine/sequence.h"

#include <algorithm>

namespace baram {

const Sequence* LiveRequest::leader() const {
  for (const Sequence& sequence : outputs) {
    if (sequence.state != SequenceState::kRetiring) return &sequence;
  }
  return nullptr;
}

SteadyTime LiveRequest::first_token() const {
  SteadyTime first{};
  for (const Sequence& sequence : outputs) {
    if (sequence.first_token == SteadyTime{}) continue;
    if (first == SteadyTime{} || sequence.first_token < first) first = sequence.first_token;
  }
  return first;
}

Rank RankOf(const Sequence& sequence) {
  return {sequence.request->request.priority, sequence.request->order, sequence.index};
}

}  // namespace baram
