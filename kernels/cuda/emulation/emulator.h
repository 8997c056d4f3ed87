// Runs CUDA kernels on a CPU, for tests: every thread of a block is a fiber, one block runs at a
// time, barriers and warp collectives are meetings of fibers. Built with the sanitizers it finds
// what a GPU would hide: accesses out of bounds, misaligned vectors, missing and divergent
// barriers, and kernels that do not keep to the rule of Launch (portability.h): each thread must
// wait for the previous kernel, and touch nothing of the GPU's memory before.
//
// One launch at a time per process. Static __shared__ variables are static variables, dynamic
// shared memory is an exact-size heap block that is filled with NaN for every block.
#ifndef BARAM_KERNELS_CUDA_EMULATION_EMULATOR_H_
#define BARAM_KERNELS_CUDA_EMULATION_EMULATOR_H_

#include <cstddef>
#include <cstdint>
#include <source_location>

#include "kernels/cuda/runtime.h"

namespace baram::cuda::emulation {

// The order in which the threads of a block take their turns, and the blocks of a grid. A kernel
// whose results depend on the order of threads lacks a barrier; one whose results depend on that of
// blocks takes some block for the last that need not be. Backward, warps also run ahead of each
// other as far as they can, and copies in the background arrive at once, not as late as they may:
// what is overwritten while others read it shows.
enum class LaneOrder { kForward, kBackward, kShuffled };
void SetLaneOrder(LaneOrder order);

// How many different kernels have been launched in this process: a GPU's driver loads a kernel when
// it first runs.
int KernelsMet();

// From now on devices that are opened find a cuBLASLt: cublaslt_host.cc.
void OfferCublasLt();
// true: refuses every product from now on when it is run; asked for an algorithm, it still has one.
// false: refuses none more. What a device's library has refused it remembers: AlgorithmTable.
void RefuseProducts(bool refuse);
// true: from now on its algorithms work only for the exact rows they were asked for with. false:
// for all.
void RefuseOtherRows(bool refuse);

// Failures on demand, in any thread. The n-th allocation from now on, on the GPU or pinned, finds
// no memory; 0: none fails.
void FailAllocation(int n);
// Whether that allocation came.
bool AllocationFailed();
// true: from now on no capture can be begun. false: it can again.
void RefuseCaptures(bool refuse);
// From now on a capture in which a kernel overlaps makes no graph but this error. Null: it does
// again.
void RefuseOverlappingCaptures(Error error);

// The running thread's.
extern Dim3 thread_index, block_index, block_size, grid_size;
// Null if the launch asked for none.
void* DynamicShared();

// What reports name a launch by.
struct LaunchSource {
  const void* kernel;
  std::source_location where;
};
// Runs body(args) in every thread of every block, a block after the other. Aborts with a report if
// threads wait for each other forever, or at different barriers, or end without having called
// WaitForPrevious(). In the first launches of every kernel the first and the last block to run are
// watched more closely: their threads may not meet before that call, and if they touch memory that
// Allocate() returned, the address sanitizer reports use of poisoned memory. To watch all would
// take too long.
void LaunchBody(void (*body)(const void* args), const void* args, Dim3 grid, Dim3 block,
                size_t shared_bytes, const LaunchSource& source);

// griddepcontrol.wait.
void WaitForPrevious();
// Reads constant memory, which may be done before the wait. That nothing writes it while kernels
// run is not checked.
void ReadConstant(void* to, const void* global, size_t bytes);

// __syncthreads().
void BlockBarrier(std::source_location where);

inline constexpr int kWarpLanes = 32;
// What the lanes of a warp brought to a meeting: pointers into their stacks, null for lanes that
// are not in the mask.
struct WarpMeeting {
  const void* in[kWarpLanes];
  void* out[kWarpLanes];
};
// Waits for the lanes of `mask`; the last to arrive combines, then all go on.
void MeetWarp(uint32_t mask, const void* in, void* out, void (*combine)(const WarpMeeting&),
              std::source_location where);
int LaneIndex();

// cp.async: the copy is carried out when the thread waits for its group, as late as it may be; see
// LaneOrder for the other extreme.
void CopyLater(void* shared, const void* global, size_t bytes, size_t valid_bytes);
void CommitCopies();
void WaitCopies(int groups_left);

}  // namespace baram::cuda::emulation

#endif  // BARAM_KERNELS_CUDA_EMULATION_EMULATOR_H_
