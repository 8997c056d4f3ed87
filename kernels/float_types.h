// Conversions between fp32 and the 16-bit types, one element at a time. For load time, tests and
// the reference device; kernels have vector forms with the same results.
#ifndef BARAM_KERNELS_FLOAT_TYPES_H_
#define BARAM_KERNELS_FLOAT_TYPES_H_

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/tensor.h"

namespace baram {

inline float F32FromBF16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// Rounds to nearest, ties to even. A NaN stays a NaN.
inline uint16_t BF16FromF32(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float F32FromF16(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = (bits >> 10) & 31u;
  const uint32_t fraction = bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(fraction), -24);
    return sign ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (fraction << 13));
}

// Rounds to nearest, ties to even; past 65504 to infinity. A NaN stays a NaN.
inline uint16_t F16FromF32(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;
  if (magnitude < 0x38800000u) {  // subnormal: units of 2^-24, and nearbyint rounds ties to even
    const float units = std::ldexp(std::bit_cast<float>(magnitude), 24);
    return sign | static_cast<uint16_t>(std::nearbyint(units));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return sign | static_cast<uint16_t>((rounded - 0x38000000u) >> 13);
}

// Element `index` of an array of `type`.
inline float LoadElement(const void* data, DType type, int64_t index) {
  switch (type) {
    case DType::kF32:
      return static_cast<const float*>(data)[index];
    case DType::kBF16:
      return F32FromBF16(static_cast<const uint16_t*>(data)[index]);
    case DType::kF16:
      return F32FromF16(static_cast<const uint16_t*>(data)[index]);
  }
  return 0;
}

inline void StoreElement(void* data, DType type, int64_t index, float value) {
  switch (type) {
    case DType::kF32:
      static_cast<float*>(data)[index] = value;
      break;
    case DType::kBF16:
      static_cast<uint16_t*>(data)[index] = BF16FromF32(value);
      break;
    case DType::kF16:
      static_cast<uint16_t*>(data)[index] = F16FromF32(value);
      break;
  }
}

}  // namespace baram

#endif  // BARAM_KERNELS_FLOAT_TYPES_H_
