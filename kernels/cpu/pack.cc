// Packing of weights: conversion to bf16 and transposition into panels.
#include "kernels/cpu/pack.h"

#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/float_types.h"
#include "kernels/rounding.h"

namespace baram::cpu {
namespace {

// Elements k and k + 1 of a row, as bf16 in the low and high half of a word.
uint32_t LoadPair(const std::byte* row, DType type, int64_t k) {
  switch (type) {
    case DType::kBF16: {
      uint32_t pair;
      std::memcpy(&pair, row + k * 2, sizeof(pair));
      return pair;
    }
    case DType::kF16: {
      uint16_t halves[2];
      std::memcpy(halves, row + k * 2, sizeof(halves));
      return BF16FromF32(F32FromF16(halves[0])) | uint32_t{BF16FromF32(F32FromF16(halves[1]))}
                                                      << 16;
    }
    case DType::kF32: {
      float values[2];
      std::memcpy(values, row + k * 4, sizeof(values));
      return BF16FromF32(values[0]) | uint32_t{BF16FromF32(values[1])} << 16;
    }
  }
  return 0;
}

// The last element of a row of odd length, paired with a zero.
uint32_t LoadLast(const std::byte* row, DType type, int64_t k) {
  std::byte padded[2 * sizeof(float)] = {};
  std::memcpy(padded, row + k * DTypeBytes(type), DTypeBytes(type));
  return LoadPair(padded, type, 0);
}

// Writes `columns` adjacent columns of a panel. Columns are the inner loop: reading 16 streams and
// writing whole cache lines is several times faster than the reverse.
template <DType kType>
void PackPanel(const std::byte* source, int64_t columns, int64_t k, uint32_t* out) {
  const int64_t row_bytes = k * DTypeBytes(kType);
  for (int64_t pair = 0; pair < k / 2; ++pair) {
    for (int64_t c = 0; c < columns; ++c) {
      out[pair * kPanelColumns + c] = LoadPair(source + c * row_bytes, kType, pair * 2);
    }
  }
  if (k % 2 == 0) return;
  for (int64_t c = 0; c < columns; ++c) {
    out[k / 2 * kPanelColumns + c] = LoadLast(source + c * row_bytes, kType, k - 1);
  }
}

}  // namespace

int64_t PackedWeightBytes(const WeightShape& shape) {
  return RoundUp(shape.n, kPanelColumns) * RoundUp(shape.k, kBlockK) * 2;
}

void PackRows(const WeightShape& shape, const HostRows& source, int64_t row_begin, void* packed) {
  Check(row_begin >= 0 && row_begin + source.rows <= shape.n, "packed rows are inside the weight");
  const auto* rows = static_cast<const std::byte*>(source.data);
  const int64_t row_bytes = shape.k * DTypeBytes(source.dtype);
  const int64_t panel_words = PanelBytes(RoundUp(shape.k, kBlockK)) / 4;
  // The parts of a fused weight may begin and end inside a panel.
  for (int64_t done = 0; done < source.rows;) {
    const int64_t n = row_begin + done;
    const int64_t columns = std::min(kPanelColumns - n % kPanelColumns, source.rows - done);
    uint32_t* out =
        static_cast<uint32_t*>(packed) + n / kPanelColumns * panel_words + n % kPanelColumns;
    const std::byte* from = rows + done * row_bytes;
    switch (source.dtype) {
      case DType::kF32:
        PackPanel<DType::kF32>(from, columns, shape.k, out);
        break;
      case DType::kBF16:
        PackPanel<DType::kBF16>(from, columns, shape.k, out);
        break;
      case DType::kF16:
        PackPanel<DType::kF16>(from, columns, shape.k, out);
        break;
    }
    done += columns;
  }
}

WeightView ViewOf(const PackedWeight& weight) {
  return {static_cast<const uint16_t*>(weight.data), weight.shape.n, weight.shape.k,
          RoundUp(weight.shape.k, kBlockK)};
}

}  // namespace baram::cpu
