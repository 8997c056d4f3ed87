// The kernels for AVX-512 (F, BW, DQ, VL).
#define BARAM_VECTOR_BITS 512
#define BARAM_CHAINS "kernels/cpu/chains_fma.inc"
#include "kernels/cpu/lanes.inc"

namespace baram::cpu {

const KernelTable kAvx512Kernels = LanesTable("avx512");

}  // namespace baram::cpu
