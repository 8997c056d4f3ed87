// How keys and values lie in a page, so that one stream feeds AMX tiles and vector lanes alike.
//
// A page holds, for each of its layers and each KV head, the keys of its tokens and then the
// values, all bf16. Both are cut into pieces of 1 KiB that are the B operand of TDPBF16PS: 16 pairs
// (the dimension summed over) by 16 columns.
//   keys    [page_tokens / 16][padded_k / 2][16 tokens][2]: pairs of elements, a lane is a token
//   values  [page_tokens / 32][padded_v / 16][16 pairs][16 elements][2]: pairs of tokens, a lane is
//           an element
// Keys are padded to 32 elements with zeros, values to 16 with anything. A piece of values holds 32
// tokens, hence pages of at least as many.
//
// What nobody wrote, or an earlier sequence, may be a NaN (I14). Among keys it spoils its own score
// only, which is masked. Among values it would spoil a sum, 0 times NaN: readers copy the values of
// a piece that they may read in part only, with zeros for the rest.
#ifndef BARAM_KERNELS_CPU_KV_LAYOUT_H_
#define BARAM_KERNELS_CPU_KV_LAYOUT_H_

#include <cstdint>
#include <string>

#include "kernels/ops.h"

namespace baram::cpu {

struct CacheView;

inline constexpr int32_t kMinPageTokens = 32;

// Bytes of a page that holds `shape`.
int64_t KvPageBytes(const KvShape& shape);

// The cache of one layer as the kernels take it, for one step.
CacheView ViewCache(const KvPool& pool, const KvLayer& layer, const StepView& step);

// Empty, or why `op` cannot keep a cache of this shape, which passed CheckShapes.
std::string UnsupportedKv(const char* op, const KvShape& shape);

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_KV_LAYOUT_H_
