// How a GEMM is cut into work: a pure function of shapes, kernels and workers.
#ifndef BARAM_KERNELS_CPU_GEMM_SELECT_H_
#define BARAM_KERNELS_CPU_GEMM_SELECT_H_

#include <cstdint>
#include <string>

#include "kernels/cpu/jobs.h"
#include "kernels/rounding.h"

namespace baram::cpu {

// Memory for the packed rows of `a`, shared by all workers. Committed only where it is used.
inline constexpr int64_t kGemmScratchBytes = int64_t{32} << 20;
// The longest rows supported: 32 of them fit in fp32.
inline constexpr int64_t kMaxGemmK = kGemmScratchBytes / (32 * 4);

// The most bytes of a worker's scratch that the GEMM kernels use for `rows` rows by `panels`
// panels: fp32 sums. Tiles sum 32 rows by two panels at a time, and have one such block in reserve.
constexpr int64_t SumBytes(bool tiles, int64_t rows, int64_t panels) {
  const int64_t sums = tiles ? RoundUp(rows, 32) * RoundUp(panels, 2) + 32 * 2 : rows * panels;
  return sums * kPanelColumns * 4;
}

struct GemmPlan {
  int64_t chunk_rows = 0;       // rows of `a` that are packed and multiplied at a time
  int64_t block_k = 0;          // columns of `a` that are multiplied at a time
  int64_t panels_per_task = 1;  // panels of 16 columns that a worker takes at a time
  bool stream_out = false;      // the result is too large to stay in a cache until it is read
  bool operator==(const GemmPlan&) const = default;
};

// The plan never changes a bit of the result: no summation order depends on it.
GemmPlan SelectGemm(int64_t rows, int64_t n, int64_t padded_k, const GemmForm& form,
                    int32_t workers);

// "512 x 256, 16 panels, streamed".
std::string ToString(const GemmPlan& plan);

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_GEMM_SELECT_H_
