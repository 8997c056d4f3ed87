// Reductions over the lanes of a warp and the threads of a block. Every thread gets the result.
//
// The order of the terms depends only on the block's size, so equal inputs give equal bits.
#ifndef BARAM_KERNELS_CUDA_PRIMS_REDUCE_H_
#define BARAM_KERNELS_CUDA_PRIMS_REDUCE_H_

#include "kernels/cuda/instructions.h"

namespace baram::cuda {

struct Sum {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

// Reduces over groups of `lanes` neighboring lanes, a power of two.
template <typename Op, typename T>
__device__ __forceinline__ T WarpReduce(T value, int lanes = kWarpThreads) {
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
    value = Op()(value, ShuffleXor(value, distance));
  }
  return value;
}

// All threads of a block of whole warps call it. `partial` holds one T per warp and may be reused
// at once.
template <typename Op, typename T>
__device__ __forceinline__ T BlockReduce(T value, T* partial) {
  const int warps = static_cast<int>(blockDim.x) / kWarpThreads;
  value = WarpReduce<Op>(value);
  if (warps == 1) return value;
  if (threadIdx.x % kWarpThreads == 0) partial[threadIdx.x / kWarpThreads] = value;
  __syncthreads();
  value = partial[0];
  for (int warp = 1; warp < warps; ++warp) value = Op()(value, partial[warp]);
  __syncthreads();
  return value;
}

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_PRIMS_REDUCE_H_
