// Adds the sums of several blocks, each over its part of k, in the block that arrives last: always
// in the order of the parts, so equal inputs give equal bits.
#ifndef BARAM_KERNELS_CUDA_PRIMS_SPLIT_SUM_H_
#define BARAM_KERNELS_CUDA_PRIMS_SPLIT_SUM_H_

#include "kernels/cuda/instructions.h"
#include "kernels/cuda/launchers.h"

namespace baram::cuda {

// A block that has computed part `part` of `parts` of tile `tile` of `tiles`.
struct SplitPlace {
  uint32_t tile, tiles;
  uint32_t part, parts;
};

// All threads of a block call it with the same place. True in the last block of a tile, with `sums`
// the tile's; false in the others, which are done. All blocks have the same size.
template <int kN>
__device__ __forceinline__ bool SumSplits(const SplitMemory& memory, const SplitPlace& place,
                                          float (&sums)[kN]) {
  if (place.parts == 1) return true;
  // Does not use IsLastBlock of last_block.h, with which the skinny kernel of two row tiles spills.
  __shared__ bool is_last;
  const int64_t tile_floats = int64_t{kN} * blockDim.x;
  const int64_t part_floats = tile_floats * place.tiles;
  float* own = memory.partials + tile_floats * place.tile + threadIdx.x;
  for (int i = 0; i < kN; ++i) own[part_floats * place.part + i * blockDim.x] = sums[i];
  MemoryFence();
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = AtomicAdd(memory.arrived + place.tile, 1u) == place.parts - 1;
  }
  __syncthreads();
  if (!is_last) return false;
  MemoryFence();
  for (int i = 0; i < kN; ++i) sums[i] = own[i * blockDim.x];
  for (uint32_t part = 1; part < place.parts; ++part) {
    for (int i = 0; i < kN; ++i) sums[i] += own[part_floats * part + i * blockDim.x];
  }
  if (threadIdx.x == 0) memory.arrived[place.tile] = 0;
  return true;
}

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_PRIMS_SPLIT_SUM_H_
