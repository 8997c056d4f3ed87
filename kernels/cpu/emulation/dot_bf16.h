// VDPBF16PS as two FMAs, for tests on processors without AVX512_BF16. Force-included before
// kernels/cpu/isa_avx512_bf16.cc, its macro replaces the compiler's intrinsic.
//
// Denormals are flushed if the thread's mode says so, which kernels set; the real instruction
// always flushes them.
#ifndef BARAM_KERNELS_CPU_EMULATION_DOT_BF16_H_
#define BARAM_KERNELS_CPU_EMULATION_DOT_BF16_H_

#include <immintrin.h>

namespace baram::cpu::emulation {

// Adds the product of the high halves of a and b to the sum and rounds, then likewise for the low
// halves.
inline __m512 DotBF16Lanes(__m512 sum, __m512i a, __m512i b) {
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  const auto high_of = [&](__m512i x) { return _mm512_castsi512_ps(_mm512_and_si512(x, high)); };
  const auto low_of = [](__m512i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16)); };
  sum = _mm512_fmadd_ps(high_of(a), high_of(b), sum);
  return _mm512_fmadd_ps(low_of(a), low_of(b), sum);
}

}  // namespace baram::cpu::emulation

#define _mm512_dpbf16_ps(sum, a, b) \
  ::baram::cpu::emulation::DotBF16Lanes(sum, (__m512i)(a), (__m512i)(b))

#endif  // BARAM_KERNELS_CPU_EMULATION_DOT_BF16_H_
