// The random numbers and the per-logit formulas of Sample, exactly as every device must compute
// them.
//
// Randomness (I13). Philox4x32-10 as in Random123 (Salmon et al., "Parallel random numbers: as easy
// as 1, 2, 3", SC 2011), without state:
//   key     = (seed's low 32 bits, seed's high 32 bits)
//   counter = (token / 4, position, output_index, 0)
//   word    = element (token mod 4) of Philox(counter, key)
// `position` is that of the token to be drawn: one past the token that produced the logits.
//   v       = (word + 0.5) * 2^-32, in (0, 1)
//   gumbel  = -log(-log(1 - v))
// The largest noise, which decides, comes from small v, where v has the full 32 bits: a 24-bit
// uniform would tie within today's vocabularies. A device that computes in fp32 clamps v to
// 1 - 2^-24 and uses log1p; the words are exact everywhere, the noise is equal up to rounding.
//
// Choice among the remaining tokens: the largest (logit - max) / temperature + gumbel, the smallest
// id among equals. That is a draw from softmax(logit / temperature); subtracting the maximum first
// keeps tiny temperatures finite. (logit - max) / temperature is one fp32 subtraction and one fp32
// division.
//
// Filters. Each keeps the logits at or above a bound, so equal logits stay or go together and the
// smallest id never decides. With z = (logit - max) / temperature, in this order:
//   min-p: z >= log(min_p)
//   top-k: at least the k-th largest of what remains
//   top-p: with p = softmax of what remains, the tokens whose larger p sum to less than top_p
#ifndef BARAM_KERNELS_SAMPLER_MATH_H_
#define BARAM_KERNELS_SAMPLER_MATH_H_

#include <array>
#include <cfloat>
#include <cmath>
#include <cstdint>

#include "kernels/slots.h"
#include "kernels/step.h"

namespace baram {

using PhiloxWords = std::array<uint32_t, 4>;

constexpr PhiloxWords Philox4x32(PhiloxWords counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {
        static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
        static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// The words of tokens 4 * block .. 4 * block + 3.
constexpr PhiloxWords SamplerWords(uint64_t seed, int32_t output_index, int32_t position,
                                   int32_t block) {
  return Philox4x32({static_cast<uint32_t>(block), static_cast<uint32_t>(position),
                     static_cast<uint32_t>(output_index), 0},
                    static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

inline double GumbelFromWord(uint32_t word) {
  const double v = (word + 0.5) * 0x1p-32;
  return -std::log(-std::log1p(-v));
}

inline double GumbelNoise(uint64_t seed, int32_t output_index, int32_t position, int32_t token) {
  return GumbelFromWord(SamplerWords(seed, output_index, position, token / 4)[token % 4]);
}

// The three penalties, in fp32 and in this order, on a logit whose count (see SlotTable) is
// `count`. A quotient that overflows fp32 becomes FLT_MAX: an infinite logit would make (logit -
// max) NaN, and with it every filter.
constexpr float Penalized(float logit, uint16_t count, const SamplingParams& sampling) {
  if (count == 0) return logit;
  if (logit > 0) {
    const float quotient = logit / sampling.repetition_penalty;
    logit = quotient < FLT_MAX ? quotient : FLT_MAX;
  } else {
    logit *= sampling.repetition_penalty;
  }
  const int outputs = count & kCountOutputs;
  if (outputs > 0) {
    logit -= sampling.frequency_penalty * static_cast<float>(outputs);
    logit -= sampling.presence_penalty;
  }
  return logit;
}

// Whether a row's grammar mask allows a token; a null mask allows all.
constexpr bool MaskAllows(const uint32_t* mask, int32_t token) {
  return mask == nullptr || ((mask[token / 32] >> (token % 32)) & 1u) != 0;
}

}  // namespace baram

#endif  // BARAM_KERNELS_SAMPLER_MATH_H_
