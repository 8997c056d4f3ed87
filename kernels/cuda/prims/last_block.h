// Detects which of several cooperating blocks finishes last. That block can merge the results of
// all, without another launch.
#ifndef BARAM_KERNELS_CUDA_PRIMS_LAST_BLOCK_H_
#define BARAM_KERNELS_CUDA_PRIMS_LAST_BLOCK_H_

#include "kernels/cuda/instructions.h"

namespace baram::cuda {

// All threads of each of `blocks` blocks call it once, when the block's results are in global
// memory. True in the last block, which may then read what the others wrote; false in the others.
// `counter` is in global memory, used by these blocks only, and zero before the first call and
// after the last. `before`: a word of the block's shared memory that no thread needs, and that none
// writes before the block's next barrier.
__device__ __forceinline__ bool IsLastBlock(uint32_t* counter, uint32_t blocks, uint32_t* before) {
  MemoryFence();
  __syncthreads();
  if (threadIdx.x == 0) *before = AtomicAdd(counter, 1u);
  __syncthreads();
  if (*before != blocks - 1) return false;
  MemoryFence();
  if (threadIdx.x == 0) *counter = 0;
  return true;
}

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_PRIMS_LAST_BLOCK_H_
