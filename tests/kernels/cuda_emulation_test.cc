// The emulation of CUDA itself: barriers, collectives, tensor-core layouts, asynchronous copies,
// and that it finds what kernels do wrong.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/cuda/instructions.h"
#include "kernels/cuda/prims/reduce.h"

namespace baram::cuda {
namespace {

using emulation::LaneOrder;
using emulation::SetLaneOrder;

constexpr LaneOrder kOrders[] = {LaneOrder::kForward, LaneOrder::kBackward, LaneOrder::kShuffled};

struct ReverseArgs {
  const int32_t* in;
  int32_t* out;
  bool has_barrier;
};

// Reverses each block's part through shared memory.
__global__ void ReverseKernel(const __grid_constant__ ReverseArgs args) {
  auto* shared = DynamicShared<int32_t>();
  const uint32_t begin = blockIdx.x * blockDim.x;
  shared[threadIdx.x] = args.in[begin + threadIdx.x];
  if (args.has_barrier) __syncthreads();
  args.out[begin + threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}

std::vector<int32_t> Reverse(LaneOrder order, bool has_barrier) {
  SetLaneOrder(order);
  std::vector<int32_t> in(300), out(300, -1);
  std::iota(in.begin(), in.end(), 0);
  Launch(ReverseKernel, {3}, {100}, 100 * sizeof(int32_t), nullptr,
         ReverseArgs{in.data(), out.data(), has_barrier});
  return out;
}

TEST(Emulation, BarriersOrderSharedMemory) {
  for (LaneOrder order : kOrders) {
    const std::vector<int32_t> out = Reverse(order, true);
    for (int i = 0; i < 300; ++i) ASSERT_EQ(out[i], i / 100 * 100 + 99 - i % 100);
  }
}

TEST(Emulation, AMissingBarrierShowsWhenTheOrderChanges) {
  const std::vector<int32_t> right = Reverse(LaneOrder::kForward, true);
  EXPECT_NE(Reverse(LaneOrder::kForward, false), right);
  EXPECT_NE(Reverse(LaneOrder::kForward, false), Reverse(LaneOrder::kBackward, false));
}

struct OutArgs {
  int32_t* out;
};

__global__ void CollectivesKernel(const __grid_constant__ OutArgs args) {
  __shared__ int32_t partial[kWarpThreads];
  const int32_t lane = threadIdx.x % kWarpThreads;
  int32_t* out = args.out + threadIdx.x * 5;
  out[0] = ShuffleXor(lane, 3);
  out[1] = ShuffleUp(lane, 4);
  out[2] = ShuffleFrom(lane, 7);
  out[3] = static_cast<int32_t>(Ballot(lane % 3 == 0));
  out[4] = BlockReduce<Sum>(static_cast<int32_t>(threadIdx.x), partial);
}

TEST(Emulation, CollectivesExchangeBetweenLanes) {
  uint32_t thirds = 0;
  for (int lane = 0; lane < 32; lane += 3) thirds |= 1u << lane;
  for (LaneOrder order : kOrders) {
    SetLaneOrder(order);
    std::vector<int32_t> out(96 * 5);
    Launch(CollectivesKernel, {1}, {96}, 0, nullptr, OutArgs{out.data()});
    for (int i = 0; i < 96; ++i) {
      const int lane = i % 32;
      ASSERT_EQ(out[i * 5], lane ^ 3);
      ASSERT_EQ(out[i * 5 + 1], lane >= 4 ? lane - 4 : lane);
      ASSERT_EQ(out[i * 5 + 2], 7);
      ASSERT_EQ(static_cast<uint32_t>(out[i * 5 + 3]), thirds);
      ASSERT_EQ(out[i * 5 + 4], 95 * 96 / 2);
    }
  }
}

// Rows of 16 elements in shared memory begin 24 elements apart: aligned to 16 bytes, not dense.
constexpr int kPitch = 24;

struct MmaArgs {
  const Bf16* a;  // [16, 16]
  const Bf16* b;  // [16, 8]
  float* d;       // [16, 8]
};

__global__ void MmaKernel(const __grid_constant__ MmaArgs args) {
  alignas(16) __shared__ Bf16 a[16 * kPitch];
  alignas(16) __shared__ Bf16 b[16 * kPitch];
  const int lane = static_cast<int>(threadIdx.x);
  // Lane i copies half a row of a; the first 16 lanes a row of b.
  CopyAsync16(a + lane / 2 * kPitch + lane % 2 * 8, args.a + lane * 8);
  CopyAsync16(b + lane % 16 * kPitch, args.b + lane % 16 * 8, lane < 16 ? 16 : 0);
  if (lane >= 16) CopyAsync16(b + (lane - 16) * kPitch, args.b + (lane - 16) * 8);
  CopyAsyncCommit();
  CopyAsyncWait<0>();
  SyncWarp();
  uint32_t a_parts[4], b_parts[4];
  LoadMatrices<false>(a_parts, a + lane % 16 * kPitch + lane / 16 * 8);
  LoadMatrices<true>(b_parts, b + lane % 16 * kPitch);
  float d[4] = {1, 1, 1, 1};
  const uint32_t b_rows[2] = {b_parts[0], b_parts[1]};
  MmaBf16(d, a_parts, b_rows);
  for (int i = 0; i < 4; ++i) {
    args.d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
  }
}

TEST(Emulation, TensorCoresMultiplyWhatMatrixLoadsBring) {
  for (LaneOrder order : kOrders) {
    SetLaneOrder(order);
    std::vector<Bf16> a(256), b(128);
    std::vector<float> d(128);
    for (int i = 0; i < 256; ++i) a[i] = {BF16FromF32(static_cast<float>(i % 23 - 11))};
    for (int i = 0; i < 128; ++i) b[i] = {BF16FromF32(static_cast<float>(i % 19 - 9))};
    Launch(MmaKernel, {1}, {32}, 0, nullptr, MmaArgs{a.data(), b.data(), d.data()});
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 8; ++column) {
        float sum = 1;
        for (int k = 0; k < 16; ++k) sum += ToFloat(a[row * 16 + k]) * ToFloat(b[k * 8 + column]);
        ASSERT_EQ(d[row * 8 + column], sum) << row << ", " << column;
      }
    }
  }
}

__global__ void UnwaitedCopyKernel(const __grid_constant__ MmaArgs args) {
  alignas(16) __shared__ Bf16 a[8];
  CopyAsync16(a, args.a);
  CopyAsyncCommit();
  args.d[0] = ToFloat(a[0]);
  CopyAsyncWait<0>();
  args.d[1] = ToFloat(a[0]);
}

TEST(Emulation, AnAsynchronousCopyArrivesWhenItIsWaitedFor) {
  alignas(16) const Bf16 a[8] = {{BF16FromF32(5)}};
  float d[2];
  Launch(UnwaitedCopyKernel, {1}, {1}, 0, nullptr, MmaArgs{a, nullptr, d});
  EXPECT_NE(d[0], 5);
  EXPECT_EQ(d[1], 5);
}

__global__ void DivergentKernel(const __grid_constant__ OutArgs args) {
  if (threadIdx.x < 8) {
    __syncthreads();
  } else {
    SyncWarp();
  }
  args.out[0] = 1;
}

__global__ void TwoBarriersKernel(const __grid_constant__ OutArgs args) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    args.out[0] = 1;
    __syncthreads();
  }
}

__global__ void BeyondKernel(const __grid_constant__ OutArgs) {
  DynamicShared<int32_t>()[threadIdx.x] = 1;
}

using EmulationDeathTest = testing::Test;

TEST(EmulationDeathTest, ThreadsThatWaitForEachOtherAreReported) {
  int32_t out = 0;
  EXPECT_DEATH(Launch(DivergentKernel, {1}, {32}, 0, nullptr, OutArgs{&out}),
               "wait for each other forever.*waits at the barrier.*waits for its warp");
}

TEST(EmulationDeathTest, DifferentBarriersAreReported) {
  int32_t out = 0;
  EXPECT_DEATH(Launch(TwoBarriersKernel, {1}, {64}, 0, nullptr, OutArgs{&out}),
               "threads wait at different barriers");
}

TEST(EmulationDeathTest, TheFirstByteBeyondSharedMemoryIsFound) {
  EXPECT_DEATH(Launch(BeyondKernel, {1}, {33}, 32 * sizeof(int32_t), nullptr, OutArgs{}),
               "heap-buffer-overflow");
}

}  // namespace
}  // namespace baram::cuda
