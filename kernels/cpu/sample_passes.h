// SamplePasses: the passes of Sample over whole rows of logits, one set per instruction set.
//
// A row is cut into chunks of kChunk logits. `collect` and `contenders` first check the maximum of
// each chunk and skip chunks without a relevant logit, so that they touch little of the row.
#ifndef BARAM_KERNELS_CPU_SAMPLE_PASSES_H_
#define BARAM_KERNELS_CPU_SAMPLE_PASSES_H_

#include <cstdint>

namespace baram::cpu {

inline constexpr int64_t kChunk = 64;

// Draws from one row: tokens with z >= bound compete by z + noise, see sampler_math.h.
struct NoiseJob {
  const float* z = nullptr;          // [n] (logit - max) / temperature
  const float* chunk_max = nullptr;  // of z
  int64_t n = 0;
  float bound = 0;
  float best = 0;  // the score to beat
  uint64_t seed = 0;
  uint32_t output_index = 0;
  uint32_t position = 0;
};

// The tokens first + i for which bit i is set.
struct TokenSet {
  int64_t first = 0;
  uint32_t bits = 0;
};

// x is a row of n logits; chunk_max holds the maximum of each chunk, the last of which may be
// partial.
struct SamplePasses {
  // Fills chunk_max. False if a logit is a NaN or +infinity.
  bool (*chunk_max)(const float* x, int64_t n, float* chunk_max);
  // The sum of e^(x - shift) over x >= bound, in the same order on every machine.
  float (*exp_sum)(const float* x, int64_t n, float shift, float bound);
  // out = e^x
  void (*exp)(const float* x, int64_t n, float* out);
  // z = (x - shift) / temperature; also fills chunk_max of z. z may be x.
  void (*temper)(const float* x, int64_t n, float shift, float temperature, float* z,
                 float* chunk_max);
  // x = -infinity where the bit of `allowed` is 0.
  void (*mask)(float* x, int64_t n, const uint32_t* allowed);
  // Writes the tokens with x >= bound, ascending, to `ids`. Returns their number.
  int64_t (*collect)(const float* x, int64_t n, const float* chunk_max, float bound, int32_t* ids);
  int64_t (*count_at_least)(const float* x, int64_t n, float bound);
  // Finds the first group of 16 tokens from `from` on (a multiple of 16) of which any can reach
  // job.best; the bits include every token that does, and possibly others. `first` is n or more if
  // none is left.
  TokenSet (*contenders)(const NoiseJob& job, int64_t from);
};

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_SAMPLE_PASSES_H_
