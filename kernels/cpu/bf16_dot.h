// VDPBF16PS of this processor: whether it may be used, and how long it takes. Implemented in
// isa_avx512_bf16.cc; everything here requires AVX512_BF16.
#ifndef BARAM_KERNELS_CPU_BF16_DOT_H_
#define BARAM_KERNELS_CPU_BF16_DOT_H_

#include <cstdint>

namespace baram::cpu {

// Whether it follows the summation order: adds the product of the high halves first, rounds after
// each of its two products, and flushes denormals.
bool Bf16DotFollowsOrder();

// For timing: add 12 products to independent sums, `rounds` times, with VDPBF16PS and with FMAs.
void RunBf16Dots(int64_t rounds);
void RunFmas(int64_t rounds);

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_BF16_DOT_H_
