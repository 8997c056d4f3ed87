// Finds out which of several blocks that work on one thing is done last. That block can merge what
// all found, without a launch of its own.
#ifndef BARAM_KERNELS_CUDA_PRIMS_LAST_BLOCK_H_
#define BARAM_KERNELS_CUDA_PRIMS_LAST_BLOCK_H_

#include "kernels/cuda/instructions.h"

namespace baram::cuda {

// All threads of each of `blocks` blocks call it once, when what the block found is in global
// memory. True in the block that comes last, which may then read what the others wrote; false in
// the others. `counter` is in global memory, used by these blocks alone, and zero before the first
// call and after the last. `before`: a word of the block's shared memory that no thread needs, and
// none writes before the block's next barrier.
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
