// Which GEMM computes a product and how it is split: a pure function of shapes, alignment and GPU.
#ifndef BARAM_KERNELS_CUDA_GEMM_SELECT_H_
#define BARAM_KERNELS_CUDA_GEMM_SELECT_H_

#include <cstdint>
#include <string>

#include "kernels/ops.h"

namespace baram::cuda {

// kSkinny: gemm_skinny.cu, streams the weight once. kMma: gemm_mma.cu, any shape and alignment.
// kCublasLt: cublaslt.h.
enum class GemmPath : uint8_t { kSkinny, kMma, kCublasLt };

// Every block of the skinny kernel reads all of `a`, so a row takes a 32nd of the weight's bytes
// out of L2. With 16 rows L2 delivers 1.5 times those bytes, which at some 5.5 TB/s takes it about
// as long as HBM takes for the weight. An estimate: op_bench has the products on both sides.
inline constexpr int64_t kMaxSkinnyRows = 16;
inline constexpr int32_t kSkinnyTileColumns = 32;  // of the result, per block
inline constexpr int32_t kSkinnyStepK = 64;        // elements of k that a warp processes at a time
inline constexpr int32_t kMinSkinnyWarps = 4;      // of a block
inline constexpr int32_t kMaxSkinnyWarps = 16;
// The least number of skinny-kernel warps that a multiprocessor's registers hold at once, which the
// kernel's launch bounds make the compiler guarantee.
inline constexpr int32_t kSkinnyResidentWarps = 16;
inline constexpr int32_t kSmallMmaTile = 64;   // rows and columns of the result, per block
inline constexpr int32_t kLargeMmaTile = 128;  // the same
inline constexpr int32_t kMmaStepK = 64;

// Memory for the partial sums of blocks that share a tile; plans stay within it.
inline constexpr int64_t kSplitBytes = int64_t{32} << 20;
inline constexpr int32_t kMaxSplitTiles = 1024;
// Memory for results of the library waiting to be rounded: fits into the smallest L2, 50 MB, so
// that they never go to HBM.
inline constexpr int64_t kFp32Bytes = int64_t{32} << 20;

struct GemmProblem {
  int64_t rows = 0;
  int64_t n = 0;
  int64_t k = 0;
  bool aligned_a = false;    // the rows of `a` are aligned to 16 bytes
  bool aligned_out = false;  // the rows of `out` and the bias are
  bool has_bias = false;
  DType out = DType::kBF16;
};
GemmProblem ProblemOf(const GemmArgs& args);

// Facts of a GPU and its machine that the choice depends on.
struct GemmFacts {
  int32_t multiprocessors = 1;
  bool has_cublaslt = false;
};

struct GemmPlan {
  GemmPath path = GemmPath::kMma;
  int32_t tile = 0;    // kMma: rows and columns of a block's part of the result
  int32_t warps = 0;   // kSkinny: of a block; they share k
  int32_t splits = 1;  // blocks that share a tile's k
  // kCublasLt: rows per call whose result stays in fp32, for LaunchRound; 0: all rows at once, in
  // the type of `out`
  int32_t fp32_rows = 0;
  bool operator==(const GemmPlan&) const = default;
};

// How a skinny product is split does not depend on the number of rows, and so, up to
// kMaxSkinnyRows, neither do a row's bits.
GemmPlan SelectGemm(const GemmProblem& problem, const GemmFacts& facts);

// The choice without cuBLASLt, for a product that it rejects.
GemmPlan SelectOwnGemm(const GemmProblem& problem, int32_t multiprocessors);

// "skinny, 8 warps, 2 splits", "mma 128 x 128", "cublaslt", "cublaslt, rounded by 1792 rows".
std::string ToString(const GemmPlan& plan);

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_GEMM_SELECT_H_
