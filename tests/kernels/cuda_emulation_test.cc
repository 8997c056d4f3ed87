// The CUDA emulation itself: barriers, collectives, tensor-core layouts, asynchronous copies, and
// that it detects kernels' mistakes.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels/cuda/device_memory.h"
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
  WaitForPrevious();
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
  Launch(ReverseKernel, {3}, {100}, 100 * sizeof(int32_t), {nullptr},
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

struct ArriveArgs {
  int32_t* arrived;
  int32_t* turns;  // of the blocks
};

__global__ void ArriveKernel(const __grid_constant__ ArriveArgs args) {
  WaitForPrevious();
  args.turns[blockIdx.y * gridDim.x + blockIdx.x] = AtomicAdd(args.arrived, 1);
}

TEST(Emulation, AnyBlockMayBeLast) {
  constexpr int32_t kBlocks = 12;
  for (LaneOrder order : kOrders) {
    SetLaneOrder(order);
    int32_t arrived = 0;
    std::vector<int32_t> turns(kBlocks, -1), upward(kBlocks);
    std::iota(upward.begin(), upward.end(), 0);
    Launch(ArriveKernel, {4, 3}, {1}, 0, {nullptr}, ArriveArgs{&arrived, turns.data()});
    EXPECT_EQ(arrived, kBlocks);
    EXPECT_EQ(turns == upward, order == LaneOrder::kForward);
    EXPECT_EQ(turns.back() == 0, order == LaneOrder::kBackward);
    std::ranges::sort(turns);
    EXPECT_EQ(turns, upward) << "each block once";
  }
}

struct OutArgs {
  int32_t* out;
};

__global__ void CollectivesKernel(const __grid_constant__ OutArgs args) {
  WaitForPrevious();
  __shared__ int32_t partial[kWarpThreads];
  const int32_t lane = threadIdx.x % kWarpThreads;
  int32_t* out = args.out + threadIdx.x * 4;
  out[0] = ShuffleXor(lane, 3);
  out[1] = ShuffleFrom(lane, 7);
  out[2] = static_cast<int32_t>(Ballot(lane % 3 == 0));
  out[3] = BlockReduce<Sum>(static_cast<int32_t>(threadIdx.x), partial);
}

TEST(Emulation, CollectivesExchangeBetweenLanes) {
  uint32_t thirds = 0;
  for (int lane = 0; lane < 32; lane += 3) thirds |= 1u << lane;
  for (LaneOrder order : kOrders) {
    SetLaneOrder(order);
    std::vector<int32_t> out(96 * 4);
    Launch(CollectivesKernel, {1}, {96}, 0, {nullptr}, OutArgs{out.data()});
    for (int i = 0; i < 96; ++i) {
      const int lane = i % 32;
      ASSERT_EQ(out[i * 4], lane ^ 3);
      ASSERT_EQ(out[i * 4 + 1], 7);
      ASSERT_EQ(static_cast<uint32_t>(out[i * 4 + 2]), thirds);
      ASSERT_EQ(out[i * 4 + 3], 95 * 96 / 2);
    }
  }
}

// Rows of 16 elements in shared memory start 24 elements apart: aligned to 16 bytes, not dense.
constexpr int kPitch = 24;

struct MmaArgs {
  const Bf16* a;  // [16, 16]
  const Bf16* b;  // [16, 8]
  float* d;       // [16, 8]
};

__global__ void MmaKernel(const __grid_constant__ MmaArgs args) {
  WaitForPrevious();
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
    Launch(MmaKernel, {1}, {32}, 0, {nullptr}, MmaArgs{a.data(), b.data(), d.data()});
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
  WaitForPrevious();
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
  Launch(UnwaitedCopyKernel, {1}, {1}, 0, {nullptr}, MmaArgs{a, nullptr, d});
  EXPECT_NE(d[0], 5);
  EXPECT_EQ(d[1], 5);
}

__global__ void DivergentKernel(const __grid_constant__ OutArgs args) {
  WaitForPrevious();
  if (threadIdx.x < 8) {
    __syncthreads();
  } else {
    SyncWarp();
  }
  args.out[0] = 1;
}

__global__ void TwoBarriersKernel(const __grid_constant__ OutArgs args) {
  WaitForPrevious();
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    args.out[0] = 1;
    __syncthreads();
  }
}

