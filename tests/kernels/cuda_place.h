// Where tests of the CUDA device's internals run: on a GPU, or on the emulation.
#ifndef BARAM_TESTS_KERNELS_CUDA_PLACE_H_
#define BARAM_TESTS_KERNELS_CUDA_PLACE_H_

#include <cstdint>

namespace baram::cuda {

struct CudaPlace {
  int64_t most_products = 0;  // per case, so that it does not take too long
};
// Call before opening the first device: makes the emulation offer a cuBLASLt.
CudaPlace PrepareCudaPlace();

}  // namespace baram::cuda

#endif  // BARAM_TESTS_KERNELS_CUDA_PLACE_H_
