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

// Before a loop over an array that must stay in registers and that nvcc would not unroll unasked.
#ifdef __CUDACC__
#define BARAM_UNROLL _Pragma("unroll")
#else
#define BARAM_UNROLL
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

// As nvcc's own.
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

// Starts a kernel. Errors are found by LastError().
template <typename Args>
void Launch(void (*kernel)(Args), Dim3 grid, Dim3 block, size_t shared_bytes, Stream stream,
            const Args& args) {
#ifdef __CUDACC__
  // Of 48 KiB, the rest of which is left for the kernel's static variables.
  constexpr size_t kAlwaysAllowed = 32 << 10;
  if (shared_bytes > kAlwaysAllowed) {
    cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                         cudaFuncAttributeMaxDynamicSharedMemorySize,
                         static_cast<int>(shared_bytes));
  }
  kernel<<<dim3(grid.x, grid.y, grid.z), dim3(block.x, block.y, block.z), shared_bytes, stream>>>(
      args);
#else
  struct Bound {
    void (*kernel)(Args);
    Args args;
  };
  emulation::Enqueue(stream, [bound = Bound{kernel, args}, grid, block, shared_bytes] {
    emulation::LaunchBody(
        [](const void* body) {
          const auto* bound = static_cast<const Bound*>(body);
          bound->kernel(bound->args);
        },
        &bound, grid, block, shared_bytes);
  });
#endif
}

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_PORTABILITY_H_
