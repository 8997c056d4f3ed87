// A GPU kernel that reads memory: every thread loads 16 bytes at a time and folds them.
//
// Bound by memory only. A block reads tiles of 64 KiB. With 32 registers a thread has four loads in
// flight: 8 blocks of 256 threads have 128 KiB in flight per multiprocessor, where the
// latency-bandwidth product is about 30 KiB.
#include <algorithm>
#include <chrono>

#include "bench/read_memory.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/instructions.h"

namespace baram::cuda {
namespace {

constexpr uint32_t kThreads = 256;
constexpr int kLoads = 16;
constexpr int64_t kTile = int64_t{kThreads} * kLoads;  // 16-byte loads of a block at a time
constexpr int64_t kMaxBlocks = 132 * 8 * 4;            // four waves on an H200

struct ReadLaunch {
  const uint4* memory;
  int64_t tiles;
  uint32_t* sink;
};

__global__ void __launch_bounds__(kThreads) ReadKernel(const __grid_constant__ ReadLaunch args) {
  WaitForPrevious();
  uint32_t folded = 0;
  for (int64_t tile = blockIdx.x; tile < args.tiles; tile += gridDim.x) {
    const uint4* from = args.memory + tile * kTile + threadIdx.x;
    uint4 loaded[kLoads];
    BARAM_UNROLL
    for (int i = 0; i < kLoads; ++i) loaded[i] = from[int64_t{i} * kThreads];
    BARAM_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      folded ^= loaded[i].x ^ loaded[i].y ^ loaded[i].z ^ loaded[i].w;
    }
  }
  // Never true for the zeros that are read, which the compiler does not know.
  if (folded == 0x9e3779b9u) *args.sink = folded;
}

}  // namespace
}  // namespace baram::cuda

namespace baram::bench {

double SecondsToReadMemory(const void* memory, int64_t bytes, int times) {
  using namespace cuda;  // NOLINT: the kernel's namespace
  OwnedStream stream;
  DeviceMemory sink;
  if (MakeOwned(&stream, CreateStream) != nullptr) return -1;
  if (MakeOwned(&sink, [](void** made) { return Allocate(sizeof(uint32_t), made); }) != nullptr) {
    return -1;
  }
  const int64_t tiles = bytes / (kTile * static_cast<int64_t>(sizeof(uint4)));
  const ReadLaunch launch{static_cast<const uint4*>(memory), tiles,
                          static_cast<uint32_t*>(sink.get())};
  const Dim3 grid{static_cast<uint32_t>(std::min(tiles, kMaxBlocks))};
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < times; ++i) Launch(ReadKernel, grid, {kThreads}, 0, {stream.get()}, launch);
  if (LastError() != nullptr || Synchronize(stream.get()) != nullptr) return -1;
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace baram::bench
