// Runs CUDA kernels on a CPU, for tests: every thread of a block is a fiber, one block runs at a
// time, barriers and warp collectives are meetings of fibers. Built with the sanitizers it finds
// what a GPU would hide: out-of-bounds accesses, misaligned vectors, missing and divergent
// barriers, and kernels that violate the rule of Launch (portability.h): each thread must wait for
// the previous kernel before it touches the GPU's memory.
//
// One launch at a time per process. Static __shared__ variables are static variables; dynamic
// shared memory is a heap allocation of the exact size, filled with NaN for every block.
#ifndef BARAM_KERNELS_CUDA_EMULATION_EMULATOR_H_
#define BARAM_KERNELS_CUDA_EMULATION_EMULATOR_H_

#include <cstddef>
#include <cstdint>
#include <source_location>

#include "kernels/cuda/runtime.h"

namespace baram::cuda::emulation {

// The order in which the threads of a block, and the blocks of a grid, take turns. A kernel whose
// results depend on the order of threads lacks a barrier; one whose results depend on the order of
// blocks assumes that a particular block comes last. With kBackward, warps also run ahead of each
// other as far as they can, and asynchronous copies arrive at once, not as late as they may: data
// that is overwritten while others still read it shows up.
enum class LaneOrder { kForward, kBackward, kShuffled };
void SetLaneOrder(LaneOrder order);

// How many different kernels this process has launched: a GPU's driver loads a kernel when it first
// runs.
int KernelsMet();

// Devices opened from now on find a cuBLASLt: cublaslt_host.cc.
void OfferCublasLt();
// true: from now on it rejects every product when run, though it still has algorithms for it.
// false: no longer. A device remembers what its library has rejected: AlgorithmTable.
void RefuseProducts(bool refuse);
// true: from now on its algorithms work only for the exact rows they were requested for. false: for
// all.
void RefuseOtherRows(bool refuse);

// Failures on demand, in any thread. The n-th allocation from now on, on the GPU or pinned, fails;
// 0: none fails.
void FailAllocation(int n);
// Whether that allocation was attempted.
bool AllocationFailed();
// The next launch fails with this error, and loses the capture that it would be part of.
void FailLaunch(Error error);
// true: from now on captures fail to begin. false: they succeed again.
void RefuseCaptures(bool refuse);
// From now on a capture in which kernels overlap fails with this error. Null: it succeeds again.
void RefuseOverlappingCaptures(Error error);

// The running thread's.
extern Dim3 thread_index, block_index, block_size, grid_size;
// Null if the launch asked for none.
void* DynamicShared();

// How reports identify a launch.
struct LaunchSource {
  const void* kernel;
  std::source_location where;
};
// Runs body(args) in every thread of every block, one block after another. Aborts with a report if
// threads deadlock, wait at different barriers, or end without having called WaitForPrevious(). In
// the first launches of every kernel the first and the last block to run are checked more strictly:
// their threads must not meet before that call, and if they touch memory that Allocate() returned,
// the address sanitizer reports a use of poisoned memory. Checking all blocks would take too long.
void LaunchBody(void (*body)(const void* args), const void* args, Dim3 grid, Dim3 block,
                size_t shared_bytes, const LaunchSource& source);

// griddepcontrol.wait.
void WaitForPrevious();
// Reads constant memory, which is allowed before the wait. Does not check that nothing writes it
// while kernels run.
void ReadConstant(void* to, const void* global, size_t bytes);

// __syncthreads().
void BlockBarrier(std::source_location where);

inline constexpr int kWarpLanes = 32;
// What the lanes of a warp bring to a meeting: pointers into their stacks, null for lanes that are
// not in the mask.
struct WarpMeeting {
  const void* in[kWarpLanes];
  void* out[kWarpLanes];
};
// Waits for the lanes of `mask`; the last to arrive calls combine(), then all continue.
void MeetWarp(uint32_t mask, const void* in, void* out, void (*combine)(const WarpMeeting&),
              std::source_location where);
int LaneIndex();

// cp.async: the copy is made when the thread waits for its group, as late as allowed; see LaneOrder
// for the other extreme.
void CopyLater(void* shared, const void* global, size_t bytes, size_t valid_bytes);
// The same from constant memory, see ReadConstant.
void CopyConstantLater(void* shared, const void* global, size_t bytes, size_t valid_bytes);
void CommitCopies();
void WaitCopies(int groups_left);

}  // namespace baram::cuda::emulation

#endif  // BARAM_KERNELS_CUDA_EMULATION_EMULATOR_H_