__global__ void BeyondKernel(const __grid_constant__ OutArgs) {
  WaitForPrevious();
  DynamicShared<int32_t>()[threadIdx.x] = 1;
}

using EmulationDeathTest = testing::Test;

TEST(EmulationDeathTest, ThreadsThatWaitForEachOtherAreReported) {
  int32_t out = 0;
  EXPECT_DEATH(Launch(DivergentKernel, {1}, {32}, 0, {nullptr}, OutArgs{&out}),
               "wait for each other forever.*waits at the barrier.*waits for its warp");
}

TEST(EmulationDeathTest, DifferentBarriersAreReported) {
  int32_t out = 0;
  EXPECT_DEATH(Launch(TwoBarriersKernel, {1}, {64}, 0, {nullptr}, OutArgs{&out}),
               "threads wait at different barriers");
}

TEST(EmulationDeathTest, TheFirstByteBeyondSharedMemoryIsFound) {
  EXPECT_DEATH(Launch(BeyondKernel, {1}, {33}, 32 * sizeof(int32_t), {nullptr}, OutArgs{}),
               "heap-buffer-overflow");
  EXPECT_DEATH(Launch(BeyondKernel, {1}, {32}, (227 << 10) + 1, {nullptr}, OutArgs{}),
               "dynamic shared memory");
}

// What a kernel does, in one block of its grid, before it waits for the previous kernel.
enum class Early {
  kNone,
  kReturn,
  kMeeting,
  kRead,
  kWrite,
  kCopy,
  kConstant,
  kPastConstant,
  kConstantCopy,
  kPastConstantCopy
};

struct EarlyArgs {
  int32_t* memory;  // [8] on the GPU
  uint32_t block;
};
// A separate kernel for each, because the first launches of a kernel are checked most.
template <Early kEarly>
__global__ void EarlyKernel(const __grid_constant__ EarlyArgs args) {
  int32_t seen = 0;
  if (blockIdx.x == args.block && threadIdx.x == 5) {
    if (kEarly == Early::kReturn) return;
    if (kEarly == Early::kMeeting) SyncWarp(1u << 5 | 1u << 6);
    if (kEarly == Early::kRead) seen = args.memory[1];
    if (kEarly == Early::kWrite) args.memory[1] = 1;
    if (kEarly == Early::kCopy) CopyAsync16(DynamicShared<int32_t>(), args.memory);
    if (kEarly == Early::kConstant) {
      PrefetchConstant(args.memory + 7);
      seen = static_cast<int32_t>(LoadConstant(args.memory + 4).w);
    }
    if (kEarly == Early::kPastConstant) PrefetchConstant(args.memory + 8);
    if (kEarly == Early::kConstantCopy) {
      CopyConstantAsync16(DynamicShared<int32_t>(), args.memory + 4);
    }
    if (kEarly == Early::kPastConstantCopy) {
      CopyConstantAsync16(DynamicShared<int32_t>(), args.memory + 8);
    }
  }
  WaitForPrevious();
  LetNextStart();
  CopyAsyncCommit();
  CopyAsyncWait<0>();
  if (kEarly == Early::kConstantCopy) seen = DynamicShared<int32_t>()[3];
  if (blockIdx.x == args.block && threadIdx.x == 5) args.memory[0] = seen;
}

