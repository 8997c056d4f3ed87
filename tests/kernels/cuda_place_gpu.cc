// A GPU, with the libraries that are installed.
#include "tests/kernels/cuda_place.h"

namespace baram::cuda {

CudaPlace PrepareCudaPlace() { return {.most_products = int64_t{1} << 40}; }

}  // namespace baram::cuda
