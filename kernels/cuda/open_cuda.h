// The decisions of opening a GPU, without one: tested on any machine.
#ifndef BARAM_KERNELS_CUDA_OPEN_CUDA_H_
#define BARAM_KERNELS_CUDA_OPEN_CUDA_H_

#include <span>
#include <string>

#include "kernels/cuda/runtime.h"

namespace baram::cuda {

inline constexpr int kNeededDriverRelease = 580;  // the first that serves CUDA 13
// What the kernels of this binary are compiled for; CMake's CMAKE_CUDA_ARCHITECTURES says the same.
inline constexpr const char* kArchitecture = "sm_90a";
inline constexpr int kMajor = 9;
inline constexpr int kMinor = 0;

// Empty, or what driver is needed and what was found. Versions as in runtime.h.
std::string DriverProblem(int driver_version, int runtime_version, const std::string& release);

// Empty, or which architecture the GPU has that this binary lacks.
std::string ArchitectureProblem(const GpuFacts& facts);

// The ordinal of the GPU with this index or UUID; -1 and `error` if there is none.
int FindGpu(const std::string& which, std::span<const GpuFacts> gpus, std::string* error);

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_OPEN_CUDA_H_
