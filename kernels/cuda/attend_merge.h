// Merges the partial results of a tile that was cut: the second half of flash-decoding. The block
// that finishes last does it, so that it needs no launch of its own.
//
//   largest = max_i largest_i;  out = sum_i f_i values_i / sum_i f_i sum_i,
//   f_i = 2^(largest_i - largest)
//
// Bound by latency: per token that was cut it reads parts * heads * (hd + 2) * 4 bytes, against 4 *
// hd * kv_heads bytes for each of its keys. But a lone sequence is cut into as many parts as there
// are shares, 49 on an H200 with 8 KV heads, in every layer. A warp takes one token and head. A
// lane takes 8 elements of every part, or of every second to eighth part if heads are shorter than
// a warp's 256 elements, and reads kAtOnce parts at a time. With 8 at once, 49 parts of 128
// elements take 4 round trips to L2, after 2 for `largest`, where each lane takes one part. The
// parts are always added in the same order, whichever block adds them and however many are read at
// once, so equal inputs give equal bits.
#ifndef BARAM_KERNELS_CUDA_ATTEND_MERGE_H_
#define BARAM_KERNELS_CUDA_ATTEND_MERGE_H_

#include "kernels/cuda/attend_pieces.h"
#include "kernels/cuda/instructions.h"
#include "kernels/cuda/prims/last_block.h"
#include "kernels/cuda/prims/reduce.h"

namespace baram::cuda {

// Reduces over the lanes of a warp that are a multiple of `lanes` apart.
template <typename Op>
__device__ __forceinline__ float OverParts(float value, int32_t lanes) {
  for (int32_t distance = lanes; distance < kWarpThreads; distance *= 2) {
    value = Op()(value, ShuffleXor(value, distance));
  }
  return value;
}

// One token and head of a tile, by a warp.
template <int kAtOnce>
__device__ __forceinline__ void MergeRow(const AttendLaunch& args, const AttendPiece& piece,
                                         const AttendRow& row) {
  const AttendPartials& partials = args.partials;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int32_t first_part = lane / args.merge_lanes;
  const int32_t part_step = kWarpThreads / args.merge_lanes;
  const int32_t begin = lane % args.merge_lanes * kWideVector;
  const bool in_row = begin < partials.row_elements;
  // Past the last part, the place of the last one.
  const auto place = [&](int32_t part) {
    const int32_t at = part < piece.parts ? part : piece.parts - 1;
    return partials.Row(piece.partial + at * piece.tokens + row.token - piece.token, row.head);
  };
  float largest = kMinusInfinity;
  for (int32_t part = lane; part < piece.parts; part += kWarpThreads) {
    largest = fmaxf(largest, partials.states[place(part)].largest);
  }
  largest = OverParts<Max>(largest, 1);
  float sum = 0;
  float sums[kWideVector] = {};
  BARAM_NO_UNROLL
  for (int32_t next = first_part; next < piece.parts; next += kAtOnce * part_step) {
    SoftmaxState states[kAtOnce];
    float values[kAtOnce][kWideVector];
    BARAM_UNROLL
    for (int i = 0; i < kAtOnce; ++i) {
      const int64_t at = place(next + i * part_step);
      states[i] = partials.states[at];
      LoadVector<kWideVector>(partials.values + at * partials.row_elements + (in_row ? begin : 0),
                              values[i]);
    }
    BARAM_UNROLL
    for (int i = 0; i < kAtOnce; ++i) {
      if (next + i * part_step >= piece.parts) break;
      const float factor = Rescale(states[i].largest, largest);
      sum += factor * states[i].sum;
      for (int j = 0; j < kWideVector; ++j) sums[j] += factor * values[i][j];
    }
  }
  sum = OverParts<Sum>(sum, args.merge_lanes);
  for (float& one : sums) one = OverParts<Sum>(one, args.merge_lanes);
  if (first_part == 0 && in_row) {
    StoreOutput(args.out, args.wide_out, args.head_dim, row.token, row.head, begin, sum, sums);
  }
}

// All threads of a block call it once they have written the piece's partial results and none needs
// dynamic shared memory any longer: it uses the first word. `rows`: query rows of a tile. The last
// of the blocks that share the tile writes the output.
template <int kAtOnce>
__device__ __forceinline__ void MergeIfLast(const AttendLaunch& args, const AttendPiece& piece,
                                            const AttendUnit& unit, int rows) {
  if (piece.partial < 0) return;
  // The counter of the share in which the tile begins: that share ends with the tile's first part,
  // so no other cut tile begins in it.
  uint32_t* arrived =
      args.arrived + (static_cast<int32_t>(blockIdx.y) - piece.part) * gridDim.x + blockIdx.x;
  if (!IsLastBlock(arrived, piece.parts, DynamicShared<uint32_t>())) return;
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  for (int r = warp; r < rows; r += kAttendWarps) {
    const AttendRow row = RowOf(args, piece, unit, r);
    if (row.live) MergeRow<kAtOnce>(args, piece, row);
  }
}

// What a block does once its results of a piece are in shared memory, see StoreResults. It reloads
// the piece, so that the fields only this function needs occupy no registers while keys are read.
template <int kDepth, int kAtOnce>
__device__ __forceinline__ void Finish(const AttendLaunch& args, const AttendPiece* read_again,
                                       const AttendUnit& unit, const float* results, int parts,
                                       int rows) {
  const AttendPiece piece = *read_again;
  StoreResults<kDepth>(args, piece, unit, results, parts, rows);
  MergeIfLast<kAtOnce>(args, piece, unit, rows);
}

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_ATTEND_MERGE_H_
