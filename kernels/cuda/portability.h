// The header that kernels include: one source for nvcc and, in tests, for the host's compiler with
// kernels/cuda/emulation/. CUDA's keywords and indices, shared memory, launches, the element types.
// The instructions are in instructions.h.
//
// What differs between the two compilers is here and there, nowhere else. Kernels are written in
// namespace baram::cuda, take one struct of arguments as a grid constant and are started with
// Launch. No CUDA header is needed on the host.
#ifndef BARAM_KERNELS_CUDA_PORTABILITY_H_
#define BARAM_KERNELS_CUDA_PORTABILITY_H_

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/cuda/runtime.h"
#include "kernels/float_types.h"

// BARAM_UNROLL: before a loop over an array that must stay in registers and that nvcc would not
// unroll unasked. BARAM_NO_UNROLL: before a loop whose copies would need more registers than there
// are. BARAM_UNROLL_BY(constant): unrolls by that many copies.
#ifdef __CUDACC__
#define BARAM_UNROLL _Pragma("unroll")
#define BARAM_NO_UNROLL _Pragma("unroll 1")
#define BARAM_UNROLL_BY(constant) BARAM_PRAGMA(unroll constant)
#define BARAM_PRAGMA(text) _Pragma(#text)
#else
#define BARAM_UNROLL
#define BARAM_NO_UNROLL
#define BARAM_UNROLL_BY(constant)
#endif

// The emulation knows where in the source lanes meet, and where a kernel was launched: lanes that
// meet at different places are a defect, and reports name the launch.
#ifdef __CUDACC__
#define BARAM_WHERE
#else
#define BARAM_WHERE , std::source_location where = std::source_location::current()
#endif

#ifndef __CUDACC__

#include "kernels/cuda/emulation/emulator.h"
#include "kernels/cuda/emulation/streams.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
// One block runs at a time.
#define __shared__ static

namespace baram::cuda {

// Named as nvcc's own.
inline Dim3& threadIdx = emulation::thread_index;
inline Dim3& blockIdx = emulation::block_index;
inline Dim3& blockDim = emulation::block_size;
inline Dim3& gridDim = emulation::grid_size;

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

inline void __syncthreads(std::source_location where = std::source_location::current()) {
  emulation::BlockBarrier(where);
}

}  // namespace baram::cuda

#endif

namespace baram::cuda {

inline constexpr int kWarpThreads = 32;
inline constexpr uint32_t kAllLanes = 0xffffffffu;

// bfloat16 as the kernels see it: two bytes, converted where it is used.
struct Bf16 {
  uint16_t bits;
};

// The block's dynamic shared memory, aligned to 1024 bytes.
template <typename T>
__device__ __forceinline__ T* DynamicShared() {
#ifdef __CUDACC__
  extern __shared__ __align__(1024) unsigned char dynamic_shared[];
  return reinterpret_cast<T*>(dynamic_shared);
#else
  return static_cast<T*>(emulation::DynamicShared());
#endif
}

// Starts a kernel in the order of the stream. Errors are found by LastError().
//
// Kernels overlap: by programmatic dependent launch the blocks of a kernel may be resident, and
// run, while the kernel before it on the stream still does. A boundary in full order costs the
// drain of one kernel, a launch and the filling of the next, at some 300 boundaries a step. So
// there is a rule, which the emulation checks:
//
//   Every thread of every kernel calls WaitForPrevious(): on every path, before any return, and
//   before it reads or writes global memory, constant memory (see LoadConstant) excepted.
//
// The rule covers writes too: a kernel before may still be reading what would be overwritten. It
// makes order transitive: a kernel ends after its threads have waited, so whoever has waited for it
// has waited for all before it. A kernel that lets some blocks return without waiting breaks this
// for its successors: it may end before its predecessor, and they wait for its end alone.
//
// LetNextStart() comes right after the wait, in every kernel of a step:
//   - Not later, because it is safe at any time: it orders nothing, and the successor waits for our
//     end. And it costs us nothing: the successor's blocks come only when all of ours have been
//     placed, so they take room that none of ours asks for, and they read constant memory with
//     bandwidth that the end of a kernel, or a kernel of one block, leaves idle.
//   - Not before the wait, although nothing would break: kernel after kernel would be let in behind
//     one that runs, each holding registers and shared memory while it waits. This way at most two
//     kernels of a stream are resident, one that works and one that waits.
//
// Everything else on a stream is in full order with kernels. A kernel overlaps with a preceding
// kernel alone, so behind a copy, a fill or a graph it starts after it, and its wait passes at
// once. Copies, fills, graphs, recorded events and kernels of libraries come after the end of the
// kernel before them, hence, by the rule, after all kernels before. In a capture, which holds
// nothing but kernels, launches become programmatic edges.
//
// A multiprocessor's L1 cache and shared memory are one memory, which is divided anew only when the
// multiprocessor is empty: a kernel that wants another division than the one before could not
// overlap it. So all ask for the most shared memory, which leaves L1 28 KiB; kernels here stage in
// shared memory what they read twice. An estimate.
//
// Without `overlap` a launch asks for neither. Needs compute capability 9.0.
template <typename Args>
void Launch(void (*kernel)(Args), Dim3 grid, Dim3 block, size_t shared_bytes, LaunchStream stream,
            const Args& args BARAM_WHERE) {
#ifdef __CUDACC__
  // 48 KiB need no asking; the rest of them is left for the kernel's static variables.
  constexpr size_t kAlwaysAllowed = 32 << 10;
  if (shared_bytes > kAlwaysAllowed) {
    cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                         cudaFuncAttributeMaxDynamicSharedMemorySize,
                         static_cast<int>(shared_bytes));
  }
  cudaLaunchAttribute overlaps[2] = {};
  overlaps[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlaps[0].val.programmaticStreamSerializationAllowed = 1;
  overlaps[1].id = cudaLaunchAttributePreferredSharedMemoryCarveout;
  overlaps[1].val.sharedMemCarveout = cudaSharedmemCarveoutMaxShared;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(grid.x, grid.y, grid.z);
  config.blockDim = dim3(block.x, block.y, block.z);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream.stream;
  config.attrs = overlaps;
  config.numAttrs = stream.overlap ? 2 : 0;
  cudaLaunchKernelEx(&config, kernel, args);
#else
  struct Bound {
    void (*kernel)(Args);
    Args args;
  };
  emulation::EnqueueLaunch(stream, [bound = Bound{kernel, args}, grid, block, shared_bytes, where] {
    emulation::LaunchBody(
        [](const void* body) {
          const auto* bound = static_cast<const Bound*>(body);
          bound->kernel(bound->args);
        },
        &bound, grid, block, shared_bytes,
        {.kernel = reinterpret_cast<const void*>(bound.kernel), .where = where});
  });
#endif
}

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_PORTABILITY_H_
