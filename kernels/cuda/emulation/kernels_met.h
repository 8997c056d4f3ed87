// For tests of what start-up leaves to be loaded: a GPU's driver loads a kernel when it first runs.
#ifndef BARAM_KERNELS_CUDA_EMULATION_KERNELS_MET_H_
#define BARAM_KERNELS_CUDA_EMULATION_KERNELS_MET_H_

namespace baram::cuda::emulation {

// How many different kernels have been launched in this process.
int KernelsMet();

}  // namespace baram::cuda::emulation

#endif  // BARAM_KERNELS_CUDA_EMULATION_KERNELS_MET_H_
