// Sample. sampler_math.h defines formulas, filters and random numbers.
//
// Bound by instructions: every pass reads the row once, from L2 if it fits, and noise takes some 40
// per token. Two kernels, in which blocks share a row if rows are few. In the first each reads its
// part, and the largest logit is all that a greedy row takes. In the second the blocks of a plain
// draw each draw from their part, and the last takes the best. The other rows are left to their
// first block, which takes one more pass for the draw and for each of: bias, masks or penalties;
// log-probabilities; top-k; the report of the likeliest tokens. Top-p alone takes two. Bounds that
// must be selected from the row, as with flat distributions, take three each: see sample_filter.h
// and sample_report.h. Grid of both: rows, parts.
//
// Sums that decide a draw are of integers, so their order does not matter and a repeated step draws
// the same token. The order of a list does not matter either.
#include <algorithm>
#include <cstdint>

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/instructions.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/prims/last_block.h"
#include "kernels/cuda/prims/reduce.h"
#include "kernels/cuda/sample_filter.h"
#include "kernels/cuda/sample_report.h"
#include "kernels/cuda/sample_row.h"
#include "kernels/rounding.h"
#include "kernels/sampler_math.h"

namespace baram::cuda {
namespace {

constexpr uint32_t kMaxThreads = 512;  // with more, registers spill
// Of some 100 us for 128k tokens they leave 15, of which more would take off little: an estimate.
constexpr int32_t kMaxParts = 8;

// What is left of a row for the second kernel.
enum class Work : uint8_t {
  kNone,   // its token is that of the largest logit
  kParts,  // a plain draw: each block draws from its part
  kWhole,  // the first block edits, filters, draws and reports
};

// What a block of the first kernel finds in its part of a row.
struct FoundPart {
  Candidate largest;  // raw logit
  bool is_finite;
  Work work;  // of the row: decided here, because the second kernel changes the slot's state
};

struct SampleLaunch {
  const int32_t* positions;
  const int32_t* output_tokens;
  const int32_t* output_slots;
  const int32_t* output_targets;
  Rows logits;
  bool wide;  // rows can be read four floats at a time, even past the last logit
  int32_t vocab;
  int32_t part_tokens;           // of each part but the last; a multiple of kGroup
  uint32_t part_threads;         // of the first kernel's blocks
  const uint32_t* const* masks;  // or null
  TokenResult* results;
  SlotArrays slots;
  FoundPart* found;   // [outputs, parts]
  Candidate* drawn;   // [outputs, parts]
  float* maxima;      // [outputs, parts, part_threads] of what the first kernel's threads have read
  uint32_t* arrived;  // [outputs] blocks that have drawn; zeros between kernels