// Runs three blocks; returns what the kernel saw.
template <Early kEarly>
int32_t RunEarly(uint32_t block) {
  DeviceMemory memory;
  const Error error =
      MakeOwned(&memory, [](void** made) { return Allocate(8 * sizeof(int32_t), made); });
  EXPECT_EQ(error, nullptr);
  auto* values = static_cast<int32_t*>(memory.get());
  std::iota(values, values + 8, 0);
  Launch(EarlyKernel<kEarly>, {3}, {32}, 16, {nullptr}, EarlyArgs{values, block});
  return values[0];
}

TEST(EmulationDeathTest, ThreadsThatDoNotWaitForThePreviousKernelAreReported) {
  for (const uint32_t block : {0, 1, 2}) {
    EXPECT_EQ(RunEarly<Early::kNone>(block), 0);
    EXPECT_DEATH(RunEarly<Early::kReturn>(block), "previous kernel.*RunEarly.*emulation_test");
  }
}

TEST(EmulationDeathTest, OnlyLoadsOfConstantMemoryMayPrecedeTheWaitForThePreviousKernel) {
  for (const LaneOrder order : {LaneOrder::kForward, LaneOrder::kBackward}) {
    emulation::SetLaneOrder(order);
    EXPECT_EQ(RunEarly<Early::kConstantCopy>(2), 7);
    EXPECT_DEATH(RunEarly<Early::kPastConstantCopy>(2), "heap-buffer-overflow");
  }
  emulation::SetLaneOrder(LaneOrder::kForward);
  for (const uint32_t block : {0, 2}) {
    EXPECT_EQ(RunEarly<Early::kConstant>(block), 7);
    EXPECT_DEATH(RunEarly<Early::kPastConstant>(block), "heap-buffer-overflow");
    EXPECT_DEATH(RunEarly<Early::kRead>(block), "use-after-poison");
    EXPECT_DEATH(RunEarly<Early::kWrite>(block), "use-after-poison");
    EXPECT_DEATH(RunEarly<Early::kCopy>(block), "use-after-poison");
    EXPECT_DEATH(RunEarly<Early::kMeeting>(block), "before it has waited for the previous kernel");
  }
}

// A stream whose memory the tests access directly.
class EmulatedStream : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(MakeOwned(&stream_, CreateStream), nullptr);
    ASSERT_EQ(MakeOwned(&event_, CreateEvent), nullptr);
    const auto allocate = [](void** made) { return Allocate(sizeof(int32_t), made); };
    ASSERT_EQ(MakeOwned(&memory_, allocate), nullptr);
    ASSERT_EQ(MakeOwned(&pinned_, [](void** made) { return AllocatePinned(8, made); }), nullptr);
    device_ = static_cast<int32_t*>(memory_.get());
    host_ = static_cast<int32_t*>(pinned_.get());
    *device_ = 0;
  }
  Error Copy(const int32_t* host) { return CopyToDevice(device_, host, 4, stream_.get()); }

  OwnedStream stream_;
  OwnedEvent event_;
  DeviceMemory memory_;
  PinnedMemory pinned_;
  int32_t* device_ = nullptr;
  int32_t* host_ = nullptr;  // [2] pinned
};

TEST_F(EmulatedStream, ReadsPinnedMemoryWhenItGetsThereAndOtherMemoryAtOnce) {
  int32_t pageable = 1;
  ASSERT_EQ(Copy(&pageable), nullptr);
  pageable = 2;
  EXPECT_EQ(*device_, 0);
  ASSERT_EQ(Synchronize(stream_.get()), nullptr);
  EXPECT_EQ(*device_, 1);
  host_[1] = 3;
  ASSERT_EQ(Copy(host_ + 1), nullptr);
  host_[1] = 4;
  ASSERT_EQ(Synchronize(stream_.get()), nullptr);
  EXPECT_EQ(*device_, 4);
}

