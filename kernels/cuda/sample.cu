// Sample: one block a row of logits. The formulas, filters and random numbers are sampler_math.h's.
//
// Bound by memory: every pass reads the row once, from the second-level cache when it fits. A
// greedy row takes one pass, a plain draw two, and one more each what bias, masks or penalties
// change, and log-probabilities. Top-k and the report of the likeliest tokens take one more each:
// the k-th largest of what the threads found largest is passed by few tokens, which are listed in
// shared memory and ranked there. Top-p alone takes two, one to add up how much lies above a few
// levels and one to list what is above the lowest that is needed. Where a list would be too long,
// as of flat distributions, bounds are selected from the row digit by digit, from histograms in
// shared memory, in three passes each. Nothing is sorted.
//
// Sums that decide are of integers, so their order does not matter and a repeated step draws the
// same. Neither does the order of a list.
//
// Bias and stop ids are few: they are written into the row, and undone before the report of the raw
// logits. Masks and penalties are applied on the way by every pass.
#include <cstdint>

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/instructions.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/prims/reduce.h"
#include "kernels/cuda/prims/select.h"
#include "kernels/sampler_math.h"

namespace baram::cuda {
namespace {

constexpr uint32_t kMostThreads = 512;  // with more the registers are spilled
constexpr int kGroup = 4;  // tokens of a thread at a time: the words of one Philox block
// Groups of a thread that are under way while as many are looked at: 512 threads of 48 bytes keep
// 24 KiB a multiprocessor in flight, about what HBM's latency times its bandwidth asks for. One
// more and registers are spilled.
constexpr int kBatch = 3;
constexpr float kMasked = -INFINITY;

// The weight of probability 1 relative to the likeliest token: sums of 2^23 tokens fit.
constexpr float kMassUnit = 0x1p40f;

struct SampleLaunch {
  const int32_t* positions;
  const int32_t* output_tokens;
  const int32_t* output_slots;
  const int32_t* output_targets;
  Rows logits;
  bool wide;  // rows can be read four floats at a time, what follows the last logit as well
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
  SelectMemory select;
  Weight weights[kWarpThreads];
  double doubles[kWarpThreads];
  float floats[kWarpThreads];
  int32_t ints[kWarpThreads];
  Candidate candidates[kWarpThreads];
  float saved[kMaxBiasedTokens + kMaxStopIds];  // raw logits under bias and stop ids
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

// A row as one block reads it.
struct LogitRow {
  float* x;
  int32_t n;
  bool wide;

  // The logits from v on; past the last anything.
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

