// Packed weights on a GPU: conversion on the host.
#include "kernels/cuda/pack.h"

#include <algorithm>
#include <cstring>

#include "kernels/float_types.h"

namespace baram::cuda {

void ConvertRows(const WeightShape& shape, const HostRows& source, int64_t begin, int64_t count,
                 uint16_t* packed) {
  const int64_t stride = PackedStride(shape);
  const auto* bytes = static_cast<const std::byte*>(source.data);
  for (int64_t r = 0; r < count; ++r) {
    const std::byte* row = bytes + (begin + r) * shape.k * DTypeBytes(source.dtype);
    uint16_t* to = packed + r * stride;
    if (source.dtype == DType::kBF16) {
      std::memcpy(to, row, shape.k * sizeof(uint16_t));
    } else {
      for (int64_t i = 0; i < shape.k; ++i) to[i] = BF16FromF32(LoadElement(row, source.dtype, i));
    }
    std::fill(to + shape.k, to + stride, uint16_t{0});
  }
}

}  // namespace baram::cuda
