// The sizes of a page and of its parts.
#include "kernels/cpu/kv_layout.h"

#include "kernels/cpu/jobs.h"
#include "kernels/rounding.h"

namespace baram::cpu {
namespace {

int64_t ElementsPerHead(const KvShape& shape) {
  return int64_t{shape.page_tokens} *
         (RoundUp(shape.head.head_dim, 32) + RoundUp(shape.head.head_dim, 16));
}

}  // namespace

int64_t KvPageBytes(const KvShape& shape) {
  return shape.layers_per_group * shape.head.kv_heads * ElementsPerHead(shape) * 2;
}

CacheView ViewCache(const KvPool& pool, const KvLayer& layer, const StepView& step) {
  const KvShape& shape = pool.shape;
  const int64_t layer_elements = shape.head.kv_heads * ElementsPerHead(shape);
  return {.layer = static_cast<uint8_t*>(pool.data) + layer.index * layer_elements * 2,
          .page_bytes = pool.page_bytes,
          .page_tokens = shape.page_tokens,
          .heads = shape.head.heads,
          .kv_heads = shape.head.kv_heads,
          .head_dim = shape.head.head_dim,
          .padded_k = static_cast<int32_t>(RoundUp(shape.head.head_dim, 32)),
          .padded_v = static_cast<int32_t>(RoundUp(shape.head.head_dim, 16)),
          .page_table = step.page_tables[layer.group],
          .max_pages_per_slot = step.max_pages_per_slot};
}

std::string UnsupportedKv(const char* op, const KvShape& shape) {
  if (shape.page_tokens >= kMinPageTokens) return "";
  return std::string(op) + ": KV pages of " + std::to_string(shape.page_tokens) +
         " tokens: the CPU device takes powers of two from 32 on";
}

}  // namespace baram::cpu
