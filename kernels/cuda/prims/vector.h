// Loads and stores several elements at once as fp32, whatever their stored type.
#ifndef BARAM_KERNELS_CUDA_PRIMS_VECTOR_H_
#define BARAM_KERNELS_CUDA_PRIMS_VECTOR_H_

#include "kernels/cuda/instructions.h"
#include "kernels/tensor.h"

namespace baram::cuda {

// Elements per access: 16 bytes of bf16, twice 16 of fp32.
inline constexpr int kWideVector = 8;

// Reads from[0 .. kN). With kN = kWideVector `from` is aligned to 16 bytes.
template <int kN, typename T>
__device__ __forceinline__ void LoadVector(const T* from, float (&values)[kN]) {
  if constexpr (kN == 1) {
    values[0] = ToFloat(from[0]);
  } else if constexpr (sizeof(T) == 2) {
    static_assert(kN == kWideVector);
    const uint4 words = *reinterpret_cast<const uint4*>(from);
    const uint32_t packed[4] = {words.x, words.y, words.z, words.w};
    for (int i = 0; i < 4; ++i) {
      values[2 * i] = LowBf16(packed[i]);
      values[2 * i + 1] = HighBf16(packed[i]);
    }
  } else {
    static_assert(kN == kWideVector);
    for (int half = 0; half < 2; ++half) {
      const float4 four = reinterpret_cast<const float4*>(from)[half];
      values[4 * half] = four.x;
      values[4 * half + 1] = four.y;
      values[4 * half + 2] = four.z;
      values[4 * half + 3] = four.w;
    }
  }
}

template <int kN, typename T>
__device__ __forceinline__ void StoreVector(const float (&values)[kN], T* to) {
  if constexpr (kN == 1) {
    to[0] = FromFloat<T>(values[0]);
  } else if constexpr (sizeof(T) == 2) {
    *reinterpret_cast<uint4*>(to) =
        uint4{PackBf16(values[0], values[1]), PackBf16(values[2], values[3]),
              PackBf16(values[4], values[5]), PackBf16(values[6], values[7])};
  } else {
    for (int half = 0; half < 2; ++half) {
      const float* four = values + 4 * half;
      reinterpret_cast<float4*>(to)[half] = float4{four[0], four[1], four[2], four[3]};
    }
  }
}

// Whether 8 elements of bf16 are all finite: no exponent is all ones.
__device__ __forceinline__ bool AllFinite(const uint4& words) {
  const uint32_t packed[4] = {words.x, words.y, words.z, words.w};
  bool finite = true;
  for (uint32_t pair : packed) {
    finite &= (pair & 0x7f80) != 0x7f80 && (pair & 0x7f800000) != 0x7f800000;
  }
  return finite;
}

// A tensor in a kernel's arguments.
struct Rows {
  void* data;
  int64_t stride;  // elements
  template <typename T>
  __device__ T* Row(int64_t r) const {
    return static_cast<T*>(data) + r * stride;
  }
};
inline Rows RowsOf(const Tensor& tensor) { return {tensor.data, tensor.stride}; }

// Whether rows of `cols` elements can be read in wide vectors.
inline bool IsWide(const void* data, int64_t cols) {
  return cols % kWideVector == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0;
}
inline bool IsWide(const Tensor& tensor) {
  return IsWide(tensor.data, tensor.cols) && tensor.stride % kWideVector == 0;
}

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_PRIMS_VECTOR_H_
