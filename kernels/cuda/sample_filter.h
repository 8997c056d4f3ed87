// min-p, top-k and top-p of a row, as a bound at or above which tokens stay. Nothing is sorted.
//
// Top-k takes one pass: each thread knows its largest value, few tokens exceed the k-th largest of
// these, and they are listed and ranked in shared memory. Top-p alone takes two passes: one sums
// the mass above each of a few levels, one lists the tokens above the highest level that suffices.
// If a list would be too long, as with flat distributions, bounds are selected from the row digit
// by digit, by histograms in shared memory, in three passes each.
#ifndef BARAM_KERNELS_CUDA_SAMPLE_FILTER_H_
#define BARAM_KERNELS_CUDA_SAMPLE_FILTER_H_

#include <cstdint>

#include "kernels/cuda/instructions.h"
#include "kernels/cuda/prims/reduce.h"
#include "kernels/cuda/prims/select.h"
#include "kernels/cuda/sample_row.h"

namespace baram::cuda {

// The mass of a token as likely as the likeliest: sums over 2^23 tokens fit.
inline constexpr float kMassUnit = 0x1p40f;

// A value that at least `k` items reach, but not many more: the k-th largest of the threads'
// maxima.
inline __device__ float AtLeastTop(int32_t k, float own_largest, SampleMemory& shared) {
  if (k > static_cast<int32_t>(blockDim.x)) return kMasked;
  return ValueOf(SelectKey(static_cast<Weight>(k), shared.select, [&](const auto& add) {
    if (own_largest > kMasked) add(KeyOf(own_largest), Weight{1});
  }));
}

__device__ __forceinline__ Weight Mass(float z) { return static_cast<Weight>(expf(z) * kMassUnit); }

// The least mass of `total` that top-p keeps.
__device__ __forceinline__ Weight MassOf(float top_p, Weight total) {
  const double wanted = ceil(static_cast<double>(top_p) * static_cast<double>(total));
  return wanted > 1 ? static_cast<Weight>(wanted) : Weight{1};
}

// What remains of a row after its filters: the tokens of the list, or of the row, at or above
// `bound`.
struct Filtered {
  float bound;
  bool listed;
};

inline __device__ void FilterTopK(const TemperedRow& z, int32_t k, float own_largest,
                                  Filtered& left, SampleMemory& shared) {
  const float start = fmaxf(left.bound, AtLeastTop(k, own_largest, shared));
  // -infinity means masked.
  left.listed = start > kMasked && Shorten(z, start, shared.select.list);
  if (left.listed) {
    left.bound = fmaxf(left.bound, KthOf(shared.select.list, k, shared.select));
    return;
  }
  const uint32_t key = SelectKey(static_cast<Weight>(k), shared.select, [&](const auto& add) {
    z.ForTokens([&](int32_t, float value) {
      if (value >= start && value > kMasked) add(KeyOf(value), Weight{1});
    });
  });
  left.bound = fmaxf(left.bound, ValueOf(key));
}

// The bound of top-p among tokens at or above `start`, whose mass reaches `wanted`.
template <typename Row>
__device__ float SelectByMass(const Row& row, float start, Weight wanted, SampleMemory& shared) {
  return ValueOf(SelectKey(wanted, shared.select, [&](const auto& add) {
    row.ForTokens([&](int32_t, float value) {
      if (value >= start && value > kMasked) add(KeyOf(value), Mass(value));
    });
  }));
}

inline __device__ void FilterTopPOfList(float top_p, Filtered& left, SampleMemory& shared) {
  Weight own = 0;
  shared.select.list.ForTokens([&](int32_t, float value) {
    if (value >= left.bound) own += Mass(value);
  });
  const Weight total = BlockReduce<Sum>(own, shared.weights);
  const Weight wanted = MassOf(top_p, total);
  left.bound = fmaxf(left.bound, SelectByMass(shared.select.list, left.bound, wanted, shared));
}

// Levels of z. At the last, a token is 6e-6 times as likely as the likeliest.
inline constexpr int kLevels = 4;
inline constexpr float kLevelStep = -3.0f;

inline __device__ void FilterTopPOfRow(const TemperedRow& z, float top_p, Filtered& left,
                                       SampleMemory& shared) {
  Weight own = 0;
  Weight own_above[kLevels] = {};
  int32_t own_count[kLevels] = {};
  z.ForTokens([&](int32_t, float value) {
    if (!(value >= left.bound)) return;
    const Weight mass = Mass(value);
    own += mass;
    BARAM_UNROLL
    for (int i = 0; i < kLevels; ++i) {
      const bool is_above = value >= kLevelStep * static_cast<float>(i + 1);
      own_above[i] += is_above ? mass : 0;
      own_count[i] += is_above ? 1 : 0;
    }
  });
  const Weight total = BlockReduce<Sum>(own, shared.weights);
  const Weight wanted = MassOf(top_p, total);
  float level = kMasked;
  BARAM_UNROLL
  for (int i = kLevels - 1; i >= 0; --i) {
    const Weight above = BlockReduce<Sum>(own_above[i], shared.weights);
    const int32_t count = BlockReduce<Sum>(own_count[i], shared.ints);
    if (above >= wanted && count <= ShortList::kMax) {
      level = kLevelStep * static_cast<float>(i + 1);
    }
  }
  left.listed = level > kMasked && Shorten(z, fmaxf(left.bound, level), shared.select.list);
  if (left.listed) {
    left.bound = fmaxf(left.bound, SelectByMass(shared.select.list, left.bound, wanted, shared));
    return;
  }
  // All tokens below this together have less than 1 - top_p of the total mass; the margin is for
  // rounding.
  const float parts = static_cast<float>(total) / kMassUnit / static_cast<float>(z.row.row.n);
  const float start = fmaxf(left.bound, logf((1 - top_p) * parts) - 0.01f);
  left.bound = fmaxf(left.bound, SelectByMass(z, start, wanted, shared));
}

// min-p, top-k and top-p. A bound of -infinity: no token is filtered.
inline __device__ Filtered Filter(const TemperedRow& z, const SamplingParams& params,
                                  float own_largest, SampleMemory& shared) {
  Filtered left{params.min_p > 0 ? logf(params.min_p) : kMasked, false};
  if (params.top_k > 0 && params.top_k < z.row.row.n) {
    FilterTopK(z, params.top_k, own_largest, left, shared);
  }
  if (params.top_p >= 1) return left;
  if (left.listed) {
    FilterTopPOfList(params.top_p, left, shared);
  } else {
    FilterTopPOfRow(z, params.top_p, left, shared);
  }
  return left;
}

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_SAMPLE_FILTER_H_
