// The decisions made when opening a GPU, testable on any machine.
#ifndef BARAM_KERNELS_CUDA_OPEN_CUDA_H_
#define BARAM_KERNELS_CUDA_OPEN_CUDA_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cuda/runtime.h"

namespace baram::cuda {

inline constexpr int kNeededDriverRelease = 580;  // the first that supports CUDA 13

// Estimates, since a process can't measure its own use: the driver's context, and the code of the
// kernels and of cuBLASLt, loaded when it first runs.
inline constexpr int64_t kContextBytes = int64_t{512} << 20;
inline constexpr int64_t kCodeBytes = int64_t{128} << 20;
// The driver allocates in pages of this size.
inline constexpr int64_t kAllocMultiple = int64_t{2} << 20;

// Empty, or which driver is needed and which was found. Versions as in runtime.h.
std::string DriverProblem(int driver_version, int runtime_version, const std::string& release);

// The sentence for a driver that shows no GPU. `counted`: what CountGpus returned; hidden GPUs are
// an error there.
std::string NoGpuProblem(Error counted);

// Compiled code for one kind of GPU.
struct Architecture {
  std::string name;  // "sm_90a"
  int major = 0;
  int minor = 0;
  // "a": uses features that only GPUs of this exact version have. Others run on later minor
  // versions too.
  bool exact = false;
};

// From CMAKE_CUDA_ARCHITECTURES, which alone decides: "90a-real,100f-real". Virtual entries are
// ignored: the driver would compile them at every start.
std::vector<Architecture> ParseArchitectures(std::string_view list);

// The best architecture for the GPU: the newest that it runs. Null if there is none, and `error`
// names the GPU's and the compiled ones.
const Architecture* FindArchitecture(const GpuFacts& facts,
                                     std::span<const Architecture> architectures,
                                     std::string* error);

// "sm_90a, sm_100f"
std::string ArchitectureNames(std::span<const Architecture> architectures);

// The ordinal of the GPU with this index or UUID, "GPU-..." or "MIG-...", case-insensitive; empty:
// the first. -1 and `error` if there is none.
int FindGpu(const std::string& which, std::span<const GpuFacts> gpus, std::string* error);

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_OPEN_CUDA_H_
