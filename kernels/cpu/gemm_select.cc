// The choice of GEMM kernel and tiling, with the measurements behind it.
#include "kernels/cpu/gemm_select.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu/pack.h"

namespace baram::cpu {
namespace {

// Up to here fp32 FMAs keep up with DRAM; past it they are bound by arithmetic.
constexpr int64_t kMaxFmaRows = 3;

// Rows that share one reading of the weights, and columns of them that are multiplied in one go: 1
// MiB of packed rows, half of L2, is then read from there for every panel. With 512 rows the
// columns would have to be halved and the accumulators be written and read twice as often, which
// costs as much as 5 TDPBF16PS a tile; reading the weights a second time hides behind the
// arithmetic.
constexpr int64_t kMaxChunkRows = 256;
constexpr int64_t kMaxBlockK = 2048;

// Bytes of weights a worker takes at a time when the weights are what is read: long enough to
// stream, short enough that workers end together.
constexpr int64_t kStreamTileBytes = int64_t{512} << 10;

// Tiles per worker that even out workers of unequal speed.
constexpr int64_t kTilesPerWorker = 4;

// 256 rows of accumulators of a tile take 256 KiB of the worker's scratch and of L2.
constexpr int64_t kMaxPanelsPerTile = 16;

constexpr int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

GemmPlan SelectGemm(int64_t rows, int64_t n, int64_t padded_k, bool has_amx, int32_t workers) {
  GemmPlan plan;
  plan.path = has_amx && rows > kMaxFmaRows ? GemmPath::kAmx : GemmPath::kFma;

  const int64_t element_bytes = plan.path == GemmPath::kAmx ? 2 : 4;
  const int64_t rows_that_fit = kGemmScratchBytes / (padded_k * element_bytes) / 32 * 32;
  Check(padded_k <= kMaxGemmK, "the GEMM's scratch holds 32 rows of a");
  // Chunks of equal size: a short last one would pay for all of the weights alone.
  const int64_t chunks = CeilDivide(rows, std::min(kMaxChunkRows, rows_that_fit));
  plan.chunk_rows = chunks == 1 ? rows : RoundUp(CeilDivide(rows, chunks), 32);
  plan.block_k = std::min(padded_k, kMaxBlockK);

  const int64_t panels = RoundUp(n, kPanelColumns) / kPanelColumns;
  int64_t largest = kMaxPanelsPerTile;
  if (plan.chunk_rows <= 32) {
    largest = std::clamp(kStreamTileBytes / PanelBytes(padded_k), int64_t{2}, kMaxPanelsPerTile);
  }
  const int64_t even_share = panels / (workers * kTilesPerWorker);
  // Kernels work on pairs of panels.
  plan.panels_per_tile = std::clamp(even_share, int64_t{2}, largest) / 2 * 2;
  return plan;
}

std::string ToString(const GemmPlan& plan) {
  return std::string(plan.path == GemmPath::kAmx ? "amx" : "fma") + ", " +
         std::to_string(plan.chunk_rows) + " x " + std::to_string(plan.block_k) + ", " +
         std::to_string(plan.panels_per_tile) + " panels";
}

}  // namespace baram::cpu
