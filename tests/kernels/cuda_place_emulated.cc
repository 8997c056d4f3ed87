// The emulation, with its stand-in for cuBLASLt.
#include "kernels/cuda/emulation/emulator.h"
#include "tests/kernels/cuda_place.h"

namespace baram::cuda {

CudaPlace PrepareCudaPlace() {
  emulation::OfferCublasLt();
  return {.most_products = int64_t{1} << 23};
}

}  // namespace baram::cuda
