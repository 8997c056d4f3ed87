// Kernel launchers: one function per op, in the op's own file. Plain C++, so that the device and
// its tests include no CUDA header.
//
// All are asynchronous in stream order, take arguments that Unsupported() has accepted, and do
// nothing for zero rows.
#ifndef BARAM_KERNELS_CUDA_LAUNCHERS_H_
#define BARAM_KERNELS_CUDA_LAUNCHERS_H_

#include "kernels/cuda/attend_plan.h"
#include "kernels/cuda/gemm_select.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/slot_arrays.h"
#include "kernels/ops.h"

namespace baram::cuda {

// Device memory for the sums of blocks that share a tile: kSplitBytes of `partials`, and
// kMaxSplitTiles counters in `arrived`, zero between kernels. Kernels use it one after another.
struct SplitMemory {
  float* partials = nullptr;
  uint32_t* arrived = nullptr;
};
// gemm_skinny.cu and gemm_mma.cu, as planned by gemm_select.h. Weights packed by pack.h.
void LaunchGemmSkinny(const GemmArgs& args, const GemmPlan& plan, const SplitMemory& memory,
                      LaunchStream stream);
void LaunchGemmMma(const GemmArgs& args, const GemmPlan& plan, const SplitMemory& memory,
                   LaunchStream stream);

// gemm_round.cu: out = sums, rounded. The rows of both are aligned to 16 bytes; columns are a
// multiple of 8.
void LaunchRound(const Tensor& sums, const Tensor& out, LaunchStream stream);

// norm.cu. SharedBytes: shared memory per block.
int64_t SharedBytes(const NormArgs& args);
int64_t SharedBytes(const AddNormArgs& args);
void LaunchNorm(const NormArgs& args, LaunchStream stream);
void LaunchAddNorm(const AddNormArgs& args, LaunchStream stream);

// act.cu
void LaunchAct(const ActArgs& args, LaunchStream stream);

// embed.cu, from a table packed by pack.h
void LaunchEmbed(const EmbedArgs& args, LaunchStream stream);

// gather_rows.cu
void LaunchGatherRows(const GatherRowsArgs& args, LaunchStream stream);

// store_kv.cu, pages as in kv_layout.h
void LaunchStoreKv(const StoreKvArgs& args, LaunchStream stream);

// sample.cu. `memory` is for what blocks that share a row find, as if it were a tile.
void LaunchSample(const SampleArgs& args, const SlotArrays& slots, int32_t multiprocessors,
                  const SplitMemory& memory, LaunchStream stream);

// A step's AttendPlan in GPU memory.
struct AttendPlanArrays {
  const int32_t* share_begin[kAttendKernels] = {};
  const AttendPiece* pieces = nullptr;
  int64_t partial_capacity = 0;  // MostAttendPartials
};
// attend_vector.cu: the pieces of kVector, which have at most `rows` query rows. Here and below
// `arrived` is kMaxAttendBlocks counters that are zero between kernels, as in SplitMemory.
void LaunchAttendVector(const AttendArgs& args, const AttendPlanArrays& plan,
                        const AttendTiling& tiling, int32_t rows, uint32_t* arrived,
                        LaunchStream stream);
// attend_tiles.cu: the pieces of kNarrow or kWide
void LaunchAttendTiles(const AttendArgs& args, const AttendPlanArrays& plan,
                       const AttendTiling& tiling, AttendKernel kernel, uint32_t* arrived,
                       LaunchStream stream);

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_LAUNCHERS_H_
