// The choice of GEMM kernel and tiling, with the measurements behind it.
#include "kernels/cpu/gemm_select.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu/pack.h"

namespace baram::cpu {
namespace {

// Up to here fp32 FMAs keep up with DRAM; past it they are bound by arithmetic.
constexpr int64_t kMaxFmaRows = 3;

// Rows that share one reading of the weights. More would push accumulators and rows out of L2.
constexpr int64_t kMaxChunkRows = 512;

// A block of the packed rows stays in L2, of which it takes half. Longer blocks of k write and read
// the accumulators less often, which costs as much as 5 TDPBF16PS a tile.
constexpr int64_t kBlockBytes = int64_t{1} << 20;
constexpr int64_t kMaxBlockK = 2048;

// Bytes of weights a worker takes at a time when the weights are what is read: long enough to stream,
// short enough that workers end together.
constexpr int64_t kStreamTileBytes = int64_t{512} << 10;

// Tiles per worker that even out workers of unequal speed.
constexpr int64_t kTilesPerWorker = 4;

// The worker's scratch holds the accumulators of one tile.
constexpr int64_t kMaxPanelsPerTile =
    kWorkerScratchBytes / (kMaxChunkRows * kPanelColumns * static_cast<int64_t>(sizeof(float)));

}  // namespace

GemmPlan SelectGemm(int64_t rows, int64_t n, int64_t padded_k, bool has_amx, int32_t workers) {
  GemmPlan plan;
  plan.path = has_amx && rows > kMaxFmaRows ? GemmPath::kAmx : GemmPath::kFma;

  const int64_t element_bytes = plan.path == GemmPath::kAmx ? 2 : 4;
  const int64_t rows_that_fit = kGemmScratchBytes / (padded_k * element_bytes) / 32 * 32;
  Check(rows_that_fit > 0, "the GEMM's scratch holds 32 rows of a");
  plan.chunk_rows = std::min({rows, kMaxChunkRows, rows_that_fit});

  const int64_t block_bytes_per_k = RoundUp(plan.chunk_rows, 16) * 2;
  plan.block_k = std::min({padded_k, kMaxBlockK, kBlockBytes / block_bytes_per_k / kBlockK * kBlockK});

  const int64_t panels = RoundUp(n, kPanelColumns) / kPanelColumns;
  int64_t largest = 8;
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
         std::to_string(plan.chunk_rows) + " x " +
         std::to_string(plan.block_k) + ", " + std::to_string(plan.panels_per_tile) +
         " panels";
}

}  // namespace baram::cpu
