// The layout of keys and values in a page on a GPU, for StoreKv, which writes them, and Attend.
//
// A page holds, for each of its layers and each KV head, the keys of its tokens and then their
// values, all bf16: [layers_per_group][kv_heads][key, value][page_tokens][padded head_dim]. What a
// block of threads reads for one head of one page is contiguous. Rows are padded to 16 bytes with
// zeros, which StoreKv writes.
//
// Rows that were never written, or that an earlier sequence wrote, may hold NaN (I14), and 0 times
// NaN is NaN: for positions that it may not see, a reader replaces the values and masks the scores.
#ifndef BARAM_KERNELS_CUDA_KV_LAYOUT_H_
#define BARAM_KERNELS_CUDA_KV_LAYOUT_H_

#include <cstdint>

#include "kernels/cuda/portability.h"
#include "kernels/ops.h"
#include "kernels/rounding.h"

namespace baram::cuda {

inline constexpr int32_t kKvRowMultiple = 8;  // elements
// Attend's kernels look up one page per 16 keys.
inline constexpr int32_t kMinPageTokens = 16;

inline int32_t KvRowElements(int32_t head_dim) {
  return static_cast<int32_t>(RoundUp(head_dim, kKvRowMultiple));
}

inline int64_t KvPageBytes(const KvShape& shape) {
  return int64_t{shape.layers_per_group} * shape.head.kv_heads * 2 * shape.page_tokens *
         KvRowElements(shape.head.head_dim) * 2;
}

// One layer's cache in a kernel's arguments.
struct KvView {
  std::byte* pool;  // the layer's part of page 0
  int64_t page_bytes;
  const int32_t* page_table;  // [slots, max_pages_per_slot]
  int32_t max_pages_per_slot;
  int32_t page_shift;    // log2 of page_tokens
  int32_t row_elements;  // KvRowElements(head_dim)

  // Keys (plane 0) or values (plane 1) of one head in a page: rows of row_elements.
  __host__ __device__ __forceinline__ Bf16* Plane(int32_t page, int32_t kv_head, int plane) const {
    const int64_t rows = (int64_t{kv_head} * 2 + plane) << page_shift;
    return reinterpret_cast<Bf16*>(pool + page * page_bytes) + rows * row_elements;
  }
  __device__ __forceinline__ int32_t Page(int32_t slot, int32_t index) const {
    return page_table[int64_t{slot} * max_pages_per_slot + index];
  }
};

inline KvView ViewKv(const KvPool& pool, const KvLayer& layer, const StepView& step) {
  const KvShape& shape = pool.shape;
  const int64_t layer_bytes = KvPageBytes(shape) / shape.layers_per_group;
  return {.pool = static_cast<std::byte*>(pool.data) + layer.index * layer_bytes,
          .page_bytes = pool.page_bytes,
          .page_table = step.page_tables[layer.group],
          .max_pages_per_slot = step.max_pages_per_slot,
          .page_shift = std::countr_zero(static_cast<uint32_t>(shape.page_tokens)),
          .row_elements = KvRowElements(shape.head.head_dim)};
}

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_KV_LAYOUT_H_
