// Where a test of the CUDA device's insides runs: on a GPU, or on the emulation.
#ifndef BARAM_TESTS_KERNELS_CUDA_PLACE_H_
#define BARAM_TESTS_KERNELS_CUDA_PLACE_H_

#include <cstdint>

namespace baram::cuda {

struct CudaPlace {
  int64_t most_products = 0;  // of a case that does not take too long
};
// To be called before the first device is opened: the emulation is made to offer a cuBLASLt.
CudaPlace PrepareCudaPlace();

}  // namespace baram::cuda

#endif  // BARAM_TESTS_KERNELS_CUDA_PLACE_H_
