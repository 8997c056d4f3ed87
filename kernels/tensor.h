// Views of device memory: element types, two-dimensional tensors and packed weights.
#ifndef BARAM_KERNELS_TENSOR_H_
#define BARAM_KERNELS_TENSOR_H_

#include <cstddef>
#include <cstdint>

namespace baram {

enum class DType : uint8_t { kF32, kBF16, kF16 };

constexpr int64_t DTypeBytes(DType type) { return type == DType::kF32 ? 4 : 2; }

constexpr const char* DTypeName(DType type) {
  switch (type) {
    case DType::kF32:
      return "f32";
    case DType::kBF16:
      return "bf16";
    case DType::kF16:
      return "f16";
  }
  return "?";
}

// The types of activations and of the residual stream. f16 occurs in checkpoints only.
constexpr bool IsStored(DType type) { return type == DType::kF32 || type == DType::kBF16; }

// The largest attention head, in elements. Here because the per-ISA files of cpu/ may include only
// headers of plain data.
inline constexpr int32_t kMaxHeadDim = 256;

// A view of `rows` by `cols` elements in device memory, which it does not own. Row r starts at
// data + r * stride elements; elements of a row are adjacent.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // elements between rows, at least cols

  template <typename T>
  T* Row(int64_t r) const {
    return static_cast<T*>(data) + r * stride;
  }
  // Rows [begin, begin + n).
  Tensor Rows(int64_t begin, int64_t n) const {
    return {static_cast<std::byte*>(data) + begin * stride * DTypeBytes(dtype), dtype, n, cols,
            stride};
  }
  // The first `n` rows.
  Tensor Rows(int64_t n) const { return Rows(0, n); }
  // Columns [begin, begin + n).
  Tensor Cols(int64_t begin, int64_t n) const {
    return {static_cast<std::byte*>(data) + begin * DTypeBytes(dtype), dtype, rows, n, stride};
  }
};

inline Tensor DenseTensor(void* data, DType dtype, int64_t rows, int64_t cols) {
  return {data, dtype, rows, cols, cols};
}

// How a weight matrix is stored on the device. A quantized format adds fields here (bits, group
// size, scales), a packer, and a loader in each GEMM that takes it.
struct Format {
  DType dtype = DType::kBF16;
  bool operator==(const Format&) const = default;
};

// The shape of a linear layer: y[n] = sum over k of W[n, k] x[k].
struct WeightShape {
  int64_t n = 0;  // output features
  int64_t k = 0;  // input features
  Format format;
};

// A weight in the device's own layout, which Device::PackWeight writes and no other code knows.
// Does not own its memory.
struct PackedWeight {
  const void* data = nullptr;
  WeightShape shape;
};

}  // namespace baram

#endif  // BARAM_KERNELS_TENSOR_H_
