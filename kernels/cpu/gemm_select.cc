// The choice of GEMM kernel and tiling, with the measurements behind it.
#include "kernels/cpu/gemm_select.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu/pack.h"

namespace baram::cpu {
namespace {

// Up to here fp32 FMAs keep up with DRAM; past it they are bound by arithmetic.
constexpr int64_t kMaxFmaRows = 3;

// How rows and columns of `a` are cut into chunks and blocks for tiles, and how many panels a
// worker takes at a time. What comes from beyond L2 is the weights once a chunk, and the chunk once
// for every worker's tile of panels; in L2 are a block of `a` and the accumulators, rows x panels x
// 64 bytes.
struct Blocking {
  int64_t chunk_rows;
  int64_t block_k;
  int64_t panels;
  int64_t tiles_per_worker;  // even out workers of unequal speed
};
// Up to kShortK a chunk is one block of 1 MiB, so accumulators are written once. Twice the rows, in
// blocks of a quarter, would read the weights half as often, but write and read the accumulators
// four times: measured 0.8 times as fast at k = 2048.
constexpr int64_t kShortK = 2048;
constexpr Blocking kShort = {256, kShortK, 16, 4};
// Of longer rows a chunk doesn't fit into L2 and would be read again for every 256 columns: half
// the traffic for twice the accumulators, measured 1.2 times as fast at k = 8192.
constexpr Blocking kLong = {512, 512, 32, 2};
// For FMAs a chunk is fp32, of 2048 columns 1 MiB: twice the rows measured 0.95 times as fast.
constexpr Blocking kFma = {128, kShortK, 16, 4};

// Results above this are not found in L2 by who reads them next. Written past the caches they need
// not be read first: measured 1.1 to 1.2 times as fast at 512 rows.
constexpr int64_t kStreamOutBytes = int64_t{1} << 20;

// Bytes of weights a worker takes at a time when the weights are what is read: long enough to
// stream, short enough that workers end together.
constexpr int64_t kStreamTileBytes = int64_t{512} << 10;

constexpr int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

GemmPlan SelectGemm(int64_t rows, int64_t n, int64_t padded_k, bool has_amx, int32_t workers) {
  GemmPlan plan;
  plan.path = has_amx && rows > kMaxFmaRows ? GemmPath::kAmx : GemmPath::kFma;

  const int64_t element_bytes = plan.path == GemmPath::kAmx ? 2 : 4;
  const int64_t rows_that_fit = kGemmScratchBytes / (padded_k * element_bytes) / 32 * 32;
  Check(padded_k <= kMaxGemmK, "the GEMM's scratch holds 32 rows of a");
  // Chunks of equal size: a short last one would pay for all of the weights alone.
  const Blocking blocking = plan.path == GemmPath::kFma                      ? kFma
                            : padded_k > kShortK && rows > kShort.chunk_rows ? kLong
                                                                             : kShort;
  const int64_t chunks = CeilDivide(rows, std::min(blocking.chunk_rows, rows_that_fit));
  plan.chunk_rows = chunks == 1 ? rows : RoundUp(CeilDivide(rows, chunks), 32);
  plan.block_k = std::min(padded_k, blocking.block_k);
  plan.stream_out = plan.path == GemmPath::kAmx && rows * n * 2 > kStreamOutBytes;

  const int64_t panels = RoundUp(n, kPanelColumns) / kPanelColumns;
  int64_t largest = blocking.panels;
  if (plan.chunk_rows <= 32) {
    largest = std::clamp(kStreamTileBytes / PanelBytes(padded_k), int64_t{2}, blocking.panels);
  }
  const int64_t even_share = panels / (workers * blocking.tiles_per_worker);
  // Kernels work on pairs of panels.
  plan.panels_per_tile = std::clamp(even_share, int64_t{2}, largest) / 2 * 2;
  return plan;
}

std::string ToString(const GemmPlan& plan) {
  return std::string(plan.path == GemmPath::kAmx ? "amx" : "fma") + ", " +
         std::to_string(plan.chunk_rows) + " x " + std::to_string(plan.block_k) + ", " +
         std::to_string(plan.panels_per_tile) + " panels" + (plan.stream_out ? ", streamed" : "");
}

}  // namespace baram::cpu
