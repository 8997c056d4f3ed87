// The kernels for AVX2 and FMA.
#define BARAM_VECTOR_BITS 256
#define BARAM_CHAINS "kernels/cpu/chains_fma.inc"
#include "kernels/cpu/lanes.inc"

namespace baram::cpu {

const KernelTable kAvx2Kernels = LanesTable("avx2");

}  // namespace baram::cpu
