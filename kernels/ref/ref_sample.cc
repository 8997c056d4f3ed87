// Sample as plain loops. sampler_math.h defines the formulas, the filters and the random numbers.
#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "kernels/ref/ref_ops.h"
#include "kernels/sampler_math.h"

namespace baram {
namespace {

constexpr float kMasked = -INFINITY;

// False if a logit is NaN or +infinity, or if none is above -infinity.
bool Usable(const float* logits, int32_t vocab) {
  bool any = false;
  for (int32_t v = 0; v < vocab; ++v) {
    if (std::isnan(logits[v]) || logits[v] == INFINITY) return false;
    any |= logits[v] > kMasked;
  }
  return any;
}

double LogSumExp(const float* logits, int32_t vocab) {
  const double largest = *std::max_element(logits, logits + vocab);
  double sum = 0;
  for (int32_t v = 0; v < vocab; ++v) sum += std::exp(logits[v] - largest);
  return largest + std::log(sum);
}

// Log-probability, rank and alternatives, from the raw logits. A scored token past the vocabulary
// counts as -infinity and ranks last.
void Report(const float* logits, int32_t vocab, double log_sum, int32_t token, int32_t top_count,
            TokenResult& result) {
  const bool known = token < vocab;
  const float chosen = known ? logits[token] : kMasked;
  result.logprob = static_cast<float>(chosen - log_sum);
  result.rank = static_cast<int32_t>(
                    std::count_if(logits, logits + vocab, [&](float x) { return x >= chosen; })) +
                (known ? 0 : 1);
  result.top_count = std::min(top_count, vocab);
  std::vector<int32_t> ids(vocab);
  std::iota(ids.begin(), ids.end(), 0);
  std::partial_sort(
      ids.begin(), ids.begin() + result.top_count, ids.end(),
      [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  for (int32_t i = 0; i < result.top_count; ++i) {
    result.top_ids[i] = ids[i];
    result.top_logprobs[i] = static_cast<float>(logits[ids[i]] - log_sum);
  }
}

void BiasMaskPenalize(const SlotState& slot, const uint32_t* mask, int32_t vocab, float* logits) {
  for (const TokenBias& entry : slot.bias) {
    if (entry.token >= 0 && entry.token < vocab) logits[entry.token] += entry.bias;
  }
  if (slot.generated < slot.sampling.min_tokens) {
    for (int32_t id : slot.stop_ids) {
      if (id >= 0 && id < vocab) logits[id] = kMasked;
    }
  }
  for (int32_t v = 0; v < vocab; ++v) {
    if (!MaskAllows(mask, v)) logits[v] = kMasked;
    if (slot.counts != nullptr) logits[v] = Penalized(logits[v], slot.counts[v], slot.sampling);
  }
}

void MaskBelow(float bound, int32_t vocab, float* z) {
  for (int32_t v = 0; v < vocab; ++v) {
    if (z[v] < bound) z[v] = kMasked;
  }
}

// min-p, top-k and top-p over z = (logit - max) / temperature.
void Filter(const SamplingParams& sampling, int32_t vocab, float* z) {
  if (sampling.min_p > 0) MaskBelow(std::log(sampling.min_p), vocab, z);
  std::vector<float> sorted(z, z + vocab);
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  if (sampling.top_k > 0 && sampling.top_k < vocab) {
    const float bound = sorted[sampling.top_k - 1];
    MaskBelow(bound, vocab, z);
    MaskBelow(bound, vocab, sorted.data());
  }
  if (sampling.top_p >= 1) return;
  double total = 0;
  for (float x : sorted) total += std::exp(double{x});
  double larger = 0;  // probability of everything above the current run of equals
  for (int32_t begin = 0; begin < vocab;) {
    if (larger >= sampling.top_p) {
      MaskBelow(sorted[begin - 1], vocab, z);
      return;
    }
    int32_t end = begin;
    while (end < vocab && sorted[end] == sorted[begin]) ++end;
    larger += (end - begin) * std::exp(double{sorted[begin]}) / total;
    begin = end;
  }
}

// -1 if nothing is allowed. Overwrites the logits.
int32_t Draw(const SamplingParams& sampling, int32_t position, int32_t vocab, float* logits) {
  const float* best = std::max_element(logits, logits + vocab);  // the first among equals
  if (!(*best > kMasked)) return -1;
  if (sampling.temperature == 0) return static_cast<int32_t>(best - logits);
  const float largest = *best;
  for (int32_t v = 0; v < vocab; ++v) logits[v] = (logits[v] - largest) / sampling.temperature;
  Filter(sampling, vocab, logits);
  int32_t token = -1;
  double best_score = 0;
  for (int32_t v = 0; v < vocab; ++v) {
    if (logits[v] == kMasked) continue;
    const double score = logits[v] + GumbelNoise(sampling.seed, sampling.output_index, position, v);
    if (token < 0 || score > best_score) {
      token = v;
      best_score = score;
    }
  }
  return token;
}

}  // namespace

void RefSample(const SampleArgs& args, SlotTable& slots) {
  const int32_t vocab = args.valid_vocab;
  std::vector<float> raw(vocab);
  for (int32_t o = 0; o < args.step.outputs; ++o) {
    const int32_t slot_index = args.step.output_slots[o];
    const SlotState& slot = slots.State(slot_index);
    const int32_t target = args.step.output_targets[o];
    float* logits = args.logits.Row<float>(o);
    TokenResult& result = args.results[o];
    result = {};
    result.token = target;
    if (!Usable(logits, vocab)) {
      result.flags = kResultNonFinite;
      continue;
    }
    raw.assign(logits, logits + vocab);
    if (target < 0) {
      BiasMaskPenalize(slot, args.masks != nullptr ? args.masks[o] : nullptr, vocab, logits);
      const int32_t position = args.step.positions[args.step.output_tokens[o]] + 1;
      result.token = Draw(slot.sampling, position, vocab, logits);
      if (result.token < 0) {
        result.flags = kResultNonFinite;
        continue;
      }
      slots.Draw(slot_index, result.token);
    }
    if (target >= 0 || slot.sampling.logprobs >= 0) {
      const int32_t top_count = std::clamp(slot.sampling.logprobs, 0, kMaxTopLogprobs);
      Report(raw.data(), vocab, LogSumExp(raw.data(), vocab), result.token, top_count, result);
    }
  }
}

}  // namespace baram
