// Gemm of any shape on tensor cores: out = scale * a W^T + bias, with mma.sync.
//
// Bound by arithmetic from some 300 rows on: 2 rows n k operations over 2 (rows k + n k) bytes and
// the result. It is the fallback where cuBLASLt is missing or rejects a shape.
//
// A block computes a square of the result, 128 or 64 wide, in steps of 64 elements of k. Tiles of
// `a` and W go through three stages of shared memory, two in flight while one is multiplied. A row
// of a tile is 8 chunks of 16 bytes; chunk c of row r is at c ^ (r % 8), so that 8 rows of a chunk
// cover all banks. Elements past the rows, columns and k of the operands are zero in shared memory.
// The first two tiles of W are requested before the kernel waits for the previous kernel, which
// writes `a` and not W.
// Rows of `a` that are not aligned to 16 bytes are copied element by element. Blocks along the rows
// of `a` come first in the grid: those that run concurrently share tiles of W. Grid: tiles of rows,
// of columns, splits.
#include <type_traits>

#include "kernels/check.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/pack.h"
#include "kernels/cuda/prims/split_sum.h"
#include "kernels/rounding.h"

namespace baram::cuda {
namespace {

constexpr int kStages = 3;
constexpr int kVector = 8;  // elements of 16 bytes
constexpr int kChunks = kMmaStepK / kVector;
constexpr int kMmaRows = 16;
constexpr int kMmaColumns = 8;
constexpr int kMmaK = 16;

// A block has row warps x column warps; each warp has row parts x column parts products of its
// tile.
template <int kRowWarpsOf, int kColumnWarpsOf, int kRowPartsOf, int kColumnPartsOf>
struct TileShape {
  // Blocks share a tile's k only when tiles are few, and then they are small.
  static constexpr bool kSplits = kRowPartsOf * kColumnPartsOf <= 8;
  static constexpr int kColumnWarps = kColumnWarpsOf;
  static constexpr int kRowParts = kRowPartsOf;
  static constexpr int kColumnParts = kColumnPartsOf;
  static constexpr int kWarpRows = kRowParts * kMmaRows;
  static constexpr int kWarpColumns = kColumnParts * kMmaColumns;
  static constexpr int kRows = kRowWarpsOf * kWarpRows;
  static constexpr int kColumns = kColumnWarps * kWarpColumns;
  static constexpr int kThreads = kRowWarpsOf * kColumnWarps * kWarpThreads;
  // 16 warps of 128 registers per multiprocessor.
  static constexpr int kResidentBlocks = 512 / kThreads;
  static constexpr int kSums = kRowParts * kColumnParts * 4;  // per thread
  static constexpr int kStageElements = (kRows + kColumns) * kMmaStepK;
  static constexpr size_t kSharedBytes = kStages * kStageElements * sizeof(Bf16);
  static_assert(kColumnParts % 2 == 0, "matrix loads bring two parts of W");
};
using SmallTile = TileShape<2, 2, 2, 4>;
using LargeTile = TileShape<2, 4, 4, 4>;
static_assert(SmallTile::kRows == kSmallMmaTile && SmallTile::kColumns == kSmallMmaTile);
static_assert(LargeTile::kRows == kLargeMmaTile && LargeTile::kColumns == kLargeMmaTile);

struct Matrix {
  const Bf16* data;
  int64_t stride;
  int64_t rows;
};

struct MmaLaunch {
  Matrix a;
  Matrix weight;
  const float* bias;  // or null
  float scale;
  Rows out;
  bool pairs;  // columns 2i and 2i + 1 of `out` can be stored together
  int64_t k;
  SplitMemory split_memory;
};

__device__ __forceinline__ Bf16* Chunk(Bf16* tile, int row, int chunk) {
  return tile + row * kMmaStepK + (chunk ^ row % 8) * kVector;
}

// How a tile is copied.
enum class Source { kWeight, kAligned, kUnaligned };

// Copies rows [first, first + kTileRows), elements [begin, begin + kMmaStepK) of each. A thread
// copies one chunk of every kRowStep-th row.
template <int kTileRows, int kThreads, Source kSource>
__device__ __forceinline__ void LoadTile(const Matrix& matrix, int64_t first, int64_t begin,
                                         int64_t k, Bf16* tile) {
  constexpr int kRowStep = kThreads / kChunks;
  static_assert(kTileRows % kRowStep == 0 && kRowStep % 8 == 0, "all rows swizzle alike");
  const int row = static_cast<int>(threadIdx.x) / kChunks;
  const int chunk = static_cast<int>(threadIdx.x) % kChunks;
  const int64_t at = begin + chunk * kVector;
  const int left = k - at >= kVector ? kVector : k > at ? static_cast<int>(k - at) : 0;
  const Bf16* from = matrix.data + (first + row) * matrix.stride + at;
  Bf16* to = Chunk(tile, row, chunk);
  for (int i = 0; i < kTileRows / kRowStep; ++i) {
    const int valid = first + row + i * kRowStep < matrix.rows ? left : 0;
    const int bytes = valid * static_cast<int>(sizeof(Bf16));
    if constexpr (kSource == Source::kWeight) {
      CopyConstantAsync16(to, from, bytes);
    } else if constexpr (kSource == Source::kAligned) {
      CopyAsync16(to, from, bytes);
    } else {
      for (int j = 0; j < kVector; ++j) to[j] = j < valid ? from[j] : Bf16{0};
    }
    from += kRowStep * matrix.stride;
    to += kRowStep * kMmaStepK;
  }
}

// The sums of one of the warp's products.
template <typename Tile>
__device__ __forceinline__ float (&PartOf(float (&sums)[Tile::kSums], int r, int c))[4] {
  return *reinterpret_cast<float(*)[4]>(sums + (r * Tile::kColumnParts + c) * 4);
}

// Adds the products of one stage to this warp's sums.
template <typename Tile>
__device__ __forceinline__ void MultiplyStage(Bf16* a_tile, Bf16* weight_tile, int first_row,
                                              int first_column, int lane,
                                              float (&sums)[Tile::kSums]) {
  for (int step = 0; step < kMmaStepK / kMmaK; ++step) {
    uint32_t a[Tile::kRowParts][4];
    for (int r = 0; r < Tile::kRowParts; ++r) {
      LoadMatrices<false>(
          a[r], Chunk(a_tile, first_row + r * kMmaRows + lane % 16, step * 2 + lane / 16));
    }
    for (int c = 0; c < Tile::kColumnParts; c += 2) {
      uint32_t both[4];
      LoadMatrices<false>(
          both, Chunk(weight_tile, first_column + c * kMmaColumns + lane / 16 * 8 + lane % 8,
                      step * 2 + lane / 8 % 2));
      const uint32_t left[2] = {both[0], both[1]};
      const uint32_t right[2] = {both[2], both[3]};
      for (int r = 0; r < Tile::kRowParts; ++r) {
        MmaBf16(PartOf<Tile>(sums, r, c), a[r], left);
        MmaBf16(PartOf<Tile>(sums, r, c + 1), a[r], right);
      }
    }
  }
}

// Stores two neighboring elements of a row of the result.
template <typename Out>
__device__ __forceinline__ void StorePair(const MmaLaunch& args, int64_t row, int64_t column,
                                          float low, float high) {
  if (row >= args.a.rows || column >= args.weight.rows) return;
  const bool has_high = column + 1 < args.weight.rows;
  low *= args.scale;
  high *= args.scale;
  if (args.bias != nullptr) {
    low += args.bias[column];
    if (has_high) high += args.bias[column + 1];
  }
  Out* to = args.out.template Row<Out>(row) + column;
  if (args.pairs && has_high) {
    if constexpr (std::is_same_v<Out, Bf16>) {
      *reinterpret_cast<uint32_t*>(to) = PackBf16(low, high);
    } else {
      *reinterpret_cast<float2*>(to) = float2{low, high};
    }
    return;
  }
  to[0] = FromFloat<Out>(low);
  if (has_high) to[1] = FromFloat<Out>(high);
}

template <typename Tile, bool kAlignedA, typename Out>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kResidentBlocks)
    MmaKernel(const __grid_constant__ MmaLaunch args) {
  Bf16* stages = DynamicShared<Bf16>();
  const int64_t tile_row = int64_t{blockIdx.x} * Tile::kRows;
  const int64_t tile_column = int64_t{blockIdx.y} * Tile::kColumns;
  const int64_t steps = CeilDivide(args.k, kMmaStepK);
  const int64_t first_step = steps * blockIdx.z / gridDim.z;
  const int64_t last_step = steps * (blockIdx.z + 1) / gridDim.z;

  const auto stage_of = [&](int64_t step) {
    return stages + (step - first_step) % kStages * Tile::kStageElements;
  };
  const auto load_weight = [&](int64_t step) {
    if (step >= last_step) return;
    LoadTile<Tile::kColumns, Tile::kThreads, Source::kWeight>(
        args.weight, tile_column, step * kMmaStepK, args.k,
        stage_of(step) + Tile::kRows * kMmaStepK);
  };
  // Ends the step's group of copies. Groups are counted, so there is one per step even if nothing
  // is left to copy.
  const auto load_a = [&](int64_t step) {
    if (step < last_step) {
      LoadTile<Tile::kRows, Tile::kThreads, kAlignedA ? Source::kAligned : Source::kUnaligned>(
          args.a, tile_row, step * kMmaStepK, args.k, stage_of(step));
    }
    CopyAsyncCommit();
  };

  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int warp_row = warp / Tile::kColumnWarps * Tile::kWarpRows;
  const int warp_column = warp % Tile::kColumnWarps * Tile::kWarpColumns;
  float sums[Tile::kSums] = {};
  // These tiles of W all belong to the first group.
  for (int ahead = 0; ahead < kStages - 1; ++ahead) load_weight(first_step + ahead);
  WaitForPrevious();
  LetNextStart();
  for (int ahead = 0; ahead < kStages - 1; ++ahead) load_a(first_step + ahead);
  for (int64_t step = first_step; step < last_step; ++step) {
    CopyAsyncWait<kStages - 2>();
    // This step's tiles have arrived, and all threads are done with the stage that is loaded next.
    __syncthreads();
    load_weight(step + kStages - 1);
    load_a(step + kStages - 1);
    Bf16* stage = stage_of(step);
    MultiplyStage<Tile>(stage, stage + Tile::kRows * kMmaStepK, warp_row, warp_column, lane, sums);
  }
  CopyAsyncWait<0>();

  if constexpr (Tile::kSplits) {
    const SplitPlace place{blockIdx.y * gridDim.x + blockIdx.x, gridDim.x * gridDim.y, blockIdx.z,
                           gridDim.z};
    if (!SumSplits(args.split_memory, place, sums)) return;
  }

  BARAM_UNROLL
  for (int r = 0; r < Tile::kRowParts; ++r) {
    BARAM_UNROLL
    for (int c = 0; c < Tile::kColumnParts; ++c) {
      const int64_t row = tile_row + warp_row + r * kMmaRows + lane / 4;
      const int64_t column = tile_column + warp_column + c * kMmaColumns + lane % 4 * 2;
      const float(&part)[4] = PartOf<Tile>(sums, r, c);
      StorePair<Out>(args, row, column, part[0], part[1]);
      StorePair<Out>(args, row + 8, column, part[2], part[3]);
    }
  }
}

template <typename Tile, bool kAlignedA>
void LaunchTile(const MmaLaunch& launch, DType out_type, int32_t splits, LaunchStream stream) {
  const Dim3 grid{static_cast<uint32_t>(CeilDivide(launch.a.rows, Tile::kRows)),
                  static_cast<uint32_t>(CeilDivide(launch.weight.rows, Tile::kColumns)),
                  static_cast<uint32_t>(splits)};
  WithType(out_type, [&](auto out) {
    using Out = typename decltype(out)::Type;
    Launch(MmaKernel<Tile, kAlignedA, Out>, grid, {Tile::kThreads}, Tile::kSharedBytes, stream,
           launch);
  });
}

}  // namespace

