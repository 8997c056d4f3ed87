// The choice of GEMM. Its constants are derived from hardware figures; none was measured.
#include "kernels/cuda/gemm_select.h"

#include <algorithm>
#include <optional>

#include "kernels/rounding.h"

namespace baram::cuda {
namespace {

// For fewer steps of k per block, exchanging partial sums does not pay.
constexpr int64_t kMinStepsPerSplit = 4;
// The last block of a tile adds the parts of all: more parts would make it the slowest.
constexpr int64_t kMaxSplits = 8;
// Blocks of the small tile that a multiprocessor needs at least: one waits for memory while another
// multiplies.
constexpr int64_t kMmaBlocksPerMultiprocessor = 2;
// Rows from which the large tile pays: with fewer, it would multiply rows that do not exist.
constexpr int64_t kLargeTileRows = 96;

int32_t Splits(int64_t tiles, int64_t wanted_blocks, int64_t steps) {
  if (tiles > kMaxSplitTiles) return 1;
  const int64_t most = std::min(kMaxSplits, steps / kMinStepsPerSplit);
  return static_cast<int32_t>(
      std::clamp(wanted_blocks / tiles, int64_t{1}, std::max(most, int64_t{1})));
}

GemmPlan SelectSkinny(const GemmProblem& problem, int64_t multiprocessors) {
  GemmPlan plan{.path = GemmPath::kSkinny};
  const int64_t tiles = CeilDivide(problem.n, kSkinnyTileColumns);
  const int64_t steps = CeilDivide(problem.k, kSkinnyStepK);
  // Half of the multiprocessors can take in all that HBM delivers, 64 bytes a cycle each, and have
  // several times its latency-bandwidth product in flight: exchanging sums to occupy more of them
  // would cost more than it gains.
  plan.splits = Splits(tiles, multiprocessors / 2, steps);
  const int64_t block_steps = CeilDivide(steps, plan.splits);
  // Blocks that do not fit run in another wave, and the last wave is rarely full. With more warps a
  // block finishes sooner, but fewer blocks are resident. A warp has up to 12 KiB of weights in
  // flight, so a full multiprocessor has several times HBM's latency-bandwidth product, some 30
  // KiB, however its warps are grouped into blocks.
  const auto waves = [&](int32_t warps) {
    const int64_t resident = multiprocessors * (kSkinnyResidentWarps / warps);
    return CeilDivide(tiles * plan.splits, resident);
  };
  plan.warps = kMinSkinnyWarps;
  while (plan.warps < kMaxSkinnyWarps && plan.warps < block_steps &&
         waves(2 * plan.warps) == waves(plan.warps)) {
    plan.warps *= 2;
  }
  return plan;
}

GemmPlan SelectMma(const GemmProblem& problem, int64_t multiprocessors) {
  GemmPlan plan{.path = GemmPath::kMma};
  const auto tiles = [&](int64_t tile) {
    return CeilDivide(problem.rows, tile) * CeilDivide(problem.n, tile);
  };
  if (problem.aligned_a && problem.rows >= kLargeTileRows &&
      tiles(kLargeMmaTile) >= multiprocessors) {
    plan.tile = kLargeMmaTile;
    return plan;
  }
  plan.tile = kSmallMmaTile;
  plan.splits = Splits(tiles(kSmallMmaTile), kMmaBlocksPerMultiprocessor * multiprocessors,
                       CeilDivide(problem.k, kMmaStepK));
  return plan;
}

// Rows from which a product with bias is worth the extra rounding pass: with fewer, reading W costs
// more than multiplying, and our own kernel reads it once as well.
constexpr int64_t kMinFp32Rows = 256;
constexpr int64_t kFp32RowsMultiple = 128;  // of the maximum: whole tiles of the library's kernels

// cuBLASLt's bias has the type of the result; ours is fp32. Gemm must not round it to bf16: where
// it nearly cancels the sum, every bit of the result would be wrong. So the library adds it to a
// result in fp32, which stays in L2 until a kernel rounds it, once. For the q, k and v of Qwen 2 7B
// and 2048 tokens that is 4 + 4 + 2 bytes per element instead of 2, some 20 us at L2 speed on top
// of some 85 us of products; our own kernel, on mma.sync, has two thirds of the library's speed at
// best. Parts are of equal size: a short last one would read all of W for a few rows. Results too
// wide for kMinFp32Rows are left to our own kernel.
int32_t Fp32Rows(const GemmProblem& problem) {
  const int64_t most =
      kFp32Bytes / (problem.n * int64_t{sizeof(float)}) / kFp32RowsMultiple * kFp32RowsMultiple;
  if (most < kMinFp32Rows) return 0;
  return static_cast<int32_t>(CeilDivide(problem.rows, CeilDivide(problem.rows, most)));
}

// nullopt: cuBLASLt does not suit the product. Its tensor-core kernels need rows aligned to 16
// bytes.
std::optional<GemmPlan> SelectCublasLt(const GemmProblem& problem) {
  if (!problem.aligned_a || !problem.aligned_out || problem.k % 8 != 0) return std::nullopt;
  GemmPlan plan{.path = GemmPath::kCublasLt};
  if (!problem.has_bias || problem.out == DType::kF32) return plan;
  if (problem.rows < kMinFp32Rows || problem.n % 8 != 0) return std::nullopt;
  plan.fp32_rows = Fp32Rows(problem);
  if (plan.fp32_rows == 0) return std::nullopt;
  return plan;
}

bool IsAligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }
bool HasAlignedRows(const Tensor& tensor) {
  return IsAligned(tensor.data) && tensor.stride * DTypeBytes(tensor.dtype) % 16 == 0;
}

}  // namespace

GemmProblem ProblemOf(const GemmArgs& args) {
  return {.rows = args.a.rows,
          .n = args.weight.shape.n,
          .k = args.weight.shape.k,
          .aligned_a = HasAlignedRows(args.a),
          .aligned_out = HasAlignedRows(args.out) && IsAligned(args.bias),
          .has_bias = args.bias != nullptr,
          .out = args.out.dtype};
}

GemmPlan SelectOwnGemm(const GemmProblem& problem, int32_t multiprocessors) {
  const bool skinny = problem.rows <= kMaxSkinnyRows && problem.aligned_a && problem.k % 8 == 0;
  return skinny ? SelectSkinny(problem, multiprocessors) : SelectMma(problem, multiprocessors);
}

GemmPlan SelectGemm(const GemmProblem& problem, const GemmFacts& facts) {
  if (facts.has_cublaslt && problem.rows > kMaxSkinnyRows) {
    if (const auto plan = SelectCublasLt(problem)) return *plan;
  }
  return SelectOwnGemm(problem, facts.multiprocessors);
}

std::string ToString(const GemmPlan& plan) {
  const std::string splits =
      plan.splits > 1 ? ", " + std::to_string(plan.splits) + " splits" : std::string();
  switch (plan.path) {
    case GemmPath::kSkinny:
      return "skinny, " + std::to_string(plan.warps) + " warps" + splits;
    case GemmPath::kMma:
      return "mma " + std::to_string(plan.tile) + " x " + std::to_string(plan.tile) + splits;
    case GemmPath::kCublasLt:
      return plan.fp32_rows == 0
                 ? "cublaslt"
                 : "cublaslt, rounded by " + std::to_string(plan.fp32_rows) + " rows";
  }
  return "?";
}

}  // namespace baram::cuda
