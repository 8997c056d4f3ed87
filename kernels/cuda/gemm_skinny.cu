// Gemm for up to 16 rows of `a`: out = scale * a W^T + bias, at the speed of reading W.
//
// Bound by memory: 2 n k bytes of weights, each read once. `a` (2 rows k bytes) comes from L2, once
// per block: with 16 rows, half as many bytes again as the weights. Tensor cores, because fp32
// multiply-adds keep up with HBM only to about 6 rows: a tile of 16 rows of W is the left factor of
// m16n8k16, rows of `a` are the right one, 8 at a time.
//
// The order of k inside a product is free if both factors agree. A lane takes 16 consecutive bytes
// of a row, which are its operands of two products:
//   k of a block of 32:  8 t + {0, 1}, {2, 3} in the first product, {4, 5}, {6, 7} in the second
// with t = lane % 4, so operands go from global memory to registers as they are.
//
// A block computes 32 columns of the result; its warps take turns along k, 64 elements per step: a
// block reads warps * 128 consecutive bytes of every row at a time. A warp holds the weights of one
// step in registers and loads the next step's into the same ones as soon as they are multiplied, so
// all that hides HBM's latency is in L2: a warp prefetches its weights two steps ahead of those it
// loads. It begins before the kernel waits for the previous kernel, which writes `a` and not W:
// while that kernel ends, a multiprocessor requests 16 warps * 3 steps * 4 KiB = 192 KiB, six times
// HBM's latency-bandwidth product. Those of an H200 together request 26 MB, half of its L2. Sums of
// warps are added in shared memory, sums of blocks that share k by prims/split_sum.h. Grid: tiles
// of 32 columns, splits.
#include "kernels/check.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/pack.h"
#include "kernels/cuda/prims/split_sum.h"
#include "kernels/rounding.h"

