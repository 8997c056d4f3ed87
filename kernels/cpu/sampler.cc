// Sampler: the sequence of passes, the bounds of the filters, the exact scores of the contenders.
#include "kernels/cpu/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <functional>

#include "kernels/rounding.h"
#include "kernels/sampler_math.h"

namespace baram::cpu {
namespace {

constexpr float kMasked = -INFINITY;

int64_t Chunks(int64_t n) { return CeilDivide(n, kChunk); }

float Largest(const float* chunk_max, int64_t n) {
  return *std::max_element(chunk_max, chunk_max + Chunks(n));
}

// For large k: a value that at least k tokens reach, but not many more; -infinity if fewer than k
// exceed -64, as others have next to no probability. No `z` is above 0; a NaN counts as -64.
float AtLeastMany(const float* z, int64_t n, int64_t k) {
  constexpr int kBuckets = 1024;
  constexpr float kPerUnit = 16;  // a power of two: bucket bounds are exact
  std::array<int32_t, kBuckets + 1> counts = {};
  for (int64_t i = 0; i < n; ++i) {
    ++counts[static_cast<int>(std::min(float{kBuckets}, -z[i] * kPerUnit))];
  }
  int64_t reach = 0;
  for (int bucket = 0; bucket < kBuckets; ++bucket) {
    reach += counts[bucket];
    if (reach >= k) return static_cast<float>(-bucket - 1) / kPerUnit;
  }
  return kMasked;
}

// The first token with the largest logit.
int32_t ArgMax(const float* x, const float* chunk_max, int64_t n) {
  const int64_t chunk = std::max_element(chunk_max, chunk_max + Chunks(n)) - chunk_max;
  const float* begin = x + chunk * kChunk;
  const float* end = x + std::min(n, (chunk + 1) * kChunk);
  return static_cast<int32_t>(std::find(begin, end, chunk_max[chunk]) - x);
}

// Most tokens have not occurred: tests four counts at a time.
void Penalize(float* logits, int64_t n, const uint16_t* counts, const SamplingParams& sampling) {
  int64_t v = 0;
  for (; v + 4 <= n; v += 4) {
    uint64_t four;
    std::memcpy(&four, counts + v, sizeof(four));
    if (four == 0) continue;
    for (int64_t i = v; i < v + 4; ++i) logits[i] = Penalized(logits[i], counts[i], sampling);
  }
  for (; v < n; ++v) logits[v] = Penalized(logits[v], counts[v], sampling);
}

bool IsEdited(const SlotState& slot, const uint32_t* mask) {
  const bool stops_masked = slot.generated < slot.sampling.min_tokens && !slot.stop_ids.empty();
  return stops_masked || !slot.bias.empty() || mask != nullptr || slot.counts != nullptr;
}

}  // namespace

int64_t Sampler::Bytes(int32_t vocab_size, int32_t workers) {
  constexpr int64_t kEach = 3 * sizeof(float) + sizeof(int32_t);
  return int64_t{workers} * vocab_size * kEach;
}

void Sampler::Reserve(int32_t vocab_size, int32_t workers) {
  const int64_t chunks = Chunks(vocab_size);
  scratch_.clear();
  for (int32_t i = 0; i < workers; ++i) {
    scratch_.push_back({.z = std::make_unique_for_overwrite<float[]>(vocab_size),
                        .values = std::make_unique_for_overwrite<float[]>(vocab_size),
                        .weights = std::make_unique_for_overwrite<float[]>(vocab_size),
                        .ids = std::make_unique_for_overwrite<int32_t[]>(vocab_size),
                        .raw_max = std::make_unique_for_overwrite<float[]>(chunks),
                        .chunk_max = std::make_unique_for_overwrite<float[]>(chunks)});
  }
}

void Sampler::SampleRow(const SampleArgs& args, int32_t output, int32_t worker,
                        SlotTable& slots) const {
  const Scratch& scratch = scratch_[worker];
  const int32_t slot_index = args.step.output_slots[output];
  const int32_t target = args.step.output_targets[output];
  const SlotState& slot = slots.State(slot_index);
  TokenResult& result = args.results[output];
  result = {};
  result.token = target;

  LogitRow raw = {args.logits.Row<float>(output), scratch.raw_max.get(), args.valid_vocab, 0};
  const bool finite = passes_->chunk_max(raw.x, raw.n, scratch.raw_max.get());
  raw.largest = Largest(raw.chunk_max, raw.n);
  if (!finite || !(raw.largest > kMasked)) {
    result.flags = kResultNonFinite;
    return;
  }
  if (target < 0) {  // the only branch that reads more of the slot than `sampling`, see SlotTable
    const uint32_t* mask = args.masks != nullptr ? args.masks[output] : nullptr;
    const LogitRow row = IsEdited(slot, mask) ? Edit(raw, slot, mask, scratch) : raw;
    const int32_t position = args.step.positions[args.step.output_tokens[output]] + 1;
    result.token = row.largest > kMasked ? Draw(row, slot.sampling, position, scratch) : -1;
    if (result.token < 0) {
      result.flags = kResultNonFinite;
      return;
    }
    slots.Draw(slot_index, result.token);
  }
  if (target >= 0 || slot.sampling.logprobs >= 0) {
    Report(raw, std::clamp(slot.sampling.logprobs, 0, kMaxTopLogprobs), scratch, result);
  }
}

// Applies bias, masks and penalties; the result is in scratch.z.
Sampler::LogitRow Sampler::Edit(const LogitRow& raw, const SlotState& slot, const uint32_t* mask,
                                const Scratch& scratch) const {
  float* logits = scratch.z.get();
  std::memcpy(logits, raw.x, raw.n * sizeof(float));
  for (const TokenBias& entry : slot.bias) {
    if (entry.token >= 0 && entry.token < raw.n) logits[entry.token] += entry.bias;
  }
  if (slot.generated < slot.sampling.min_tokens) {
    for (int32_t id : slot.stop_ids) {
      if (id >= 0 && id < raw.n) logits[id] = kMasked;
    }
  }
  if (mask != nullptr) passes_->mask(logits, raw.n, mask);
  if (slot.counts != nullptr) Penalize(logits, raw.n, slot.counts, slot.sampling);
  passes_->chunk_max(logits, raw.n, scratch.chunk_max.get());
  return {logits, scratch.chunk_max.get(), raw.n, Largest(scratch.chunk_max.get(), raw.n)};
}

int32_t Sampler::Draw(const LogitRow& row, const SamplingParams& sampling, int32_t position,
                      const Scratch& scratch) const {
  const int32_t likeliest = ArgMax(row.x, row.chunk_max, row.n);
  if (sampling.temperature == 0) return likeliest;
  // Denormals are zero here; a denormal temperature would make 0 / 0 of the largest logit.
  const float temperature = std::max(sampling.temperature, FLT_MIN);
  passes_->temper(row.x, row.n, row.largest, temperature, scratch.z.get(), scratch.chunk_max.get());
  const LogitRow z = {scratch.z.get(), scratch.chunk_max.get(), row.n, 0};

  NoiseJob job = {.z = z.x,
                  .chunk_max = z.chunk_max,
                  .n = z.n,
                  .bound = FilterBound(z, sampling, scratch),
                  .seed = sampling.seed,
                  .output_index = static_cast<uint32_t>(sampling.output_index),
                  .position = static_cast<uint32_t>(position)};
  const auto score = [&](int32_t token) {
    return z.x[token] + GumbelNoise(sampling.seed, sampling.output_index, position, token);
  };
  int32_t token = likeliest;
  double best = score(token);
  job.best = static_cast<float>(best);
  TokenSet set = passes_->contenders(job, 0);
  while (set.first < z.n) {
    for (uint32_t bits = set.bits; bits != 0; bits &= bits - 1) {
      const int32_t rival = static_cast<int32_t>(set.first) + std::countr_zero(bits);
      const double rival_score = score(rival);
      if (rival_score > best || (rival_score == best && rival < token)) {
        token = rival;
        best = rival_score;
      }
    }
    job.best = static_cast<float>(best);
    set = passes_->contenders(job, set.first + 16);
  }
  return token;
}

// min-p, top-k and top-p as one bound on z; -infinity if all tokens stay.
float Sampler::FilterBound(const LogitRow& z, const SamplingParams& sampling,
                           const Scratch& scratch) const {
  float bound = sampling.min_p > 0 ? std::log(sampling.min_p) : kMasked;
  if (sampling.top_k > 0 && sampling.top_k < z.n) {
    bound = TopKBound(z, sampling.top_k, bound, scratch);
  }
  if (sampling.top_p < 1) bound = TopPBound(z, sampling.top_p, bound, scratch);
  return bound;
}

// A value that at least k tokens reach, but not many more: the k-th largest chunk maximum;
// -infinity if there are fewer chunks.
float Sampler::AtLeastTop(const LogitRow& row, int64_t k, const Scratch& scratch) const {
  const int64_t chunks = Chunks(row.n);
  if (k > chunks) return kMasked;
  float* maxima = scratch.values.get();
  std::copy_n(row.chunk_max, chunks, maxima);
  std::nth_element(maxima, maxima + k - 1, maxima + chunks, std::greater<>());
  return maxima[k - 1];
}

float Sampler::TopKBound(const LogitRow& z, int32_t k, float bound, const Scratch& scratch) const {
  const float top = k <= Chunks(z.n) ? AtLeastTop(z, k, scratch) : AtLeastMany(z.x, z.n, k);
  const float start = std::max(bound, top);
  const int64_t count = passes_->collect(z.x, z.n, z.chunk_max, start, scratch.ids.get());
  if (count < k) return bound;
  float* values = scratch.values.get();
  for (int64_t i = 0; i < count; ++i) values[i] = z.x[scratch.ids[i]];
  std::nth_element(values, values + k - 1, values + count, std::greater<>());
  return std::max(bound, values[k - 1]);
}

// The largest bound such that the tokens at or above it have at least top_p of the probability of
// all that reach `bound`. Tokens are sorted into buckets by z; only the bucket in which the sum
// crosses top_p is sorted itself.
float Sampler::TopPBound(const LogitRow& z, float top_p, float bound,
                         const Scratch& scratch) const {
  const float total = passes_->exp_sum(z.x, z.n, 0, bound);
  const double wanted = double{top_p} * total;
  // Together, all tokens below this have less than 1 - top_p of the total. The margin covers
  // rounding.
  const float tail = std::log((1 - top_p) * total / static_cast<float>(z.n)) - 0.01f;
  const float start = std::max(bound, tail);
  const int64_t count = passes_->collect(z.x, z.n, z.chunk_max, start, scratch.ids.get());
  float* values = scratch.values.get();
  float* weights = scratch.weights.get();
  for (int64_t i = 0; i < count; ++i) values[i] = z.x[scratch.ids[i]];
  passes_->exp(values, count, weights);

  constexpr int kBuckets = 1024;
  // Finite however close `start` is to 0, so that 0 * per_unit is 0, the first bucket.
  const float per_unit = start < 0 ? std::min(kBuckets / -start, FLT_MAX) : 0.0f;
  const auto bucket_of = [per_unit](float value) {
    return std::min(static_cast<int>(-value * per_unit), kBuckets - 1);
  };
  std::array<double, kBuckets> mass = {};
  for (int64_t i = 0; i < count; ++i) mass[bucket_of(values[i])] += weights[i];
  double larger = 0;
  int crossing = 0;
  while (crossing < kBuckets && larger + mass[crossing] < wanted) larger += mass[crossing++];
  if (crossing == kBuckets) return bound;  // by rounding, the collected tokens fall just short

  int64_t kept = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (bucket_of(values[i]) == crossing) values[kept++] = values[i];
  }
  std::sort(values, values + kept, std::greater<>());
  int64_t last = 0;
  for (; last + 1 < kept; ++last) {
    larger += std::exp(double{values[last]});
    if (larger >= wanted) break;
  }
  return values[last];
}

