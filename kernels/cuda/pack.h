// Packed weights on a GPU: bf16, row after row, so that a warp streams a row and cuBLASLt takes the
// matrix as it is. Rows are padded with zeros to 16 bytes, which is what vector loads and the
// tensor memory accelerator ask for.
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

// Rows [begin, begin + count) of `source` as packed rows, in host memory.
void ConvertRows(const WeightShape& shape, const HostRows& source, int64_t begin, int64_t count,
                 uint16_t* packed);

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_PACK_H_
