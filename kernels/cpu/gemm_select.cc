// The choice of GEMM kernel and tiling, with what it rests on.
#include "kernels/cpu/gemm_select.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu/pack.h"
#include "kernels/rounding.h"

namespace baram::cpu {
namespace {

// Up to here lanes keep up with DRAM; past it they are bound by arithmetic, and tiles are better.
constexpr int64_t kMaxLaneRows = 3;

// How rows and columns of `a` are cut into chunks and blocks for tiles, and how many panels a
// worker takes at a time.
//
// Derived, not measured: from the cache lines that a model of L1 (48 KiB) and L2 (2 MiB) counts for
// the addresses of the kernel's tile loads, stores and prefetches, at the rates of an AMX machine.
// TDPBF16PS takes 7.8 ns; filling L1 takes 9 ns a KiB from L2, 44 from L3 (of `a` and accumulators)
// and 63 from DRAM (of weights), one after the other, but beside the products. Of a step, 2 x 2
// products in 31 ns, the model then says at 512 rows, k = 2048 and n = 8192:
//   256 rows x 2048, 16 panels   54 ns: weights and `a` both come from L2 again for every 2 x 2
//   512 rows x 512, 32 panels    56 ns: still both, for a pair of panels takes 32 KiB of L1, and as
//                                much of `a` passes through before it is used again
//   512 rows x 256, 32 panels    39 ns: the weights stay in L1 and are read from DRAM once
//   512 rows x 320, 32 panels    49 ns: half of the weights are pushed out again
//   512 rows x 2048, 16 panels  118 ns: the chunk is larger than L2
// It agrees in order with what other loops of 1024 rows reached on that machine, as shares of the
// AMX peak: 0.88 with blocks of 256 (by the model 0.69), 0.31 with blocks of 2048 (0.26).
struct Blocking {
  int64_t chunk_rows;
  int64_t block_k;
  int64_t panels;
  int64_t tiles_per_worker;  // even out workers of unequal speed
};
// The accumulators, rows x panels x 64 bytes, take half of L2, and pass through L1 once a block.
// With half the panels the chunk would be read from L3 twice as often, which costs 1 ns more.
constexpr Blocking kMany = {512, 256, 32, 2};
// Here the chunk stays in L2 as a whole, beside the accumulators of 16 panels: 48 ns at 256 rows,
// 53 with 2048 columns a block; at 128 rows 59 and 69.
constexpr Blocking kSome = {256, 256, 16, 4};
// Bound by the bytes of the weights, each used twice at most: a panel is read as one stream.
constexpr Blocking kFew = {64, 2048, 16, 4};
// For lanes. 128 rows of 2048 columns are 1 MiB in fp32; twice the rows measured 0.95 times as
// fast.
constexpr Blocking kLanes = {128, 2048, 16, 4};

// Results larger than this have left L2 before they are read. Written past the caches, their lines
// need not be read first: measured 1.1 to 1.2 times as fast at 512 rows.
constexpr int64_t kStreamOutBytes = int64_t{1} << 20;

// Bytes of weights a worker takes at a time when the weights are what is read: long enough to
// stream, short enough that workers end together.
constexpr int64_t kStreamTileBytes = int64_t{512} << 10;

}  // namespace

GemmPlan SelectGemm(int64_t rows, int64_t n, int64_t padded_k, const GemmPaths& paths,
                    int32_t workers) {
  GemmPlan plan;
  plan.path = paths.tiles && rows > kMaxLaneRows ? GemmPath::kTiles : GemmPath::kLanes;

  const int64_t element_bytes = plan.path == GemmPath::kTiles ? 2 : paths.lane_bytes;
  const int64_t rows_that_fit = kGemmScratchBytes / (padded_k * element_bytes) / 32 * 32;
  Check(padded_k <= kMaxGemmK, "the GEMM's scratch holds 32 rows of a");
  // Chunks of equal size: a short last one would pay for all of the weights alone.
  const Blocking blocking = plan.path == GemmPath::kLanes ? kLanes
                            : rows > kSome.chunk_rows     ? kMany
                            : rows > kFew.chunk_rows      ? kSome
                                                          : kFew;
  const int64_t chunks = CeilDivide(rows, std::min(blocking.chunk_rows, rows_that_fit));
  plan.chunk_rows = chunks == 1 ? rows : RoundUp(CeilDivide(rows, chunks), 32);
  plan.block_k = std::min(padded_k, blocking.block_k);
  plan.stream_out = plan.path == GemmPath::kTiles && rows * n * 2 > kStreamOutBytes;

  const int64_t panels = CeilDivide(n, kPanelColumns);
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
  return std::string(plan.path == GemmPath::kTiles ? "tiles" : "lanes") + ", " +
         std::to_string(plan.chunk_rows) + " x " + std::to_string(plan.block_k) + ", " +
         std::to_string(plan.panels_per_tile) + " panels" + (plan.stream_out ? ", streamed" : "");
}

}  // namespace baram::cpu
