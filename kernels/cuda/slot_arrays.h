// The state of the slots in GPU memory, as kernels see it. The host keeps only the lengths.
#ifndef BARAM_KERNELS_CUDA_SLOT_ARRAYS_H_
#define BARAM_KERNELS_CUDA_SLOT_ARRAYS_H_

#include <cstdint>

#include "kernels/cuda/runtime.h"
#include "kernels/step.h"
#include "kernels/step_rows.h"

namespace baram::cuda {

// What Sample knows about one slot besides its counts and lists.
struct SlotSampling {
  SamplingParams params;
  int32_t generated = 0;    // output tokens so far
  int32_t last_token = -1;  // drawn last; -1: none yet
  int32_t bias_count = 0;
  int32_t stop_count = 0;
};

// Pointers into one allocation, fixed for the device's lifetime.
struct SlotArrays {
  SlotSampling* sampling = nullptr;  // [slots]
  TokenBias* bias = nullptr;         // [slots, kMaxBiasedTokens]
  int32_t* stop_ids = nullptr;       // [slots, kMaxStopIds]
  uint16_t* counts = nullptr;        // [slots, counts_stride], see kCountInPrompt
  int32_t* page_tables = nullptr;    // [groups, slots, max_pages_per_slot], -1: no page
  int64_t counts_stride = 0;         // at least vocab_size, a multiple of 8
  int32_t vocab_size = 0;
  int32_t slots = 0;
  int32_t groups = 0;
  int32_t max_pages_per_slot = 0;
};

// What a step's upload consists of. Offsets count elements from the beginning of their section.

// (Re)binds a slot, or adds tokens to the counts of one bound by the previous piece.
struct SlotBinding {
  int32_t slot;
  bool begins;          // the first piece: sets parameters, clears tables and counts
  bool counts;          // SamplingParams::NeedsCounts()
  int32_t token_begin;  // of this piece, among the upload's history
  int32_t token_count;
  int32_t prompt_count;  // how many of these are prompt
  int32_t bias_begin;
  int32_t stop_begin;
  SlotSampling state;
};

struct PageEntry {
  int32_t at;  // index into SlotArrays::page_tables
  int32_t page;
};

struct StepRow {
  int32_t slot;
  int32_t begin;  // its first token in the step
  int32_t count;
  int32_t position;  // of its first token
  int32_t source;    // index of its first id in the upload's tokens; -1: continues
};

struct OutputEntry {
  int32_t token;
  int32_t slot;
  int32_t target;
};

// Binds slots; one block per binding.
struct BindLaunch {
  SlotArrays slots;
  const SlotBinding* bindings;
  const int32_t* history;
  const TokenBias* bias;
  const int32_t* stop_ids;
};
void LaunchBind(const BindLaunch& launch, int32_t bindings, LaunchStream stream);

// Sets page table entries and expands rows and outputs.
struct ExpandLaunch {
  SlotArrays slots;
  StepArrays step;
  const PageEntry* pages;
  const StepRow* rows;
  const int32_t* tokens;
  const OutputEntry* outputs;
  int32_t page_count;
  int32_t row_count;
  int32_t output_count;
  int32_t padded_rows;  // see StepInput
};
void LaunchExpand(const ExpandLaunch& launch, LaunchStream stream);

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_SLOT_ARRAYS_H_
