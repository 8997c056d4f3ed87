// From run-time types to template parameters, without macros.
#ifndef BARAM_KERNELS_CUDA_DISPATCH_H_
#define BARAM_KERNELS_CUDA_DISPATCH_H_

#include <type_traits>

#include "kernels/check.h"
#include "kernels/cuda/portability.h"
#include "kernels/cuda/prims/vector.h"
#include "kernels/rounding.h"

namespace baram::cuda {

template <typename T>
struct TypeTag {
  using Type = T;
};

// body(TypeTag<float>) or body(TypeTag<Bf16>).
template <typename Body>
void WithType(DType type, const Body& body) {
  Check(type == DType::kF32 || type == DType::kBF16, "Unsupported refuses other element types");
  if (type == DType::kF32) {
    body(TypeTag<float>());
  } else {
    body(TypeTag<Bf16>());
  }
}

// body(width), the elements of one access as an integral constant.
template <typename Body>
void WithWidth(bool wide, const Body& body) {
  if (wide) {
    body(std::integral_constant<int, kWideVector>());
  } else {
    body(std::integral_constant<int, 1>());
  }
}

// body(the constant that equals `value`).
template <int... kValues, typename Body>
void WithConstant(int value, const Body& body) {
  const auto matches = [&](auto constant) {
    if (value == constant()) body(constant);
    return value == constant();
  };
  const bool found = (matches(std::integral_constant<int, kValues>()) || ...);
  Check(found, "a kernel is compiled for every value that its plan has");
}

// Threads of a block that divides `units` of work: whole warps, no more than there is work for.
inline uint32_t BlockThreads(int64_t units, uint32_t most) {
  const int64_t warps = CeilDivide(units, kWarpThreads);
  const int64_t limit = most / kWarpThreads;
  return static_cast<uint32_t>((warps < 1 ? 1 : warps > limit ? limit : warps) * kWarpThreads);
}

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_DISPATCH_H_
