// Sample: one block a row of logits. The formulas, filters and random numbers are sampler_math.h's.
//
// Bound by memory: every pass reads the row once, from the second-level cache when it fits. A
// greedy row takes two passes, a plain draw three, top-k and top-p three to four more each: they
// select their bounds digit by digit from histograms in shared memory, which nothing is sorted for.
// Sums that decide are of integers, so their order does not matter and a repeated step draws the
// same.
//
// Bias and stop ids are few: they are written into the row, and undone before the report of the raw
// logits. Masks and penalties are applied on the way by every pass.
#include <cstdint>

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/instructions.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/prims/reduce.h"
#include "kernels/sampler_math.h"

namespace baram::cuda {
namespace {

constexpr uint32_t kMostThreads = 512;  // with more the registers are spilled
constexpr int kGroup = 4;  // tokens of a thread at a time: the words of one Philox block
constexpr float kMasked = -INFINITY;

using Weight = unsigned long long;  // what 64-bit atomics take
constexpr int kDigitBits = 11;
constexpr int kBins = 1 << kDigitBits;
constexpr int kBinsPerLane = kBins / kWarpThreads;
// The weight of probability 1 relative to the likeliest token: sums of 2^23 tokens fit.
constexpr float kMassUnit = 0x1p40f;

struct SampleLaunch {
  const int32_t* positions;
  const int32_t* output_tokens;
  const int32_t* output_slots;
  const int32_t* output_targets;
  Rows logits;
  bool wide;  // rows can be read four floats at a time
  int32_t vocab;
  const uint32_t* const* masks;  // or null
  TokenResult* results;
  SlotArrays slots;
};

struct Candidate {
  double score;
  int32_t token;  // -1: none
};

struct Shared {
  Weight histogram[kBins];
  Weight weights[kWarpThreads];
  double doubles[kWarpThreads];
  float floats[kWarpThreads];
  int32_t ints[kWarpThreads];
  Candidate candidates[kWarpThreads];
  float saved[kMaxBiasedTokens + kMaxStopIds];  // raw logits under bias and stop ids
  Weight above;                                 // of the bins past the one that was chosen
  int32_t bin;                                  // -1: all weights together are too few
  int32_t top_found;
  int32_t top_ids[kMaxTopLogprobs];
  float top_logits[kMaxTopLogprobs];
};

// Larger keys for larger values; zeros of both signs are one. 0 is no value's key.
__device__ __forceinline__ uint32_t KeyOf(float value) {
  const uint32_t bits = BitsOf(value + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float ValueOf(uint32_t key) {
  if (key == 0) return kMasked;
  return FloatOf((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

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

// The bin in which the weights, summed from the largest bin down, reach `wanted`. Of one warp.
__device__ void FindBin(Weight wanted, Shared& shared) {
  const int lane = static_cast<int>(threadIdx.x);
  Weight own = 0;
  for (int i = 0; i < kBinsPerLane; ++i) own += shared.histogram[lane * kBinsPerLane + i];
  Weight sum = own;  // with the lanes that hold larger bins
  for (int distance = 1; distance < kWarpThreads; distance *= 2) {
    const int from = lane + distance < kWarpThreads ? lane + distance : lane;
    const Weight other = ShuffleFrom(sum, from);
    if (from != lane) sum += other;
  }
  Weight above = sum - own;
  if (above >= wanted || sum < wanted) return;
  int bin = (lane + 1) * kBinsPerLane - 1;
  while (above + shared.histogram[bin] < wanted) above += shared.histogram[bin--];
  shared.bin = bin;
  shared.above = above;
}

// The largest key such that the items at or above it weigh at least `wanted`, at least 1; 0 if all
// together do not. each(add) calls add(key, weight) for the items of the calling thread.
template <typename Each>
__device__ uint32_t SelectKey(Weight wanted, Shared& shared, const Each& each) {
  uint32_t prefix = 0;
  uint32_t prefix_mask = 0;
  for (int shift = 32 - kDigitBits;; shift = shift > kDigitBits ? shift - kDigitBits : 0) {
    for (uint32_t i = threadIdx.x; i < kBins; i += blockDim.x) shared.histogram[i] = 0;
    if (threadIdx.x == 0) shared.bin = -1;
    __syncthreads();
    each([&](uint32_t key, Weight weight) {
      if ((key & prefix_mask) != prefix) return;
      AtomicAdd(&shared.histogram[key >> shift & (kBins - 1)], weight);
    });
    __syncthreads();
    if (threadIdx.x < kWarpThreads) FindBin(wanted, shared);
    __syncthreads();
    const int32_t bin = shared.bin;
    wanted -= shared.above;
    __syncthreads();
    if (bin < 0) return 0;
    prefix |= static_cast<uint32_t>(bin) << shift;
    prefix_mask |= static_cast<uint32_t>(kBins - 1) << shift;
    if (shift == 0) return prefix;
  }
}

// A row as one block reads it.
struct LogitRow {
  float* x;
  int32_t n;
  bool wide;

  // visit(first, values, count) for groups of up to four tokens, the calling thread's.
  template <typename Visit>
  __device__ __forceinline__ void ForGroups(const Visit& visit) const {
    const int64_t stride = int64_t{blockDim.x} * kGroup;
    for (int64_t v = int64_t{threadIdx.x} * kGroup; v < n; v += stride) {
      float values[kGroup];
      const int count = static_cast<int>(n - v < kGroup ? n - v : kGroup);
      if (wide && count == kGroup) {
        const float4 four = *reinterpret_cast<const float4*>(x + v);
        values[0] = four.x;
        values[1] = four.y;
        values[2] = four.z;
        values[3] = four.w;
      } else {
        for (int i = 0; i < kGroup; ++i) values[i] = i < count ? x[v + i] : 0.0f;
      }
      visit(static_cast<int32_t>(v), values, count);
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

// --- bias and stop ids

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
  // A token may be named more than once: all raw logits are saved before the first is changed.
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

// --- the draw

// 1 - v has 33 bits, exact in double precision: its log is log1p(-v), without the division there.
__device__ double Gumbel(uint32_t word) {
  const double v = (word + 0.5) * 0x1p-32;
  return -log(-log(1 - v));
}

// (logit - max) / temperature of a row, and what is left of it.
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

// A value that at least `k` items reach, and not many more: the k-th largest of the threads' own.
__device__ float AtLeastTop(int32_t k, float own_largest, Shared& shared) {
  if (k > static_cast<int32_t>(blockDim.x)) return kMasked;
  return ValueOf(SelectKey(static_cast<Weight>(k), shared, [&](const auto& add) {
    if (own_largest > kMasked) add(KeyOf(own_largest), Weight{1});
  }));
}

__device__ float TopKBound(const TemperedRow& z, int32_t k, float bound, float own_largest,
                           Shared& shared) {
  const float start = fmaxf(bound, AtLeastTop(k, own_largest, shared));
  const uint32_t key = SelectKey(static_cast<Weight>(k), shared, [&](const auto& add) {
    z.ForTokens([&](int32_t, float value) {
      if (value >= start && value > kMasked) add(KeyOf(value), Weight{1});
    });
  });
  return fmaxf(bound, ValueOf(key));
}

__device__ __forceinline__ Weight Mass(float z) { return static_cast<Weight>(expf(z) * kMassUnit); }

__device__ float TopPBound(const TemperedRow& z, float top_p, float bound, Shared& shared) {
  Weight own = 0;
  z.ForTokens([&](int32_t, float value) {
    if (value >= bound) own += Mass(value);
  });
  const Weight total = BlockReduce<Sum>(own, shared.weights);
  const double wanted = ceil(static_cast<double>(top_p) * static_cast<double>(total));
  // All tokens below this together weigh less than 1 - top_p of the total; the margin is for
  // rounding.
  const float parts = static_cast<float>(total) / kMassUnit / static_cast<float>(z.row.row.n);
  const float start = fmaxf(bound, logf((1 - top_p) * parts) - 0.01f);
  const Weight target = wanted > 1 ? static_cast<Weight>(wanted) : Weight{1};
  const uint32_t key = SelectKey(target, shared, [&](const auto& add) {
    z.ForTokens([&](int32_t, float value) {
      if (value >= start && value > kMasked) add(KeyOf(value), Mass(value));
    });
  });
  return fmaxf(bound, ValueOf(key));
}

// min-p, top-k and top-p as one bound on z; -infinity if all tokens stay.
__device__ float FilterBound(const TemperedRow& z, const SamplingParams& params, float own_largest,
                             Shared& shared) {
  float bound = params.min_p > 0 ? logf(params.min_p) : kMasked;
  if (params.top_k > 0 && params.top_k < z.row.row.n) {
    bound = TopKBound(z, params.top_k, bound, own_largest, shared);
  }
  return params.top_p < 1 ? TopPBound(z, params.top_p, bound, shared) : bound;
}

// The token that wins with its noise. Noise above g needs v < e^-g, because -log(1 - v) >= v: what
// can't win is told by one fp32 exponential, and the few others are scored in double precision.
__device__ int32_t DrawToken(const TemperedRow& z, float bound, int32_t likeliest, int32_t position,
                             Shared& shared) {
  const SamplingParams& params = z.row.params;
  const auto words_of = [&](int32_t block) {
    return SamplerWords(params.seed, params.output_index, position, block);
  };
  Candidate best{Gumbel(words_of(likeliest / kGroup)[likeliest % kGroup]), likeliest};
  z.row.row.ForGroups([&](int32_t first, const float(&values)[kGroup], int count) {
    const PhiloxWords words = words_of(first / kGroup);
    for (int i = 0; i < kGroup; ++i) {
      if (i >= count) break;
      const float value = z.Temper(z.row.Edit(first + i, values[i]));
      if (!(value >= bound) || value == kMasked) continue;
      const float v = (static_cast<float>(words[i]) + 0.5f) * 0x1p-32f;
      if (v > 1.001f * expf(value - static_cast<float>(best.score))) continue;
      best = Better()(best, {value + Gumbel(words[i]), first + i});
    }
  });
  return BestOfBlock(best, shared.candidates).token;
}

// -1 if nothing is allowed.
__device__ int32_t Draw(const EditedRow& row, int32_t position, Shared& shared) {
  Candidate own{0, -1};
  row.ForTokens([&](int32_t token, float x) {
    if (x > kMasked && (own.token < 0 || x > own.score)) own = {x, token};
  });
  const Candidate likeliest = BestOfBlock(own, shared.candidates);
  if (likeliest.token < 0 || row.params.temperature == 0) return likeliest.token;
  const TemperedRow z{row, static_cast<float>(likeliest.score), row.params.temperature};
  const float own_largest = own.token < 0 ? kMasked : z.Temper(static_cast<float>(own.score));
  const float bound = FilterBound(z, row.params, own_largest, shared);
  return DrawToken(z, bound, likeliest.token, position, shared);
}

// --- the report of the raw logits

// The `count` largest logits, smallest ids first among equals, as log-probabilities.
__device__ void ReportTop(const LogitRow& row, int32_t count, float own_largest, double log_sum,
                          TokenResult* result, Shared& shared) {
  const float start = AtLeastTop(count, own_largest, shared);
  const uint32_t last = SelectKey(static_cast<Weight>(count), shared, [&](const auto& add) {
    row.ForTokens([&](int32_t, float x) {
      if (x >= start) add(KeyOf(x), Weight{1});
    });
  });
  int32_t own_above = 0;
  row.ForTokens([&](int32_t, float x) { own_above += KeyOf(x) > last; });
  const int32_t above = BlockReduce<Sum>(own_above, shared.ints);
  // Of the tokens that equal the last value the smallest ids: the largest of the ids' complements.
  const uint32_t last_id =
      ~SelectKey(static_cast<Weight>(count - above), shared, [&](const auto& add) {
        row.ForTokens([&](int32_t token, float x) {
          if (KeyOf(x) == last) {
            add(~static_cast<uint32_t>(token), Weight{1});
          }
        });
      });
  if (threadIdx.x == 0) shared.top_found = 0;
  __syncthreads();
  row.ForTokens([&](int32_t token, float x) {
    const uint32_t key = KeyOf(x);
    if (key < last || (key == last && static_cast<uint32_t>(token) > last_id)) return;
    const int32_t at = AtomicAdd(&shared.top_found, 1);
    shared.top_ids[at] = token;
    shared.top_logits[at] = x;
  });
  __syncthreads();
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < count; i += blockDim.x) {
    int32_t place = 0;
    for (int32_t j = 0; j < count; ++j) {
      const bool larger = shared.top_logits[j] > shared.top_logits[i];
      const bool equal = shared.top_logits[j] == shared.top_logits[i];
      place += larger || (equal && shared.top_ids[j] < shared.top_ids[i]);
    }
    result->top_ids[place] = shared.top_ids[i];
    result->top_logprobs[place] = static_cast<float>(shared.top_logits[i] - log_sum);
  }
}

__device__ void Report(const LogitRow& row, float largest, float own_largest, int32_t token,
                       int32_t wanted, TokenResult* result, Shared& shared) {
  const float chosen = row.x[token];
  double own_sum = 0;
  int32_t own_rank = 0;
  row.ForTokens([&](int32_t, float x) {
    own_sum += expf(x - largest);
    own_rank += x >= chosen;
  });
  const double log_sum = largest + log(BlockReduce<Sum>(own_sum, shared.doubles));
  const int32_t rank = BlockReduce<Sum>(own_rank, shared.ints);
  const int32_t count = wanted < row.n ? wanted : row.n;
  if (threadIdx.x == 0) {
    result->logprob = static_cast<float>(chosen - log_sum);
    result->rank = rank;
    result->top_count = count;
  }
  if (count > 0) ReportTop(row, count, own_largest, log_sum, result, shared);
}

__global__ void __launch_bounds__(kMostThreads)
    SampleKernel(const __grid_constant__ SampleLaunch args) {
  WaitForPrevious();
  LetNextStart();
  __shared__ Shared shared;
  const int64_t o = blockIdx.x;
  const int64_t slot = args.output_slots[o];
  const int32_t target = args.output_targets[o];
  SlotSampling& state = args.slots.sampling[slot];
  const SamplingParams& params = state.params;  // read where they are used: no registers are kept
  TokenResult* result = args.results + o;
  const LogitRow raw{args.logits.Row<float>(o), args.vocab, args.wide};

  bool own_finite = true;
  float own_largest = kMasked;
  raw.ForTokens([&](int32_t, float x) {
    own_finite &= x < INFINITY;  // false for NaN
    own_largest = fmaxf(own_largest, x);
  });
  const float largest = BlockReduce<Max>(own_largest, shared.floats);
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
    const int32_t position = args.positions[args.output_tokens[o]] + 1;
    token = Draw(row, position, shared);
    usable = token >= 0;
    edits.Undo(raw.x, shared.saved);
    if (usable && threadIdx.x == 0) {
      state.last_token = token;
      ++state.generated;
      if (counts != nullptr && (counts[token] & kCountOutputs) != kCountOutputs) ++counts[token];
    }
  }
  if (threadIdx.x == 0) {
    result->slot = static_cast<int32_t>(slot);
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
  Report(raw, largest, own_largest, token, wanted, result, shared);
}

}  // namespace

void LaunchSample(const SampleArgs& args, const SlotArrays& slots, Stream stream) {
  if (args.step.outputs == 0) return;
  const bool wide = reinterpret_cast<uintptr_t>(args.logits.data) % sizeof(float4) == 0 &&
                    args.logits.stride % kGroup == 0;
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
         {BlockThreads(args.valid_vocab / kGroup, kMostThreads)}, 0, stream, launch);
}

}  // namespace baram::cuda
