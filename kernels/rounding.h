// Integers rounded up. Not for the per-ISA files of cpu/: an inline function compiled with AVX-512
// flags can be the copy that the linker keeps for the whole program.
#ifndef BARAM_KERNELS_ROUNDING_H_
#define BARAM_KERNELS_ROUNDING_H_

#include <cstdint>

namespace baram {

// `a` is nonnegative, `b` positive.
constexpr int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// To the next multiple; `value` itself if it is one.
constexpr int64_t RoundUp(int64_t value, int64_t multiple) {
  return CeilDivide(value, multiple) * multiple;
}

}  // namespace baram

#endif  // BARAM_KERNELS_ROUNDING_H_
