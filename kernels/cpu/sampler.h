// Sampler: Sample on the CPU, one row of logits at a time.
#ifndef BARAM_KERNELS_CPU_SAMPLER_H_
#define BARAM_KERNELS_CPU_SAMPLER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cpu/sample_passes.h"
#include "kernels/ops.h"
#include "kernels/slots.h"

namespace baram::cpu {

// Owned by the CPU device. Reserve is called once; SampleRow by any worker, concurrently for
// different rows. Allocates nothing after Reserve. Does not modify the logits.
//
// Chooses exactly the token that kernels/ref/ chooses for the same logits, except where rounding
// decides on which side of a top-p bound a token falls: the passes over the row only exclude what
// cannot win, and the scores of the rest are computed in double precision.
class Sampler {
 public:
  explicit Sampler(const SamplePasses& passes) : passes_(&passes) {}

  // Throws std::bad_alloc.
  void Reserve(int32_t vocab_size, int32_t workers);
  // What Reserve takes, rounded down.
  static int64_t Bytes(int32_t vocab_size, int32_t workers);

  // Samples or scores row `output` of the logits, on worker `worker`. A drawn token is recorded in
  // `slots`.
  void SampleRow(const SampleArgs& args, int32_t output, int32_t worker, SlotTable& slots) const;

 private:
  // The memory of a worker. Uninitialized, so that pages that are never touched are not committed.
  struct Scratch {
    std::unique_ptr<float[]> z;          // [vocab] edited logits, then (logit - max) / temperature
    std::unique_ptr<float[]> values;     // [vocab]
    std::unique_ptr<float[]> weights;    // [vocab]
    std::unique_ptr<int32_t[]> ids;      // [vocab]
    std::unique_ptr<float[]> raw_max;    // [chunks] of the raw logits
    std::unique_ptr<float[]> chunk_max;  // [chunks] of z
  };
  // A row of logits, the maxima of its chunks, and its largest.
  struct LogitRow {
    const float* x;
    const float* chunk_max;
    int64_t n;
    float largest;
  };

  LogitRow Edit(const LogitRow& raw, const SlotState& slot, const uint32_t* mask,
                const Scratch& scratch) const;
  int32_t Draw(const LogitRow& row, const SamplingParams& sampling, int32_t position,
               const Scratch& scratch) const;
  float FilterBound(const LogitRow& z, const SamplingParams& sampling,
                    const Scratch& scratch) const;
  float TopKBound(const LogitRow& z, int32_t k, float bound, const Scratch& scratch) const;
  float TopPBound(const LogitRow& z, float top_p, float bound, const Scratch& scratch) const;
  float AtLeastTop(const LogitRow& row, int64_t k, const Scratch& scratch) const;
  void Report(const LogitRow& raw, int32_t top_count, const Scratch& scratch,
              TokenResult& result) const;

  const SamplePasses* passes_;
  std::vector<Scratch> scratch_;  // [workers]
};

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_SAMPLER_H_
