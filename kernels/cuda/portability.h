// The header that kernels include: one source for nvcc and, in tests, for the host's compiler with
// kernels/cuda/emulation/. CUDA's keywords and indices, shared memory, launches, the element types.
// The instructions are in instructions.h.
//
// What differs between the two compilers is in these two headers, nowhere else. Kernels are written
// in namespace baram::cuda, take one struct of arguments as a grid constant and are started with
// Launch. The host needs no CUDA header.
#ifndef BARAM_KERNELS_CUDA_PORTABILITY_H_
#define BARAM_KERNELS_CUDA_PORTABILITY_H_

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/cuda/runtime.h"
#include "kernels/float_types.h"

// BARAM_UNROLL: before a loop over an array that must stay in registers and that nvcc would not
// unroll on its own. BARAM_NO_UNROLL: before a loop that would run out of registers if unrolled.
// BARAM_UNROLL_BY(constant): unrolls by that factor.
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

// The emulation tracks where in the source lanes meet, and where a kernel was launched: lanes that
// meet at different places are a bug, and reports name the launch.
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

// bfloat16 as kernels see it: two bytes, converted at use.
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

// Starts a kernel in stream order. LastError() returns its errors.
//
// Kernels overlap: by programmatic dependent launch the blocks of a kernel may be resident, and
// run, while the previous kernel on the stream still runs. A fully ordered boundary costs draining
// one kernel, a launch and filling the next, at some 300 boundaries per step. So there is a rule,
// which the emulation checks:
//
//   Every thread of every kernel calls WaitForPrevious(): on every path, before any return, and
//   before it reads or writes global memory, constant memory (see LoadConstant) excepted.
//
// The rule covers writes too: an earlier kernel may still be reading what would be overwritten. It
// makes the order transitive: a kernel ends after its threads have waited, so a thread that has
// waited for it has waited for all earlier ones. A kernel that lets some blocks return without
// waiting breaks this for its successors: it may end before its predecessor, and they wait for its
// end only.
//
// LetNextStart() comes right after the wait, in every kernel of a step:
//   - Not later, because it is safe at any time: it orders nothing, and the successor waits for the
//     end of this kernel. And it costs nothing: the successor's blocks start only once all of this
//     kernel's have started, so they take room that none of those needs, and they read constant
//     memory with bandwidth that the tail of a kernel, or a kernel of one block, leaves idle.
//   - Not before the wait, although nothing would break: kernel after kernel would be admitted
//     while one runs, each holding registers and shared memory as it waits. This way at most two
//     of our kernels are resident, one that runs and one that waits.
//
// Everything else on a stream but kernels is fully ordered. A kernel overlaps only with a
// preceding kernel: after a copy, a fill or a graph it starts once that has ended, and its wait
// returns at once. Copies, fills, graphs and recorded events start after the end of the previous
// kernel, hence, by the rule, of all previous kernels. In a capture, which holds nothing but
// kernels, launches become programmatic edges.
//
// Kernels of a library may overlap as well: cuBLASLt's for Hopper contain the same instructions.
// One that does waits before it touches what earlier kernels use, so the order stays transitive.
// But it may let the next kernel start before it has waited: then three kernels are resident, and
// before WaitForPrevious() not even the kernel before the previous one has ended for certain. So
// constant memory is what no kernel of any step writes, never what should be finished by then.
//
// A multiprocessor's L1 cache and shared memory are one memory, which is repartitioned only when
// the multiprocessor is empty: a kernel that wants another split than the previous one could not
// overlap it. So all request the most shared memory, which leaves L1 28 KiB; kernels here stage in
// shared memory what they read twice. An estimate.
//
// Without `overlap` a launch requests neither, without `carveout` only the former. Needs compute
// capability 9.0.
template <typename Args>
void Launch(void (*kernel)(Args), Dim3 grid, Dim3 block, size_t shared_bytes, LaunchStream stream,
            const Args& args BARAM_WHERE) {
#ifdef __CUDACC__
  // 48 KiB are allowed by default; the rest of them is left for the kernel's static variables.
  constexpr size_t kAlwaysAllowed = 32 << 10;
  const auto keep = [](cudaError_t error) {
    if (error != cudaSuccess) KeepError(cudaGetErrorString(error));
  };
  if (shared_bytes > kAlwaysAllowed) {
    keep(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                              cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(shared_bytes)));
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
  config.numAttrs = !stream.overlap ? 0 : stream.carveout ? 2 : 1;
  keep(cudaLaunchKernelEx(&config, kernel, args));
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
