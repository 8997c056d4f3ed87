// Sample: one block per row of logits. sampler_math.h defines formulas, filters and random numbers.
//
// Bound by memory: every pass reads the row once, from L2 if it fits. A greedy row takes one pass,
// a plain draw two. One more pass each for: bias, masks or penalties; log-probabilities; top-k; the
// report of the likeliest tokens. Top-p alone takes two more. Bounds that must be selected from the
// row, as with flat distributions, take three each: see sample_filter.h and sample_report.h.
//
// Sums that decide a draw are of integers, so their order does not matter and a repeated step draws
// the same token. The order of a list does not matter either.
#include <cstdint>

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/instructions.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/prims/reduce.h"
#include "kernels/cuda/sample_filter.h"
#include "kernels/cuda/sample_report.h"
#include "kernels/cuda/sample_row.h"
#include "kernels/rounding.h"
#include "kernels/sampler_math.h"

namespace baram::cuda {
namespace {

constexpr uint32_t kMaxThreads = 512;  // with more, registers spill

struct SampleLaunch {
  const int32_t* positions;
  const int32_t* output_tokens;
  const int32_t* output_slots;
  const int32_t* output_targets;
  Rows logits;
  bool wide;  // rows can be read four floats at a time, even past the last logit
  int32_t vocab;
  const uint32_t* const* masks;  // or null
  TokenResult* results;
  SlotArrays slots;
};

struct Better {
  __device__ Candidate operator()(const Candidate& a, const Candidate& b) const {
    if (a.token < 0) return b;
    if (b.token < 0) return a;
    if (a.score != b.score) return a.score > b.score ? a : b;
    return a.token < b.token ? a : b;
  }
};

__device__ Candidate BestOfBlock(Candidate own, Candidate* partial) {
  for (int distance = kWarpThreads / 2; distance > 0; distance /= 2) {
    const Candidate other{ShuffleXor(own.score, distance), ShuffleXor(own.token, distance)};
    own = Better()(own, other);
  }
  const int warps = static_cast<int>(blockDim.x) / kWarpThreads;
  if (threadIdx.x % kWarpThreads == 0) partial[threadIdx.x / kWarpThreads] = own;
  __syncthreads();
  own = partial[0];
  for (int warp = 1; warp < warps; ++warp) own = Better()(own, partial[warp]);
  __syncthreads();
  return own;
}

// 1 - v has 33 bits, exact in double: its log equals log1p(-v), without log1p's division.
__device__ double Gumbel(uint32_t word) {
  const double v = (word + 0.5) * 0x1p-32;
  return -log(-log(1 - v));
}

// The word of `token` among those of its block.
__device__ __forceinline__ uint32_t WordOf(const PhiloxWords& words, int32_t token) {
  const uint32_t even = (token & 2) != 0 ? words[2] : words[0];
  const uint32_t odd = (token & 2) != 0 ? words[3] : words[1];
  return (token & 1) != 0 ? odd : even;
}

// The token that wins with its noise. Noise above g needs v < e^-g, because -log(1 - v) >= v: one
// fp32 exponential rules out most tokens, and the few others are scored in double.
__device__ int32_t DrawToken(const TemperedRow& z, const Filtered& left, int32_t likeliest,
                             int32_t position, SampleMemory& shared) {
  const SamplingParams& params = z.row.params;
  const auto words_of = [&](int32_t block) {
    return SamplerWords(params.seed, params.output_index, position, block);
  };
  Candidate best{Gumbel(WordOf(words_of(likeliest / kGroup), likeliest)), likeliest};
  const auto stays = [&](float value) { return value >= left.bound && value > kMasked; };
  const auto consider = [&](int32_t token, float value, uint32_t word) {
    const float v = (static_cast<float>(word) + 0.5f) * 0x1p-32f;
    if (v > 1.001f * expf(value - static_cast<float>(best.score))) return;
    best = Better()(best, {value + Gumbel(word), token});
  };
  if (left.listed) {
    shared.select.list.ForTokens([&](int32_t token, float value) {
      if (stays(value)) consider(token, value, WordOf(words_of(token / kGroup), token));
    });
    return BestOfBlock(best, shared.candidates).token;
  }
  z.row.row.ForGroups([&](int32_t first, const float(&logits)[kGroup], int count) {
    float values[kGroup];
    bool any_stays = false;
    for (int i = 0; i < kGroup; ++i) {
      values[i] = i < count ? z.Temper(z.row.Edit(first + i, logits[i])) : kMasked;
      any_stays |= stays(values[i]);
    }
    if (!any_stays) return;
    const PhiloxWords words = words_of(first / kGroup);
    for (int i = 0; i < kGroup; ++i) {
      if (stays(values[i])) consider(first + i, values[i], words[i]);
    }
  });
  return BestOfBlock(best, shared.candidates).token;
}

// The largest logit of a thread's own tokens, the smallest id among equals.
struct OwnLargest {
  float logit;
  int32_t token;  // -1: all are -infinity
  __device__ __forceinline__ void See(int32_t seen, float x) {
    if (x > logit) {
      logit = x;
      token = seen;
    }
  }
};

// Returns -1 if nothing is allowed. `raw` is the largest of the row without edits.
__device__ int32_t Draw(const EditedRow& row, bool is_edited, OwnLargest raw, int32_t position,
                        SampleMemory& shared) {
  OwnLargest own = raw;
  if (is_edited) {
    own = {kMasked, -1};
    row.ForTokens([&](int32_t token, float x) { own.See(token, x); });
  }
  const Candidate likeliest = BestOfBlock({own.logit, own.token}, shared.candidates);
  if (likeliest.token < 0 || row.params.temperature == 0) return likeliest.token;
  const TemperedRow z{row, static_cast<float>(likeliest.score), row.params.temperature};
  const float own_largest = own.token < 0 ? kMasked : z.Temper(own.logit);
  const Filtered left = Filter(z, row.params, own_largest, shared);
  return DrawToken(z, left, likeliest.token, position, shared);
}

__global__ void __launch_bounds__(kMaxThreads)
    SampleKernel(const __grid_constant__ SampleLaunch args) {
  WaitForPrevious();
  LetNextStart();
  __shared__ SampleMemory shared;
  const int64_t o = blockIdx.x;
  const int64_t slot = args.output_slots[o];
  const int32_t target = args.output_targets[o];
  SlotSampling& state = args.slots.sampling[slot];
  const SamplingParams& params = state.params;  // read at use, so that they hold no registers
  TokenResult* result = args.results + o;
  const LogitRow raw{args.logits.Row<float>(o), args.vocab, args.wide};

  bool own_finite = true;
  OwnLargest own{kMasked, -1};
  raw.ForTokens([&](int32_t token, float x) {
    own_finite &= x < INFINITY;  // false for NaN
    own.See(token, x);
  });
  const float largest = BlockReduce<Max>(own.logit, shared.floats);
  const int32_t broken = BlockReduce<Max>(own_finite ? 0 : 1, shared.ints);
  bool usable = broken == 0 && largest > kMasked;

  int32_t token = target;
  if (usable && target < 0) {
    uint16_t* counts =
        params.NeedsCounts() ? args.slots.counts + slot * args.slots.counts_stride : nullptr;
    const Edits edits{.bias = args.slots.bias + slot * kMaxBiasedTokens,
                      .stop_ids = args.slots.stop_ids + slot * kMaxStopIds,
                      .bias_count = state.bias_count,
                      .stop_count = state.generated < params.min_tokens ? state.stop_count : 0,
                      .vocab = args.vocab};
    edits.Apply(raw.x, shared.saved);
    const EditedRow row{raw, args.masks != nullptr ? args.masks[o] : nullptr, counts, params};
    const bool is_edited = edits.Count() > 0 || row.mask != nullptr || counts != nullptr;
    const int32_t position = args.positions[args.output_tokens[o]] + 1;
    token = Draw(row, is_edited, own, position, shared);
    usable = token >= 0;
    edits.Undo(raw.x, shared.saved);
    if (usable && threadIdx.x == 0) {
      state.last_token = token;
      ++state.generated;
      if (counts != nullptr && (counts[token] & kCountOutputs) != kCountOutputs) ++counts[token];
    }
  }
  if (threadIdx.x == 0) {
    result->token = token;
    result->flags = usable ? kResultOk : kResultNonFinite;
    result->rank = 0;
    result->logprob = 0;
    result->top_count = 0;
  }
  __syncthreads();
  if (!usable || (target < 0 && params.logprobs < 0)) return;
  const int32_t wanted = params.logprobs < 0                 ? 0
                         : params.logprobs > kMaxTopLogprobs ? kMaxTopLogprobs
                                                             : params.logprobs;
  Report(raw, largest, own.logit, token, wanted, result, shared);
}

}  // namespace

void LaunchSample(const SampleArgs& args, const SlotArrays& slots, LaunchStream stream) {
  if (args.step.outputs == 0) return;
  const int64_t group_columns = RoundUp(args.valid_vocab, kGroup);
  const bool wide = reinterpret_cast<uintptr_t>(args.logits.data) % sizeof(float4) == 0 &&
                    args.logits.stride % kGroup == 0 && group_columns <= args.logits.cols;
  const SampleLaunch launch{.positions = args.step.positions,
                            .output_tokens = args.step.output_tokens,
                            .output_slots = args.step.output_slots,
                            .output_targets = args.step.output_targets,
                            .logits = RowsOf(args.logits),
                            .wide = wide,
                            .vocab = args.valid_vocab,
                            .masks = args.masks,
                            .results = args.results,
                            .slots = slots};
  Launch(SampleKernel, {static_cast<uint32_t>(args.step.outputs)},
         {BlockThreads(args.valid_vocab / kGroup, kMaxThreads)}, 0, stream, launch);
}

}  // namespace baram::cuda