TEST_F(EmulatedStream, GoesAsFarAsTheEventThatIsWaitedFor) {
  ASSERT_EQ(WaitEvent(event_.get()), nullptr);  // never recorded
  host_[0] = 1;
  host_[1] = 2;
  ASSERT_EQ(Copy(host_), nullptr);
  ASSERT_EQ(RecordEvent(event_.get(), stream_.get()), nullptr);
  ASSERT_EQ(Copy(host_ + 1), nullptr);
  ASSERT_EQ(WaitEvent(event_.get()), nullptr);
  EXPECT_EQ(*device_, 1);
  ASSERT_EQ(RecordEvent(event_.get(), stream_.get()), nullptr);
  ASSERT_EQ(WaitEvent(event_.get()), nullptr);
  EXPECT_EQ(*device_, 2);
}

TEST_F(EmulatedStream, FreeingMemoryAndEndingAStreamWaitForIt) {
  host_[0] = 5;
  ASSERT_EQ(Copy(host_), nullptr);
  void* more = nullptr;
  ASSERT_EQ(Allocate(4, &more), nullptr);
  Free(more);
  EXPECT_EQ(*device_, 5);
  host_[0] = 6;
  ASSERT_EQ(Copy(host_), nullptr);
  ASSERT_EQ(RecordEvent(event_.get(), stream_.get()), nullptr);
  stream_.reset();
  EXPECT_EQ(*device_, 6);
  EXPECT_EQ(WaitEvent(event_.get()), nullptr);
}

struct AddArgs {
  int32_t* to;
  int32_t value;
};
__global__ void AddKernel(const __grid_constant__ AddArgs args) {
  WaitForPrevious();
  *args.to += args.value;
}

TEST_F(EmulatedStream, LaunchesKeepTheirArguments) {
  AddArgs args{device_, 3};
  Launch(AddKernel, {1}, {1}, 0, {stream_.get()}, args);
  args.value = 100;
  EXPECT_EQ(*device_, 0);
  ASSERT_EQ(Synchronize(stream_.get()), nullptr);
  EXPECT_EQ(*device_, 3);
}

TEST_F(EmulatedStream, GraphsRunAgainWithTheArgumentsOfTheirCapture) {
  AddArgs args{device_, 3};
  ASSERT_EQ(BeginCapture(stream_.get()), nullptr);
  Launch(AddKernel, {1}, {1}, 0, {stream_.get()}, args);
  args.value = 100;
  Launch(AddKernel, {1}, {1}, 0, {stream_.get()}, AddArgs{device_, 40});
  OwnedGraph graph;
  ASSERT_EQ(MakeOwned(&graph, [&](Graph* made) { return EndCapture(stream_.get(), made); }),
            nullptr);
  ASSERT_EQ(Synchronize(stream_.get()), nullptr);
  EXPECT_EQ(*device_, 0) << "captured, not run";
  ASSERT_EQ(LaunchGraph(graph.get(), stream_.get()), nullptr);
  ASSERT_EQ(LaunchGraph(graph.get(), stream_.get()), nullptr);
  graph.reset();  // work already launched still runs
  EXPECT_EQ(*device_, 0);
  ASSERT_EQ(Synchronize(stream_.get()), nullptr);
  EXPECT_EQ(*device_, 86);
}

TEST_F(EmulatedStream, WaitingOrAllocatingLosesACapture) {
  void* memory = nullptr;
  const std::function<Error()> calls[] = {[&] { return Synchronize(stream_.get()); },
                                          [&] { return WaitEvent(event_.get()); },
                                          [&] { return Allocate(4, &memory); }};
  for (const auto& call : calls) {
    ASSERT_EQ(BeginCapture(stream_.get()), nullptr);
    Launch(AddKernel, {1}, {1}, 0, {stream_.get()}, AddArgs{device_, 3});
    EXPECT_NE(call(), nullptr);
    Graph graph = nullptr;
    EXPECT_NE(EndCapture(stream_.get(), &graph), nullptr);
    EXPECT_EQ(call(), nullptr) << "the capture is over";
    if (memory != nullptr) Free(std::exchange(memory, nullptr));
  }
  EXPECT_EQ(*device_, 0);
}

}  // namespace
}  // namespace baram::cuda
