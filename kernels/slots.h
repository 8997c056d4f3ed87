// SlotTable: the slots of a synchronous device, in host memory. Applies a step's deltas and expands
// its rows into the flat arrays of a StepView.
#ifndef BARAM_KERNELS_SLOTS_H_
#define BARAM_KERNELS_SLOTS_H_

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "kernels/step.h"
#include "kernels/step_rows.h"

namespace baram {

// Penalty counts are one uint16 per token of the vocabulary: the top bit is set if the prompt
// contains the token, the rest counts how often it was generated (saturating).
inline constexpr uint16_t kCountInPrompt = 0x8000;
inline constexpr uint16_t kCountOutputs = 0x7fff;

// What a device's sampler knows about one slot.
struct SlotState {
  int32_t length = 0;       // tokens with KV, the current step's included
  int32_t last_token = -1;  // drawn last; -1: none yet
  int32_t generated = 0;    // output tokens so far
  SamplingParams sampling;
  std::span<const TokenBias> bias;
  std::span<const int32_t> stop_ids;
  const uint16_t* counts = nullptr;  // [vocab_size]; null unless sampling.NeedsCounts()
};

// Owned by a device, used by its executor thread. Workers may call State and Draw concurrently for
// different slots, and for the same slot while one of its outputs is drawn and others are scored:
// scoring reads only `sampling` from the state.
class SlotTable {
 public:
  // Reserves everything BeginStep will need; nothing is allocated afterwards. Throws
  // std::bad_alloc.
  void Reserve(const SlotShape& shape);
  // What Reserve takes, but the arrays of a step.
  static int64_t Bytes(const SlotShape& shape);
  const SlotShape& shape() const { return shape_; }

  // See Device::BeginStep. The view's arrays live in this table until the next call.
  StepView BeginStep(const StepInput& input);

  const SlotState& State(int32_t slot) const { return states_[slot]; }

  // Records a drawn token: it becomes the slot's last token and enters its counts.
  void Draw(int32_t slot, int32_t token);

 private:
  struct FreeMemory {
    void operator()(uint16_t* memory) const { std::free(memory); }
  };

  void Apply(const SlotInit& init);
  void Apply(const PageDelta& delta);
  void CountOutput(int32_t slot, int32_t token);
  uint16_t* Counts(int32_t slot) { return counts_.get() + int64_t{slot} * shape_.vocab_size; }

  SlotShape shape_;
  std::vector<SlotState> states_;  // [slots]
  std::vector<TokenBias> bias_;    // [slots, kMaxBiasedTokens]
  std::vector<int32_t> stop_ids_;  // [slots, kMaxStopIds]
  // [slots, vocab_size]. From calloc: costs address space only, until a request has penalties.
  std::unique_ptr<uint16_t[], FreeMemory> counts_;
  std::vector<int32_t> page_tables_;  // [groups, slots, max_pages_per_slot], -1: no page

  StepArrays step_;
  std::vector<std::vector<int32_t>> step_memory_;  // what step_ points to, one per array
};

}  // namespace baram

#endif  // BARAM_KERNELS_SLOTS_H_