// Log-probability, rank and alternatives of result.token, from the raw logits. A token past the end
// of the row counts as -infinity and ranks last.
void Sampler::Report(const LogitRow& raw, int32_t top_count, const Scratch& scratch,
                     TokenResult& result) const {
  const double log_sum =
      raw.largest + std::log(double{passes_->exp_sum(raw.x, raw.n, raw.largest, kMasked)});
  const auto logprob = [&](float x) { return static_cast<float>(x - log_sum); };
  const bool known = result.token < raw.n;
  const float chosen = known ? raw.x[result.token] : kMasked;
  result.logprob = logprob(chosen);
  result.rank =
      static_cast<int32_t>(passes_->count_at_least(raw.x, raw.n, chosen)) + (known ? 0 : 1);
  result.top_count = static_cast<int32_t>(std::min<int64_t>(top_count, raw.n));
  if (result.top_count == 0) return;
  int32_t* ids = scratch.ids.get();
  const int64_t count = passes_->collect(raw.x, raw.n, raw.chunk_max,
                                         AtLeastTop(raw, result.top_count, scratch), ids);
  std::partial_sort(ids, ids + result.top_count, ids + count, [&](int32_t a, int32_t b) {
    return raw.x[a] != raw.x[b] ? raw.x[a] > raw.x[b] : a < b;
  });
  for (int32_t i = 0; i < result.top_count; ++i) {
    result.top_ids[i] = ids[i];
    result.top_logprobs[i] = logprob(raw.x[ids[i]]);
  }
}

}  // namespace baram::cpu
