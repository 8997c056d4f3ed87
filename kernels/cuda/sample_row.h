// A row of logits, or a part of it, as one block of Sample sees it: raw; after bias, masks and
// penalties; tempered. Also the block's shared memory.
//
// Every pass applies masks and penalties on the fly; bias and stop ids, which are few, are written
// into the row.
#ifndef BARAM_KERNELS_CUDA_SAMPLE_ROW_H_
#define BARAM_KERNELS_CUDA_SAMPLE_ROW_H_

#include <cstdint>

#include "kernels/cuda/instructions.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/prims/select.h"
#include "kernels/sampler_math.h"

namespace baram::cuda {

// Tokens per thread and access: as many as the words of one Philox block.
inline constexpr int kGroup = 4;
// Groups that a thread loads while it processes as many: 512 threads of 48 bytes keep 24 KiB per
// multiprocessor in flight, about HBM's latency-bandwidth product. With one more, registers spill.
inline constexpr int kBatch = 3;
inline constexpr float kMasked = -INFINITY;

// A token competing for the best score.
struct Candidate {
  double score;
  int32_t token;  // -1: none
};

// A block's part of shared memory.
struct SampleMemory {
  SelectMemory select;
  Weight weights[kWarpThreads];
  double doubles[kWarpThreads];
  float floats[kWarpThreads];
  int32_t ints[kWarpThreads];
  Candidate candidates[kWarpThreads];
  float saved[kMaxBiasedTokens + kMaxStopIds];  // raw logits that bias and stop ids replace
};

// A row, or the tokens [begin, n) of it, as one block reads it.
struct LogitRow {
  float* x;       // of token 0
  int32_t begin;  // a multiple of kGroup
  int32_t n;
  bool wide;

  // The four logits from v on; those from n on may be anything.
  __device__ __forceinline__ float4 Group(int32_t v) const {
    if (wide) return v < n ? *reinterpret_cast<const float4*>(x + v) : float4{0, 0, 0, 0};
    return float4{v < n ? x[v] : 0.0f, v + 1 < n ? x[v + 1] : 0.0f, v + 2 < n ? x[v + 2] : 0.0f,
                  v + 3 < n ? x[v + 3] : 0.0f};
  }

  __device__ __forceinline__ void LoadBatch(int32_t v, int32_t stride,
                                            float4 (&groups)[kBatch]) const {
    BARAM_UNROLL
    for (int b = 0; b < kBatch; ++b) groups[b] = Group(v + b * stride);
  }

  // Calls visit(first, values, count) for the calling thread's groups of up to four tokens. The row
  // must not be written meanwhile.
  template <typename Visit>
  __device__ __forceinline__ void ForGroups(const Visit& visit) const {
    const int32_t stride = static_cast<int32_t>(blockDim.x) * kGroup;
    int32_t v = begin + static_cast<int32_t>(threadIdx.x) * kGroup;
    float4 next[kBatch];
    LoadBatch(v, stride, next);
    for (; v < n; v += kBatch * stride) {
      float4 batch[kBatch];
      BARAM_UNROLL
      for (int b = 0; b < kBatch; ++b) batch[b] = next[b];
      LoadBatch(v + kBatch * stride, stride, next);
      BARAM_NO_UNROLL
      for (int b = 0; b < kBatch; ++b) {
        const int32_t first = v + b * stride;
        if (first >= n) break;
        float4 four = batch[0];
        BARAM_UNROLL
        for (int i = 1; i < kBatch; ++i) {
          if (i == b) four = batch[i];  // indexing would put the batch into local memory
        }
        const float values[kGroup] = {four.x, four.y, four.z, four.w};
        visit(first, values, n - first < kGroup ? n - first : kGroup);
      }
    }
  }
  template <typename Visit>
  __device__ __forceinline__ void ForTokens(const Visit& visit) const {
    ForGroups([&](int32_t first, const float(&values)[kGroup], int count) {
      for (int i = 0; i < kGroup; ++i) {  // a fixed length keeps the group in registers
        if (i < count) visit(first + i, values[i]);
      }
    });
  }
};

// The logits after bias, masks and penalties.
struct EditedRow {
  LogitRow row;
  const uint32_t* mask;    // or null
  const uint16_t* counts;  // or null
  const SamplingParams& params;

  __device__ __forceinline__ float Edit(int32_t token, float x) const {
    if (!MaskAllows(mask, token)) x = kMasked;
    return counts != nullptr ? Penalized(x, counts[token], params) : x;
  }
  template <typename Visit>
  __device__ __forceinline__ void ForTokens(const Visit& visit) const {
    row.ForTokens([&](int32_t token, float x) { visit(token, Edit(token, x)); });
  }
};

// (logit - max) / temperature of an edited row.
struct TemperedRow {
  EditedRow row;
  float largest;
  float temperature;

  __device__ __forceinline__ float Temper(float x) const { return (x - largest) / temperature; }
  template <typename Visit>
  __device__ __forceinline__ void ForTokens(const Visit& visit) const {
    row.ForTokens([&](int32_t token, float x) { visit(token, Temper(x)); });
  }
};

// Bias and stop ids: written into the row, and undone before the report of the raw logits.
struct Edits {
  const TokenBias* bias;
  const int32_t* stop_ids;
  int32_t bias_count;
  int32_t stop_count;  // 0 once min_tokens is reached
  int32_t vocab;

  __device__ __forceinline__ int32_t Count() const { return bias_count + stop_count; }
  // The token of edit i, or -1.
  __device__ __forceinline__ int32_t Token(int32_t i) const {
    const int32_t token = i < bias_count ? bias[i].token : stop_ids[i - bias_count];
    return token >= 0 && token < vocab ? token : -1;
  }
  template <typename Visit>
  __device__ __forceinline__ void ForOwn(const Visit& visit) const {
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < Count(); i += blockDim.x) {
      const int32_t token = Token(i);
      if (token >= 0) visit(i, token);
    }
  }
  // A token may occur more than once: all raw logits are saved before the first is changed.
  __device__ void Apply(float* x, float* saved) const {
    if (Count() == 0) return;
    ForOwn([&](int32_t i, int32_t token) { saved[i] = x[token]; });
    __syncthreads();
    ForOwn([&](int32_t i, int32_t token) {
      if (i < bias_count) AtomicAdd(&x[token], bias[i].bias);
    });
    __syncthreads();
    ForOwn([&](int32_t i, int32_t token) {
      if (i >= bias_count) x[token] = kMasked;
    });
    __syncthreads();
  }
  __device__ void Undo(float* x, const float* saved) const {
    if (Count() == 0) return;
    ForOwn([&](int32_t i, int32_t token) { x[token] = saved[i]; });
    __syncthreads();
  }
};

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_SAMPLE_ROW_H_