  __device__ LogitRow Row(int64_t o) const { return {logits.Row<float>(o), 0, vocab, wide}; }
  // This block's part of it.
  __device__ LogitRow Part(int64_t o) const {
    const int32_t begin = static_cast<int32_t>(blockIdx.y) * part_tokens;
    const int32_t end = vocab - begin < part_tokens ? vocab : begin + part_tokens;
    return {logits.Row<float>(o), begin, end, wide};
  }
  // The largest raw logit of the calling thread's tokens: every token is one thread's.
  __device__ float OwnLargest(int64_t o) const {
    float largest = kMasked;
    for (uint32_t part = 0; threadIdx.x < part_threads && part < gridDim.y; ++part) {
      largest = fmaxf(largest, maxima[(o * gridDim.y + part) * part_threads + threadIdx.x]);
    }
    return largest;
  }
  __device__ Edits EditsOf(int64_t slot) const {
    const SlotSampling& state = slots.sampling[slot];
    return {.bias = slots.bias + slot * kMaxBiasedTokens,
            .stop_ids = slots.stop_ids + slot * kMaxStopIds,
            .bias_count = state.bias_count,
            .stop_count = state.generated < state.params.min_tokens ? state.stop_count : 0,
            .vocab = vocab};
  }
  __device__ const uint32_t* Mask(int64_t o) const { return masks != nullptr ? masks[o] : nullptr; }
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

// The best token with its noise, among those of `z` and the likeliest. Noise above g needs v <
// e^-g, because -log(1 - v) >= v: one fp32 exponential rules out most tokens, and the few others
// are scored in double.
__device__ Candidate DrawToken(const TemperedRow& z, const Filtered& left, int32_t likeliest,
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
    return BestOfBlock(best, shared.candidates);
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
  return BestOfBlock(best, shared.candidates);
}

// The largest of a thread's logits, the smallest id among equals.
struct Largest {
  float logit = kMasked;
  int32_t token = -1;  // -1: all are -infinity
  __device__ __forceinline__ void See(int32_t seen, float x) {
    if (x > logit) {
      logit = x;
      token = seen;
    }
  }
};

// The token is -1 if nothing is allowed. `own_largest`, of the thread's tokens, and `likeliest` are
// those of the row without edits; `own_largest` matters for filters alone.
__device__ Candidate Draw(const EditedRow& row, bool is_edited, float own_largest,
                          Candidate likeliest, int32_t position, SampleMemory& shared) {
  if (is_edited) {
    Largest own;
    row.ForTokens([&](int32_t token, float x) { own.See(token, x); });
    own_largest = own.logit;
    likeliest = BestOfBlock({own.logit, own.token}, shared.candidates);
  }
  if (likeliest.token < 0 || row.params.temperature == 0) return likeliest;
  const TemperedRow z{row, static_cast<float>(likeliest.score), row.params.temperature};
  const Filtered left = Filter(z, row.params, z.Temper(own_largest), shared);
  return DrawToken(z, left, likeliest.token, position, shared);
}

__device__ Work WorkOf(const SampleLaunch& args, int64_t o) {
  const int64_t slot = args.output_slots[o];
  const SamplingParams& params = args.slots.sampling[slot].params;
  const bool is_edited =
      args.EditsOf(slot).Count() > 0 || args.Mask(o) != nullptr || params.NeedsCounts();
  if (args.output_targets[o] >= 0 || is_edited || params.logprobs >= 0) return Work::kWhole;
  if (params.temperature == 0) return Work::kNone;
  const bool is_filtered =
      params.min_p > 0 || params.top_p < 1 || (params.top_k > 0 && params.top_k < args.vocab);
  return is_filtered ? Work::kWhole : Work::kParts;
}

__global__ void __launch_bounds__(kMaxThreads)
    LargestKernel(const __grid_constant__ SampleLaunch args) {
  WaitForPrevious();
  LetNextStart();
  __shared__ Candidate candidates[kWarpThreads];
  __shared__ int32_t ints[kWarpThreads];
  const int64_t o = blockIdx.x;
  bool own_finite = true;
  Largest own;
  args.Part(o).ForTokens([&](int32_t token, float x) {
    own_finite &= x < INFINITY;  // false for NaN
    own.See(token, x);
  });
  const int64_t place = o * gridDim.y + blockIdx.y;
  args.maxima[place * blockDim.x + threadIdx.x] = own.logit;
  const Candidate largest = BestOfBlock({own.logit, own.token}, candidates);
  const int32_t broken = BlockReduce<Max>(own_finite ? 0 : 1, ints);
  if (threadIdx.x == 0) {
    args.found[place] = {largest, broken == 0, WorkOf(args, o)};
  }
}

// Replaces what this block has drawn by the best that any block of the row has. True in the last of
// them, false in the others.
__device__ bool MergeParts(const SampleLaunch& args, int64_t o, Candidate& best,
                           SampleMemory& shared) {
  Candidate* drawn = args.drawn + o * gridDim.y;
  if (threadIdx.x == 0) drawn[blockIdx.y] = best;
  if (!IsLastBlock(args.arrived + o, gridDim.y, &shared.select.key)) return false;
  for (uint32_t part = 0; part < gridDim.y; ++part) best = Better()(best, drawn[part]);
  return true;
}

// One block per multiprocessor: left to itself, the compiler spills registers to fit two.
__global__ void __launch_bounds__(kMaxThreads, 1)
    SampleKernel(const __grid_constant__ SampleLaunch args) {
  WaitForPrevious();
  LetNextStart();
  __shared__ SampleMemory shared;
  const int64_t o = blockIdx.x;
  const FoundPart* found = args.found + o * gridDim.y;
  bool usable = true;
  Candidate likeliest{kMasked, -1};  // of the raw logits
  for (uint32_t part = 0; part < gridDim.y; ++part) {
    usable &= found[part].is_finite;
    likeliest = Better()(likeliest, found[part].largest);
  }
  usable &= likeliest.token >= 0;
  const Work work = found->work;
  const bool in_parts = usable && work == Work::kParts && gridDim.y > 1;
  if (blockIdx.y > 0 && !in_parts) return;

  const int64_t slot = args.output_slots[o];
  const int32_t target = args.output_targets[o];
  SlotSampling& state = args.slots.sampling[slot];
  const SamplingParams& params = state.params;  // read at use, so that they hold no registers
  TokenResult* result = args.results + o;
  const LogitRow raw = in_parts ? args.Part(o) : args.Row(o);
  const auto largest = static_cast<float>(likeliest.score);
  const float own_largest = work == Work::kWhole ? args.OwnLargest(o) : kMasked;

  int32_t token = target;
  if (usable && target < 0) {
    uint16_t* counts =
        params.NeedsCounts() ? args.slots.counts + slot * args.slots.counts_stride : nullptr;
    const Edits edits = args.EditsOf(slot);
    edits.Apply(raw.x, shared.saved);
    const EditedRow row{raw, args.Mask(o), counts, params};
    const bool is_edited = edits.Count() > 0 || row.mask != nullptr || counts != nullptr;
    const int32_t position = args.positions[args.output_tokens[o]] + 1;
    Candidate best = Draw(row, is_edited, own_largest, likeliest, position, shared);
    edits.Undo(raw.x, shared.saved);
    if (in_parts && !MergeParts(args, o, best, shared)) return;
    token = best.token;
    usable = token >= 0;
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
  Report(raw, largest, own_largest, token, wanted, result, shared);
}

// The rows of the outputs [begin, begin + outputs); what their parts find fits the memory.
constexpr int64_t kRowsAtOnce = kMaxSplitTiles;
static_assert(kRowsAtOnce * (sizeof(FoundPart) + sizeof(Candidate) + kMaxThreads * sizeof(float)) *
                  kMaxParts <=
              kSplitBytes);

void LaunchRows(const SampleArgs& args, int64_t begin, int32_t outputs, const SlotArrays& slots,
                int32_t multiprocessors, const SplitMemory& memory, LaunchStream stream) {
  const int64_t group_columns = RoundUp(args.valid_vocab, kGroup);
  const bool wide = reinterpret_cast<uintptr_t>(args.logits.data) % sizeof(float4) == 0 &&
                    args.logits.stride % kGroup == 0 && group_columns <= args.logits.cols;
  const int32_t parts = std::clamp(multiprocessors / outputs, 1, kMaxParts);
  const auto part_tokens =
      static_cast<int32_t>(RoundUp(CeilDivide(args.valid_vocab, parts), kGroup));
  const uint32_t part_threads = BlockThreads(part_tokens / kGroup, kMaxThreads);
  const int64_t places = int64_t{outputs} * parts;
  auto* found = reinterpret_cast<FoundPart*>(memory.partials);
  auto* drawn = reinterpret_cast<Candidate*>(found + places);
  const SampleLaunch launch{.positions = args.step.positions,
                            .output_tokens = args.step.output_tokens + begin,
                            .output_slots = args.step.output_slots + begin,
                            .output_targets = args.step.output_targets + begin,
                            .logits = RowsOf(args.logits.Rows(begin, outputs)),
                            .wide = wide,
                            .vocab = args.valid_vocab,
                            .part_tokens = part_tokens,
                            .part_threads = part_threads,
                            .masks = args.masks != nullptr ? args.masks + begin : nullptr,
                            .results = args.results + begin,
                            .slots = slots,
                            .found = found,
                            .drawn = drawn,
                            .maxima = reinterpret_cast<float*>(drawn + places),
                            .arrived = memory.arrived};
  const Dim3 grid{static_cast<uint32_t>(outputs), static_cast<uint32_t>(parts)};
  Launch(LargestKernel, grid, {part_threads}, 0, stream, launch);
  Launch(SampleKernel, grid, {BlockThreads(group_columns / kGroup, kMaxThreads)}, 0, stream,
         launch);
}

}  // namespace

void LaunchSample(const SampleArgs& args, const SlotArrays& slots, int32_t multiprocessors,
                  const SplitMemory& memory, LaunchStream stream) {
  for (int64_t begin = 0; begin < args.step.outputs; begin += kRowsAtOnce) {
    const auto outputs = static_cast<int32_t>(std::min(kRowsAtOnce, args.step.outputs - begin));
    LaunchRows(args, begin, outputs, slots, multiprocessors, memory, stream);
  }
}

}  // namespace baram::cuda
