// Applies a step's upload to the slots and expands its rows. Fills in what the host cannot know:
// the token a slot drew last.
//
// Bound by launch latency: a decode step of 256 rows moves about 20 KiB.
#include <algorithm>

#include "kernels/cuda/instructions.h"
#include "kernels/cuda/slot_arrays.h"
#include "kernels/slots.h"

namespace baram::cuda {
namespace {

constexpr uint32_t kBindThreads = 256;
constexpr uint32_t kExpandThreads = 128;

// Counts are 16 bits wide; the atomic is 32 bits wide and covers two.
__device__ __forceinline__ void Count(uint16_t* counts, int32_t token, bool in_prompt) {
  auto* word = reinterpret_cast<uint32_t*>(counts) + token / 2;
  const int shift = 16 * (token % 2);
  uint32_t before = *word;
  while (true) {
    uint32_t count = before >> shift & 0xffffu;
    if (in_prompt) {
      count |= kCountInPrompt;
    } else if ((count & kCountOutputs) != kCountOutputs) {
      ++count;
    }
    const uint32_t after = (before & ~(0xffffu << shift)) | count << shift;
    const uint32_t found = AtomicCompareSwap(word, before, after);
    if (found == before) return;
    before = found;
  }
}

template <typename T>
__device__ __forceinline__ void FillByBlock(T* to, int64_t count, T value) {
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) to[i] = value;
}
template <typename T>
__device__ __forceinline__ void CopyByBlock(const T* from, T* to, int64_t count) {
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) to[i] = from[i];
}

__global__ void __launch_bounds__(kBindThreads)
    BindKernel(const __grid_constant__ BindLaunch args) {
  WaitForPrevious();
  LetNextStart();
  const SlotBinding& binding = args.bindings[blockIdx.x];
  const SlotArrays& slots = args.slots;
  const int64_t slot = binding.slot;
  uint16_t* counts = slots.counts + slot * slots.counts_stride;
  if (binding.begins) {
    if (threadIdx.x == 0) slots.sampling[slot] = binding.state;
    CopyByBlock(args.bias + binding.bias_begin, slots.bias + slot * kMaxBiasedTokens,
                binding.state.bias_count);
    CopyByBlock(args.stop_ids + binding.stop_begin, slots.stop_ids + slot * kMaxStopIds,
                binding.state.stop_count);
    for (int32_t group = 0; group < slots.groups; ++group) {
      FillByBlock(
          slots.page_tables + (int64_t{group} * slots.slots + slot) * slots.max_pages_per_slot,
          slots.max_pages_per_slot, int32_t{-1});
    }
    if (binding.counts) {
      FillByBlock(reinterpret_cast<uint32_t*>(counts), slots.counts_stride / 2, uint32_t{0});
    }
  }
  __syncthreads();
  if (!binding.counts) return;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < binding.token_count; i += blockDim.x) {
    const int32_t token = args.history[binding.token_begin + i];
    if (token < 0 || token >= slots.vocab_size) continue;
    Count(counts, token, i < binding.prompt_count);
  }
}

// One block per row; entries, outputs and padding are divided among all threads of the grid.
__global__ void __launch_bounds__(kExpandThreads)
    ExpandKernel(const __grid_constant__ ExpandLaunch args) {
  WaitForPrevious();
  LetNextStart();
  const int32_t first = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  const int32_t threads = static_cast<int32_t>(gridDim.x * blockDim.x);
  for (int32_t i = first; i < args.page_count; i += threads) {
    args.slots.page_tables[args.pages[i].at] = args.pages[i].page;
  }
  for (int32_t i = first; i < args.output_count; i += threads) {
    args.step.output_tokens[i] = args.outputs[i].token;
    args.step.output_slots[i] = args.outputs[i].slot;
    args.step.output_targets[i] = args.outputs[i].target;
  }
  for (int32_t i = args.row_count + first; i < args.padded_rows; i += threads) {
    args.step.token_ids[i] = 0;
    args.step.positions[i] = 0;
    args.step.token_slots[i] = -1;
    args.step.output_tokens[i] = i;
    args.step.output_slots[i] = -1;
    args.step.output_targets[i] = -1;
  }
  const int32_t r = static_cast<int32_t>(blockIdx.x);
  if (r >= args.row_count) return;
  const StepRow row = args.rows[r];
  if (threadIdx.x == 0) {
    args.step.row_slots[r] = row.slot;
    args.step.row_begin[r] = row.begin;
    if (r + 1 == args.row_count) args.step.row_begin[r + 1] = row.begin + row.count;
  }
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < row.count; i += blockDim.x) {
    // last_token may be -1: nothing is drawn from a non-finite row. With two steps in flight the
    // next one is planned already: its result will be dropped, but it still reads the embedding
    // table.
    const int32_t drawn = args.slots.sampling[row.slot].last_token;
    args.step.token_ids[row.begin + i] =
        row.source >= 0 ? args.tokens[row.source + i] : (drawn < 0 ? 0 : drawn);
    args.step.positions[row.begin + i] = row.position + i;
    args.step.token_slots[row.begin + i] = row.slot;
  }
}

}  // namespace

void LaunchBind(const BindLaunch& launch, int32_t bindings, LaunchStream stream) {
  if (bindings == 0) return;
  Launch(BindKernel, {static_cast<uint32_t>(bindings)}, {kBindThreads}, 0, stream, launch);
}

void LaunchExpand(const ExpandLaunch& launch, LaunchStream stream) {
  const int32_t blocks = std::max(launch.row_count, 1);
  Launch(ExpandKernel, {static_cast<uint32_t>(blocks)}, {kExpandThreads}, 0, stream, launch);
}

}  // namespace baram::cuda