  // visit(first, values, count) for groups of up to four tokens, the calling thread's. Nothing is
  // written to the row meanwhile.
  template <typename Visit>
  __device__ __forceinline__ void ForGroups(const Visit& visit) const {
    const int32_t stride = static_cast<int32_t>(blockDim.x) * kGroup;
    int32_t v = static_cast<int32_t>(threadIdx.x) * kGroup;
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
          if (i == b) four = batch[i];  // an index would put the batch into memory
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
  return ValueOf(SelectKey(static_cast<Weight>(k), shared.select, [&](const auto& add) {
    if (own_largest > kMasked) add(KeyOf(own_largest), Weight{1});
  }));
}

__device__ __forceinline__ Weight Mass(float z) { return static_cast<Weight>(expf(z) * kMassUnit); }

// Of `total`, the mass that top-p keeps at least.
__device__ __forceinline__ Weight MassOf(float top_p, Weight total) {
  const double wanted = ceil(static_cast<double>(top_p) * static_cast<double>(total));
  return wanted > 1 ? static_cast<Weight>(wanted) : Weight{1};
}

// What is left of a row once its filters were applied: the tokens of the list, or of the row, at or
// above `bound`.
struct Filtered {
  float bound;
  bool listed;
};

__device__ void FilterTopK(const TemperedRow& z, int32_t k, float own_largest, Filtered& left,
                           Shared& shared) {
  const float start = fmaxf(left.bound, AtLeastTop(k, own_largest, shared));
  // Above -infinity, which is masked.
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
__device__ float SelectByMass(const Row& row, float start, Weight wanted, Shared& shared) {
  return ValueOf(SelectKey(wanted, shared.select, [&](const auto& add) {
    row.ForTokens([&](int32_t, float value) {
      if (value >= start && value > kMasked) add(KeyOf(value), Mass(value));
    });
  }));
}

__device__ void FilterTopPOfList(float top_p, Filtered& left, Shared& shared) {
  Weight own = 0;
  shared.select.list.ForTokens([&](int32_t, float value) {
    if (value >= left.bound) own += Mass(value);
  });
  const Weight total = BlockReduce<Sum>(own, shared.weights);
  const Weight wanted = MassOf(top_p, total);
  left.bound = fmaxf(left.bound, SelectByMass(shared.select.list, left.bound, wanted, shared));
}

// Levels of z. At the last a token is 6e-6 times as likely as the likeliest.
constexpr int kLevels = 4;
constexpr float kLevelStep = -3.0f;

__device__ void FilterTopPOfRow(const TemperedRow& z, float top_p, Filtered& left, Shared& shared) {
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
    if (above >= wanted && count <= ShortList::kMost) {
      level = kLevelStep * static_cast<float>(i + 1);
    }
  }
  left.listed = level > kMasked && Shorten(z, fmaxf(left.bound, level), shared.select.list);
  if (left.listed) {
    left.bound = fmaxf(left.bound, SelectByMass(shared.select.list, left.bound, wanted, shared));
    return;
  }
  // All tokens below this together weigh less than 1 - top_p of the total; the margin is for
  // rounding.
  const float parts = static_cast<float>(total) / kMassUnit / static_cast<float>(z.row.row.n);
  const float start = fmaxf(left.bound, logf((1 - top_p) * parts) - 0.01f);
  left.bound = fmaxf(left.bound, SelectByMass(z, start, wanted, shared));
}

// min-p, top-k and top-p. A bound of -infinity: all tokens stay.
__device__ Filtered Filter(const TemperedRow& z, const SamplingParams& params, float own_largest,
                           Shared& shared) {
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

// Of `token` among the words of its block.
__device__ __forceinline__ uint32_t WordOf(const PhiloxWords& words, int32_t token) {
  const uint32_t even = (token & 2) != 0 ? words[2] : words[0];
  const uint32_t odd = (token & 2) != 0 ? words[3] : words[1];
  return (token & 1) != 0 ? odd : even;
}

// The token that wins with its noise. Noise above g needs v < e^-g, because -log(1 - v) >= v: what
// can't win is told by one fp32 exponential, and the few others are scored in double precision.
__device__ int32_t DrawToken(const TemperedRow& z, const Filtered& left, int32_t likeliest,
                             int32_t position, Shared& shared) {
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

// `raw`: of the row without edits. -1 if nothing is allowed.
__device__ int32_t Draw(const EditedRow& row, bool is_edited, OwnLargest raw, int32_t position,
                        Shared& shared) {
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

// --- the report of the raw logits

// Lists the `count` largest logits, the smallest ids among equals, and nothing else.
__device__ void ListLargest(const LogitRow& row, int32_t count, float start, Shared& shared) {
  const uint32_t last = SelectKey(static_cast<Weight>(count), shared.select, [&](const auto& add) {
    row.ForTokens([&](int32_t, float x) {
      if (x >= start) add(KeyOf(x), Weight{1});
    });
  });
  int32_t own_above = 0;
  row.ForTokens([&](int32_t, float x) { own_above += KeyOf(x) > last; });
  const int32_t above = BlockReduce<Sum>(own_above, shared.ints);
  // Of the tokens that equal the last value the smallest ids: the largest of the ids' complements.
  const uint32_t last_id =
      ~SelectKey(static_cast<Weight>(count - above), shared.select, [&](const auto& add) {
        row.ForTokens([&](int32_t token, float x) {
          if (KeyOf(x) == last) {
            add(~static_cast<uint32_t>(token), Weight{1});
          }
        });
      });
  if (threadIdx.x == 0) shared.select.list.found = 0;
  __syncthreads();
  row.ForTokens([&](int32_t token, float x) {
    const uint32_t key = KeyOf(x);
    if (key < last || (key == last && static_cast<uint32_t>(token) > last_id)) return;
    const int32_t at = AtomicAdd(&shared.select.list.found, 1);
    shared.select.list.tokens[at] = token;
    shared.select.list.values[at] = x;
  });
  __syncthreads();
}

// The `count` largest logits, smallest ids first among equals, as log-probabilities.
__device__ void ReportTop(const LogitRow& row, int32_t count, float own_largest, double log_sum,
                          TokenResult* result, Shared& shared) {
  const ShortList& list = shared.select.list;
  const float start = AtLeastTop(count, own_largest, shared);
  const bool is_short = start > kMasked || row.n <= ShortList::kMost;
  if (!is_short || !Shorten(row, start, shared.select.list)) ListLargest(row, count, start, shared);
  list.ForTokens([&](int32_t token, float x) {
    int32_t place = 0;
    for (int32_t i = 0; i < list.found; ++i) {
      const bool equal = list.values[i] == x;
      place += list.values[i] > x || (equal && list.tokens[i] < token);
    }
    if (place >= count) return;
    result->top_ids[place] = token;
    result->top_logprobs[place] = static_cast<float>(x - log_sum);
  });
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
  Report(raw, largest, own.logit, token, wanted, result, shared);
}

}  // namespace

void LaunchSample(const SampleArgs& args, const SlotArrays& slots, Stream stream) {
  if (args.step.outputs == 0) return;
  const int64_t group_columns = (int64_t{args.valid_vocab} + kGroup - 1) / kGroup * kGroup;
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
         {BlockThreads(args.valid_vocab / kGroup, kMostThreads)}, 0, stream, launch);
}

}  // namespace baram::cuda