namespace baram::cuda {
namespace {

constexpr int kMaxThreads = kMaxSkinnyWarps * kWarpThreads;
constexpr int kMinResidentBlocks = kSkinnyResidentWarps / kMaxSkinnyWarps;
constexpr int kBlockK = 32;  // elements of k in one vector of every lane
constexpr int kBlocks = kSkinnyStepK / kBlockK;
constexpr int kVector = 8;    // elements of 16 bytes
constexpr int kTileRows = 8;  // of `a`
constexpr int kStepsAhead = 2;
static_assert(kSkinnyTileColumns == kWarpThreads && kSkinnyStepK * sizeof(Bf16) == 128,
              "a warp prefetches a step with one instruction: each lane a line of 128 bytes");
constexpr int kMmaColumns = 16;  // of the result: the height of the left factor
constexpr int kMmas = kSkinnyTileColumns / kMmaColumns;
// Floats from one row's sums to the next: lanes that store together hit 32 different banks.
constexpr int kSumPitch = 36;
constexpr int kMinThreads = kMinSkinnyWarps * kWarpThreads;
// Outputs of a tile of rows that a thread finishes, with the fewest warps.
constexpr int kFinished = kTileRows * kSkinnyTileColumns / kMinThreads;

struct SkinnyLaunch {
  const Bf16* a;
  int64_t a_stride;
  const Bf16* weight;
  int64_t weight_stride;
  const float* bias;  // or null
  float scale;
  Rows out;
  int32_t rows;
  int64_t n;
  int64_t k;  // a multiple of 8
  SplitMemory split_memory;
};

// A lane's share of the rows of W in a step: rows lane / 4 of each left factor, and 8 below.
struct WeightStep {
  uint4 upper[kMmas][kBlocks];
  uint4 lower[kMmas][kBlocks];
};
struct WeightRows {
  const Bf16* upper[kMmas];
  const Bf16* lower[kMmas];
};

// Past k the last weights of the row are read again, and MultiplyStep multiplies them by zero.
// Zeros in their place would need a branch: where its paths join, registers are copied, and a copy
// waits for its load.
__device__ __forceinline__ void LoadStep(const WeightRows& rows, int64_t begin, int64_t k,
                                         WeightStep& weights) {
  for (int b = 0; b < kBlocks; ++b) {
    const int64_t wanted = begin + b * kBlockK;
    const int64_t at = wanted < k ? wanted : k - kVector;
    for (int m = 0; m < kMmas; ++m) {
      weights.upper[m][b] = LoadConstant(rows.upper[m] + at);
      weights.lower[m][b] = LoadConstant(rows.lower[m] + at);
    }
  }
}

// Adds a step's products to the sums of one tile of rows. `row` is null past the last row.
__device__ __forceinline__ void MultiplyStep(const WeightStep& weights, const Bf16* row,
                                             int64_t begin, int64_t k, float (&sums)[kMmas][4]) {
  uint4 values[kBlocks];
  for (int b = 0; b < kBlocks; ++b) {
    const int64_t at = begin + b * kBlockK;
    values[b] =
        row != nullptr && at < k ? *reinterpret_cast<const uint4*>(row + at) : uint4{0, 0, 0, 0};
  }
  for (int b = 0; b < kBlocks; ++b) {
    for (int m = 0; m < kMmas; ++m) {
      const uint4& upper = weights.upper[m][b];
      const uint4& lower = weights.lower[m][b];
      MmaBf16(sums[m], {upper.x, lower.x, upper.y, lower.y}, {values[b].x, values[b].y});
      MmaBf16(sums[m], {upper.z, lower.z, upper.w, lower.w}, {values[b].z, values[b].w});
    }
  }
}

// kTiles: tiles of 8 rows of `a`.
template <int kTiles, typename Out>
__global__ void __launch_bounds__(kMaxThreads, kMinResidentBlocks)
    SkinnyKernel(const __grid_constant__ SkinnyLaunch args) {
  // [warps][kTiles * 8 rows][kSumPitch]
  float* partial = DynamicShared<float>();
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int warps = static_cast<int>(blockDim.x) / kWarpThreads;
  const int group = lane / 4;
  const int member = lane % 4;

  // Past the last column, the last one is read again and not stored.
  const int64_t first_column = int64_t{blockIdx.x} * kSkinnyTileColumns;
  const auto weight_row = [&](int64_t column) {
    const int64_t row = column < args.n ? column : args.n - 1;
    return args.weight + row * args.weight_stride;
  };
  WeightRows weight_rows;
  for (int m = 0; m < kMmas; ++m) {
    weight_rows.upper[m] = weight_row(first_column + m * kMmaColumns + group);
    weight_rows.lower[m] = weight_row(first_column + m * kMmaColumns + group + 8);
  }
  const Bf16* rows[kTiles];
  for (int tile = 0; tile < kTiles; ++tile) {
    const int row = tile * kTileRows + group;
    rows[tile] = row < args.rows ? args.a + row * args.a_stride : nullptr;
  }

  const int64_t steps = CeilDivide(args.k, kSkinnyStepK);
  const int64_t last_step = steps * (blockIdx.y + 1) / gridDim.y;
  int64_t step = steps * blockIdx.y / gridDim.y + warp;
  const auto begin_of = [&](int64_t s) { return s * kSkinnyStepK + member * 8; };
  const Bf16* line = weight_row(first_column + lane);
  const auto prefetch = [&](int64_t s) {
    if (s < last_step) PrefetchConstant(line + s * kSkinnyStepK);
  };
  float sums[kTiles][kMmas][4] = {};
  WeightStep weights;
  // Loaded whether or not there is a step: without a branch nothing waits for the loads this early.
  LoadStep(weight_rows, begin_of(step), args.k, weights);
  for (int ahead = 1; ahead <= kStepsAhead; ++ahead) prefetch(step + ahead * warps);
  WaitForPrevious();
  LetNextStart();
  for (; step < last_step; step += warps) {
    for (int tile = 0; tile < kTiles; ++tile) {
      MultiplyStep(weights, rows[tile], begin_of(step), args.k, sums[tile]);
    }
    const int64_t next = step + warps;
    if (next < last_step) LoadStep(weight_rows, begin_of(next), args.k, weights);
    prefetch(next + kStepsAhead * warps);
  }

  constexpr int kWarpFloats = kTiles * kTileRows * kSumPitch;
  for (int tile = 0; tile < kTiles; ++tile) {
    for (int m = 0; m < kMmas; ++m) {
      for (int i = 0; i < 4; ++i) {
        const int row = tile * kTileRows + 2 * member + i % 2;
        const int column = m * kMmaColumns + group + i / 2 * 8;
        partial[warp * kWarpFloats + row * kSumPitch + column] = sums[tile][m][i];
      }
    }
  }
  __syncthreads();

  float outputs[kTiles * kFinished];
  const auto row_of = [](int i) {
    return static_cast<int>(threadIdx.x + i * blockDim.x) / kSkinnyTileColumns;
  };
  const int column = static_cast<int>(threadIdx.x) % kSkinnyTileColumns;
  for (int i = 0; i < kTiles * kFinished; ++i) {
    outputs[i] = 0;
    if (row_of(i) >= kTiles * kTileRows) continue;
    for (int w = 0; w < warps; ++w) {
      outputs[i] += partial[w * kWarpFloats + row_of(i) * kSumPitch + column];
    }
  }
  const SplitPlace place{blockIdx.x, gridDim.x, blockIdx.y, gridDim.y};
  if (!SumSplits(args.split_memory, place, outputs)) return;

  const int64_t n = first_column + column;
  if (n >= args.n) return;
  const float bias = args.bias != nullptr ? args.bias[n] : 0.0f;
  for (int i = 0; i < kTiles * kFinished; ++i) {
    if (row_of(i) >= args.rows) continue;
    args.out.template Row<Out>(row_of(i))[n] = FromFloat<Out>(outputs[i] * args.scale + bias);
  }
}

}  // namespace

void LaunchGemmSkinny(const GemmArgs& args, const GemmPlan& plan, const SplitMemory& memory,
                      LaunchStream stream) {
  if (args.a.rows == 0) return;
  const WeightShape& shape = args.weight.shape;
  const auto threads = static_cast<uint32_t>(plan.warps * kWarpThreads);
  Check(threads >= kMinThreads && threads <= kMaxThreads && args.a.rows <= kMaxSkinnyRows,
        "the plan is one of SelectGemm");
  const SkinnyLaunch launch{.a = args.a.Row<const Bf16>(0),
                            .a_stride = args.a.stride,
                            .weight = static_cast<const Bf16*>(args.weight.data),
                            .weight_stride = PackedStride(shape),
                            .bias = args.bias,
                            .scale = args.scale,
                            .out = RowsOf(args.out),
                            .rows = static_cast<int32_t>(args.a.rows),
                            .n = shape.n,
                            .k = shape.k,
                            .split_memory = memory};
  const Dim3 grid{static_cast<uint32_t>(CeilDivide(shape.n, kSkinnyTileColumns)),
                  static_cast<uint32_t>(plan.splits)};
  WithType(args.out.dtype, [&](auto out) {
    using Out = typename decltype(out)::Type;
    const auto launch_tiles = [&](auto kernel, int64_t tiles) {
      const size_t shared = plan.warps * tiles * kTileRows * kSumPitch * sizeof(float);
      Launch(kernel, grid, {threads}, shared, stream, launch);
    };
    if (args.a.rows <= kTileRows) {
      launch_tiles(SkinnyKernel<1, Out>, 1);
    } else {
      launch_tiles(SkinnyKernel<2, Out>, 2);
    }
  });
}

}  // namespace baram::cuda