void LaunchGemmMma(const GemmArgs& args, const GemmPlan& plan, const SplitMemory& memory,
                   LaunchStream stream) {
  if (args.a.rows == 0) return;
  const WeightShape& shape = args.weight.shape;
  const int64_t pair_bytes = 2 * DTypeBytes(args.out.dtype);
  const MmaLaunch launch{
      .a = {args.a.Row<const Bf16>(0), args.a.stride, args.a.rows},
      .weight = {static_cast<const Bf16*>(args.weight.data), PackedStride(shape), shape.n},
      .bias = args.bias,
      .scale = args.scale,
      .out = RowsOf(args.out),
      .pairs =
          reinterpret_cast<uintptr_t>(args.out.data) % pair_bytes == 0 && args.out.stride % 2 == 0,
      .k = shape.k,
      .split_memory = memory};
  const bool aligned_a = ProblemOf(args).aligned_a;
  if (plan.tile == kLargeMmaTile) {
    Check(aligned_a, "the large tile is planned for aligned rows");
    LaunchTile<LargeTile, true>(launch, args.out.dtype, plan.splits, stream);
  } else if (aligned_a) {
    LaunchTile<SmallTile, true>(launch, args.out.dtype, plan.splits, stream);
  } else {
    LaunchTile<SmallTile, false>(launch, args.out.dtype, plan.splits, stream);
  }
}

}  // namespace baram::cuda
