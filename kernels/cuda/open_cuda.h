// The decisions of opening a GPU, without one: tested on any machine.
#ifndef BARAM_KERNELS_CUDA_OPEN_CUDA_H_
#define BARAM_KERNELS_CUDA_OPEN_CUDA_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cuda/runtime.h"

namespace baram::cuda {

inline constexpr int kNeededDriverRelease = 580;  // the first that serves CUDA 13

// Estimates: a process can't measure these for itself. The driver's context, and the code that is
// loaded when it first runs, the kernels' and cuBLASLt's.
inline constexpr int64_t kContextBytes = int64_t{512} << 20;
inline constexpr int64_t kCodeBytes = int64_t{128} << 20;
// The driver hands out pages of this size.
inline constexpr int64_t kAllocMultiple = int64_t{2} << 20;

// Empty, or what driver is needed and what was found. Versions as in runtime.h.
std::string DriverProblem(int driver_version, int runtime_version, const std::string& release);

// What is said where there is a driver and it shows no GPU. `counted`: what CountGpus returned;
// GPUs that are hidden are an error there.
std::string NoGpuProblem(Error counted);

// Compiled code for one kind of GPU.
struct Architecture {
  std::string name;  // "sm_90a"
  int major = 0;
  int minor = 0;
  // "a": it uses what only GPUs of this very version have. Others serve later minor versions too.
  bool exact = false;
};

// From CMAKE_CUDA_ARCHITECTURES, which alone decides: "90a-real,100f-real". What is virtual would
// be compiled by the driver at every start, and is not counted.
std::vector<Architecture> ParseArchitectures(std::string_view list);

// The architecture that the GPU runs best: the newest of those that serve it. Null and which one
// the GPU has and which there are.
const Architecture* FindArchitecture(const GpuFacts& facts,
                                     std::span<const Architecture> architectures,
                                     std::string* error);

// "sm_90a, sm_100f"
std::string ArchitectureNames(std::span<const Architecture> architectures);

// The ordinal of the GPU with this index or UUID, "GPU-..." or "MIG-..." in letters of either case;
// empty: the first. -1 and `error` if there is none.
int FindGpu(const std::string& which, std::span<const GpuFacts> gpus, std::string* error);

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_OPEN_CUDA_H_
