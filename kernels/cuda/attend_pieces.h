// What the kernels of Attend share: their arguments, how query rows map to tokens and heads, and
// how the results of a block's warps are merged and written.
#ifndef BARAM_KERNELS_CUDA_ATTEND_PIECES_H_
#define BARAM_KERNELS_CUDA_ATTEND_PIECES_H_

#include <bit>

#include "kernels/cuda/attend_plan.h"
#include "kernels/cuda/instructions.h"
#include "kernels/cuda/kv_layout.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/prims/vector.h"

namespace baram::cuda {

inline constexpr int kAttendThreads = 128;
inline constexpr int kAttendWarps = kAttendThreads / kWarpThreads;
inline constexpr float kMinusInfinity = -INFINITY;

// A softmax over some of a query's keys. Scores are multiplied by log2(e), for base 2.
struct SoftmaxState {
  float largest;  // score; if no key was seen, -infinity or the lowest finite number
  float sum;      // of 2^(score - largest)
};

// Results of tokens whose keys were split, in the op's scratch memory.
struct AttendPartials {
  SoftmaxState* states;  // [partials, heads]
  float* values;         // [partials, heads, row_elements], sums of 2^(score - largest) * value
  int32_t heads;
  int32_t row_elements;

  __device__ __forceinline__ int64_t Row(int32_t partial, int32_t head) const {
    return int64_t{partial} * heads + head;
  }
};

inline AttendPartials PartialsOf(const AttendArgs& args, int64_t capacity) {
  const HeadShape& head = args.pool.shape.head;
  const int32_t row_elements = KvRowElements(head.head_dim);
  auto* values = static_cast<float*>(args.scratch);  // first: keeps the scratch memory's alignment
  return {.states = reinterpret_cast<SoftmaxState*>(values + capacity * head.heads * row_elements),
          .values = values,
          .heads = head.heads,
          .row_elements = row_elements};
}

// A kernel's arguments: launched as [units, shares] blocks of kAttendThreads.
struct AttendLaunch {
  KvView kv;
  Rows q;                      // [T, heads * hd] bf16
  Rows out;                    // [T, heads * hd] bf16
  bool wide_q;                 // vectors of q's heads are aligned to 16 bytes
  bool wide_out;               // and out's
  const int32_t* share_begin;  // [shares + 1]
  const AttendPiece* pieces;
  AttendPartials partials;
  uint32_t* arrived;    // [shares, units] parts that have arrived; zeros between kernels
  int32_t merge_lanes;  // lanes that read a part together: a power of two
  int32_t head_dim;
  int32_t ratio;       // query heads per KV head
  int32_t unit_heads;  // AttendTiling::heads
  int32_t window;      // 0: none
  float scale;         // of the scores, times log2(e); positive
};

// Whether all vectors of a tensor's heads are aligned to 16 bytes.
inline bool HasWideHeads(const Tensor& tensor, int32_t head_dim) {
  return IsWide(tensor) && head_dim % kWideVector == 0;
}

inline AttendLaunch AttendLaunchOf(const AttendArgs& args, const AttendPlanArrays& plan,
                                   const AttendTiling& tiling, AttendKernel kernel,
                                   uint32_t* arrived) {
  const HeadShape& head = args.pool.shape.head;
  constexpr float kLog2E = 1.44269504088896340736f;
  return {.kv = ViewKv(args.pool, args.layer, args.step),
          .q = RowsOf(args.q),
          .out = RowsOf(args.out),
          .wide_q = HasWideHeads(args.q, head.head_dim),
          .wide_out = HasWideHeads(args.out, head.head_dim),
          .share_begin = plan.share_begin[static_cast<int>(kernel)],
          .pieces = plan.pieces,
          .partials = PartialsOf(args, plan.partial_capacity),
          .arrived = arrived,
          .merge_lanes = static_cast<int32_t>(
              std::bit_ceil(static_cast<uint32_t>(KvRowElements(head.head_dim) / kWideVector))),
          .head_dim = head.head_dim,
          .ratio = head.heads / head.kv_heads,
          .unit_heads = tiling.heads,
          .window = args.window,
          .scale = args.scale * kLog2E};
}
inline Dim3 GridOf(const AttendTiling& tiling) {
  return {static_cast<uint32_t>(tiling.units), static_cast<uint32_t>(tiling.shares)};
}

// The heads of this block; blockIdx.x is its unit.
struct AttendUnit {
  int32_t kv_head;
  int32_t first_head;  // the first query head
  int32_t heads;       // of them; at most unit_heads
};
__device__ __forceinline__ AttendUnit UnitOf(const AttendLaunch& args) {
  const int32_t unit = static_cast<int32_t>(blockIdx.x);
  const int32_t units_per_head = (args.ratio + args.unit_heads - 1) / args.unit_heads;
  const int32_t kv_head = unit / units_per_head;
  const int32_t skipped = unit % units_per_head * args.unit_heads;
  const int32_t left = args.ratio - skipped;
  return {kv_head, kv_head * args.ratio + skipped, left < args.unit_heads ? left : args.unit_heads};
}

// Query row r of a unit: a token of the piece and a head.
struct AttendRow {
  int32_t token;  // in the step
  int32_t head;
  bool live;  // false: past the last token or head
};
__device__ __forceinline__ AttendRow RowOf(const AttendLaunch& args, const AttendPiece& piece,
                                           const AttendUnit& unit, int r) {
  const int32_t token = r / args.unit_heads;
  const int32_t head = r % args.unit_heads;
  return {piece.token + token, unit.first_head + head, token < piece.tokens && head < unit.heads};
}

// The keys of a piece that a query row sees: begin <= position < end.
struct KeyRange {
  int32_t begin;
  int32_t end;
};
__device__ __forceinline__ KeyRange KeysOf(const AttendLaunch& args, const AttendPiece& piece,
                                           int r) {
  const int32_t position = piece.position + r / args.unit_heads;
  const int32_t begin = args.window > 0 ? position - args.window + 1 : 0;
  return {begin > piece.key_begin ? begin : piece.key_begin,
          position + 1 < piece.key_end ? position + 1 : piece.key_end};
}

// Elements begin .. begin + 7 of a query row as fp32; zeros past the head and for rows that are not
// live.
__device__ __forceinline__ void LoadQuery(const AttendLaunch& args, const AttendRow& row,
                                          int32_t begin, float (&values)[kWideVector]) {
  for (int i = 0; i < kWideVector; ++i) values[i] = 0;
  if (!row.live || begin >= args.head_dim) return;
  const Bf16* q = args.q.Row<Bf16>(row.token) + row.head * args.head_dim + begin;
  if (args.wide_q) {
    LoadVector<kWideVector>(q, values);
    return;
  }
  for (int i = 0; i < kWideVector; ++i) {
    if (begin + i < args.head_dim) values[i] = ToFloat(q[i]);
  }
}

// The factor that takes a sum relative to `largest` to one relative to `new_largest`. Both may
// still be -infinity.
__device__ __forceinline__ float Rescale(float largest, float new_largest) {
  return largest == kMinusInfinity ? 0.0f : Exp2(largest - new_largest);
}

// Length of the rows of shared memory that hold the warps' results: kDepth sums, then the
// SoftmaxState.
template <int kDepth>
inline constexpr int kResultStride = kDepth + 8;

template <int kDepth>
__device__ __forceinline__ void LeaveState(float* result_row, const SoftmaxState& state) {
  result_row[kDepth] = state.largest;
  result_row[kDepth + 1] = state.sum;
}

// Writes sums / sum to 8 elements of an output head.
__device__ __forceinline__ void StoreOutput(const Rows& out, bool wide, int32_t head_dim,
                                            int32_t token, int32_t head, int32_t begin, float sum,
                                            float (&sums)[kWideVector]) {
  Bf16* to = out.Row<Bf16>(token) + head * head_dim + begin;
  const float inverse = 1.0f / sum;
  for (int i = 0; i < kWideVector; ++i) sums[i] *= inverse;
  if (wide) {
    StoreVector<kWideVector>(sums, to);
    return;
  }
  for (int i = 0; i < kWideVector; ++i) {
    if (begin + i < head_dim) to[i] = FromFloat<Bf16>(sums[i]);
  }
}

// Merges the results of the block's `parts` parts, in order, and writes them to the output or to
// the partial results. `results`: [parts, rows, kResultStride]. All threads of the block call it
// after a barrier.
template <int kDepth>
__device__ __forceinline__ void StoreResults(const AttendLaunch& args, const AttendPiece& piece,
                                             const AttendUnit& unit, const float* results,
                                             int parts, int rows) {
  const int32_t vectors = args.kv.row_elements / kWideVector;
  for (int i = static_cast<int>(threadIdx.x); i < rows * vectors; i += kAttendThreads) {
    const int r = i / vectors;
    const int32_t begin = i % vectors * kWideVector;
    const AttendRow row = RowOf(args, piece, unit, r);
    if (!row.live) continue;
    const auto result = [&](int part) {
      return results + (part * rows + r) * kResultStride<kDepth>;
    };
    float largest = kMinusInfinity;
    for (int part = 0; part < parts; ++part) largest = fmaxf(largest, result(part)[kDepth]);
    float sum = 0;
    float sums[kWideVector] = {};
    for (int part = 0; part < parts; ++part) {
      const float* found = result(part);
      const float factor = Rescale(found[kDepth], largest);
      sum += factor * found[kDepth + 1];
      float values[kWideVector];
      LoadVector<kWideVector>(found + begin, values);
      for (int j = 0; j < kWideVector; ++j) sums[j] += factor * values[j];
    }
    if (piece.partial < 0) {
      StoreOutput(args.out, args.wide_out, args.head_dim, row.token, row.head, begin, sum, sums);
      continue;
    }
    const int32_t place = piece.partial + piece.part * piece.tokens + row.token - piece.token;
    const int64_t at = args.partials.Row(place, row.head);
    StoreVector<kWideVector>(sums, args.partials.values + at * args.partials.row_elements + begin);
    if (begin == 0) args.partials.states[at] = {largest, sum};
  }
}

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_ATTEND_PIECES_H_
