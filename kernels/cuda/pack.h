// Packed weights on a GPU: bf16, row-major, so that a warp streams a row and cuBLASLt takes the
// matrix as it is. Rows are zero-padded to multiples of 16 bytes, as vector loads and the tensor
// memory accelerator require.
#ifndef BARAM_KERNELS_CUDA_PACK_H_
#define BARAM_KERNELS_CUDA_PACK_H_

#include <cstdint>

#include "kernels/device.h"
#include "kernels/rounding.h"

namespace baram::cuda {

inline constexpr int64_t kPackedRowMultiple = 8;  // elements

// Elements from one row of a packed weight to the next.
inline int64_t PackedStride(const WeightShape& shape) {
  return RoundUp(shape.k, kPackedRowMultiple);
}
inline int64_t PackedWeightBytes(const WeightShape& shape) {
  return shape.n * PackedStride(shape) * 2;
}

// Converts rows [begin, begin + count) of `source` to packed rows, in host memory.
void ConvertRows(const WeightShape& shape, const HostRows& source, int64_t begin, int64_t count,
                 uint16_t* packed);

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_PACK_H_
