// Selects the largest of a block's items without sorting: by histograms of their keys' digits in
// shared memory or, if few items can matter, by a short list of these.
//
// Weights are integers, so the order in which threads add them does not matter, nor that of a list.
#ifndef BARAM_KERNELS_CUDA_PRIMS_SELECT_H_
#define BARAM_KERNELS_CUDA_PRIMS_SELECT_H_

#include <cstdint>

#include "kernels/cuda/instructions.h"

namespace baram::cuda {

using Weight = uint64_t;  // of an item
inline constexpr int kDigitBits = 11;
inline constexpr int kBins = 1 << kDigitBits;
inline constexpr int kBinsPerLane = kBins / kWarpThreads;

static_assert(kBinsPerLane == 2 * kWarpThreads, "FindBin takes two steps");

// A 64-bit sum in two 32-bit halves: shared memory has a 32-bit atomic add, but 64 bits take a
// compare-and-swap loop, and many items may contend for few bins.
struct alignas(8) Bin {
  uint32_t low, high;

  __device__ __forceinline__ Weight Sum() const { return Weight{high} << 32 | low; }
  // Sum() includes what was added before the last barrier.
  __device__ __forceinline__ void Add(Weight weight) {
    const auto weight_low = static_cast<uint32_t>(weight);
    const uint32_t before = AtomicAdd(&low, weight_low);
    const uint32_t carry = before + weight_low < weight_low ? 1 : 0;
    const uint32_t weight_high = static_cast<uint32_t>(weight >> 32) + carry;
    if (weight_high != 0) AtomicAdd(&high, weight_high);
  }
};

// Tokens and their values, in no order.
struct ShortList {
  static constexpr int32_t kMax = 1024;
  int32_t found;
  int32_t tokens[kMax];
  float values[kMax];

  // Calls visit(token, value) for the calling thread's tokens.
  template <typename Visit>
  __device__ __forceinline__ void ForTokens(const Visit& visit) const {
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < found; i += blockDim.x) {
      visit(tokens[i], values[i]);
    }
  }
};

// A block's part of shared memory.
struct SelectMemory {
  Bin histogram[kBins];
  Weight above;  // of the bins above the chosen one
  int32_t bin;   // -1: all weights together are too few
  uint32_t key;
  ShortList list;
};

// Larger keys for larger values; +0 and -0 have the same key. 0 is no value's key.
__device__ __forceinline__ uint32_t KeyOf(float value) {
  const uint32_t bits = BitsOf(value + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float ValueOf(uint32_t key) {
  if (key == 0) return -INFINITY;
  return FloatOf((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

// The sum of the lane's own weight and those of the lanes above it.
__device__ __forceinline__ Weight SumFromTop(Weight own) {
  const int lane = static_cast<int>(threadIdx.x);
  Weight sum = own;
  for (int distance = 1; distance < kWarpThreads; distance *= 2) {
    const int from = lane + distance < kWarpThreads ? lane + distance : lane;
    const Weight other = ShuffleFrom(sum, from);
    if (from != lane) sum += other;
  }
  return sum;
}

// Finds the bin in which the weights, summed from the largest bin down, reach `wanted`: first the
// lane that holds it, then which of the lane's bins it is. Only the first warp calls it; memory.bin
// is -1 before.
__device__ __forceinline__ void FindBin(Weight wanted, SelectMemory& memory) {
  const int lane = static_cast<int>(threadIdx.x);
  Weight own = 0;
  for (int i = 0; i < kBinsPerLane; ++i) {
    // Lanes begin at different bins, so that they hit different banks.
    own += memory.histogram[lane * kBinsPerLane + (i + lane) % kBinsPerLane].Sum();
  }
  Weight sum = SumFromTop(own);
  if (sum - own < wanted && sum >= wanted) {
    memory.bin = lane;
    memory.above = sum - own;
  }
  SyncWarp();
  const int32_t part = memory.bin;
  const Weight above_part = memory.above;
  SyncWarp();
  if (part < 0) return;
  wanted -= above_part;
  const int32_t first = part * kBinsPerLane + 2 * lane;
  const Weight high = memory.histogram[first + 1].Sum();
  own = memory.histogram[first].Sum() + high;
  sum = SumFromTop(own);
  const Weight above = sum - own;
  if (above < wanted && sum >= wanted) {
    const bool in_high = above + high >= wanted;
    memory.bin = first + (in_high ? 1 : 0);
    memory.above = above_part + above + (in_high ? 0 : high);
  }
}

// The largest key such that the items at or above it weigh at least `wanted` (>= 1); 0 if all items
// together weigh less. each(add) calls add(key, weight) for the calling thread's items.
template <typename Each>
__device__ uint32_t SelectKey(Weight wanted, SelectMemory& memory, const Each& each) {
  uint32_t prefix = 0;
  uint32_t prefix_mask = 0;
  for (int shift = 32 - kDigitBits;; shift = shift > kDigitBits ? shift - kDigitBits : 0) {
    for (uint32_t i = threadIdx.x; i < kBins; i += blockDim.x) memory.histogram[i] = {0, 0};
    if (threadIdx.x == 0) memory.bin = -1;
    __syncthreads();
    each([&](uint32_t key, Weight weight) {
      if ((key & prefix_mask) != prefix) return;
      memory.histogram[key >> shift & (kBins - 1)].Add(weight);
    });
    __syncthreads();
    if (threadIdx.x < kWarpThreads) FindBin(wanted, memory);
    __syncthreads();
    const int32_t bin = memory.bin;
    wanted -= memory.above;
    __syncthreads();
    if (bin < 0) return 0;
    prefix |= static_cast<uint32_t>(bin) << shift;
    prefix_mask |= static_cast<uint32_t>(kBins - 1) << shift;
    if (shift == 0) return prefix;
  }
}

// Lists the tokens at or above `start`. All threads of the block call it. False if there are too
// many.
template <typename Row>
__device__ bool Shorten(const Row& row, float start, ShortList& list) {
  __syncthreads();  // the list may still be read
  if (threadIdx.x == 0) list.found = 0;
  __syncthreads();
  row.ForTokens([&](int32_t token, float value) {
    if (!(value >= start)) return;
    const int32_t at = AtomicAdd(&list.found, 1);
    if (at >= ShortList::kMax) return;
    list.tokens[at] = token;
    list.values[at] = value;
  });
  __syncthreads();
  return list.found <= ShortList::kMax;
}

// The k-th largest value of a list; -infinity if it is shorter.
__device__ __forceinline__ float KthOf(const ShortList& list, int32_t k, SelectMemory& memory) {
  if (threadIdx.x == 0) memory.key = 0;
  __syncthreads();
  list.ForTokens([&](int32_t, float value) {
    int32_t larger = 0;
    int32_t equal = 0;
    for (int32_t i = 0; i < list.found; ++i) {
      larger += list.values[i] > value;
      equal += list.values[i] == value;
    }
    if (larger < k && larger + equal >= k) AtomicMax(&memory.key, KeyOf(value));
  });
  __syncthreads();
  return ValueOf(memory.key);
}

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_PRIMS_SELECT_H_
