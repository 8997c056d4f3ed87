// The layout of keys and values in a page, chosen so that one stream feeds AMX tiles and vector
// lanes alike.
//
// A page holds, for each of its layers and each KV head, the keys of its tokens and then the
// values, all bf16. Both are cut into tiles of 1 KiB, each a B operand of TDPBF16PS: 16 pairs (the
// dimension summed over) by 16 columns.
//   keys    [page_tokens / 16][padded_k / 2][16 tokens][2]: pairs of elements, one lane per token
//   values  [page_tokens / 32][padded_v / 16][16 pairs][16 elements][2]: pairs of tokens, one lane
//           per element
// Keys are padded with zeros to a multiple of 32 elements, values with arbitrary bytes to a
// multiple of 16. A tile of values holds 32 tokens, so a page has at least that many.
//
// Bytes that were never written, or that an earlier sequence wrote, may be NaN (I14). In a key they
// affect only that key's score, which is masked. In a value they would affect a sum, since 0 times
// NaN is NaN: readers copy the values of 32 tokens of which only some are valid, with zeros for
// the rest.
#ifndef BARAM_KERNELS_CPU_KV_LAYOUT_H_
#define BARAM_KERNELS_CPU_KV_LAYOUT_H_

#include <cstdint>
#include <string>

#include "kernels/ops.h"

namespace baram::cpu {

struct CacheView;

inline constexpr int32_t kMinPageTokens = 32;

// The bytes of a page for `shape`.
int64_t KvPageBytes(const KvShape& shape);

// The cache of one layer in the form that kernels take, for one step.
CacheView ViewCache(const KvPool& pool, const KvLayer& layer, const StepView& step);

// Empty, or why `op` does not support a cache of this shape, which has passed CheckShapes.
std::string UnsupportedKv(const char* op, const KvShape& shape);

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_KV_LAYOUT_H_
