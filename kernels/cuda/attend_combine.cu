// Puts together what the pieces of a cut sequence found: the second half of flash-decoding.
//
//   largest = max_i largest_i;  out = sum_i f_i values_i / sum_i f_i sum_i,
//   f_i = 2^(largest_i - largest)
//
// Bound by latency: it reads parts * heads * (hd + 2) * 4 bytes for every token that was cut,
// against 4 * hd * kv_heads bytes for each of its keys, but a sequence that is alone is cut into as
// many parts as there are groups, 49 of an H200's with 8 KV heads, in every layer. A warp takes a
// token and head, a lane 8 elements of every part, or of every second to eighth where heads are
// shorter than a warp's 256 elements, and reads kAtOnce parts at a time: 49 parts of 128 elements
// are 4 rounds to the second-level cache, after 2 for the largest, of which a lane takes a part.
// The parts are always added in the same order, so
// equal inputs give equal bits. The grid depends on the device alone; what there is to do is read
// from the plan.

#include "kernels/cuda/attend_pieces.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/prims/reduce.h"

namespace baram::cuda {
namespace {

constexpr int kAtOnce = 8;

struct CombineLaunch {
  const AttendPlanHeader* header;
  AttendPartials partials;
  Rows out;
  bool wide_out;
  int32_t head_dim;
  int32_t lanes;  // of a part: a power of two
};

// Over the lanes of a warp that are a multiple of `lanes` apart.
template <typename Op>
__device__ __forceinline__ float OverParts(float value, int32_t lanes) {
  for (int32_t distance = lanes; distance < kWarpThreads; distance *= 2) {
    value = Op()(value, ShuffleXor(value, distance));
  }
  return value;
}

__global__ void __launch_bounds__(kAttendThreads)
    CombineKernel(const __grid_constant__ CombineLaunch args) {
  WaitForPrevious();
  LetNextStart();
  const AttendPartials& partials = args.partials;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int32_t first_part = lane / args.lanes;
  const int32_t part_step = kWarpThreads / args.lanes;
  const int32_t begin = lane % args.lanes * kWideVector;
  const bool in_row = begin < partials.row_elements;
  const auto* merges = reinterpret_cast<const AttendMerge*>(
      reinterpret_cast<const int32_t*>(args.header) + args.header->merges_at);
  const int64_t units = int64_t{args.header->merge_count} * partials.heads;
  const int64_t stride = int64_t{gridDim.x} * kAttendWarps;
  for (int64_t u = int64_t{blockIdx.x} * kAttendWarps + warp; u < units; u += stride) {
    const AttendMerge merge = merges[u / partials.heads];
    const int32_t head = static_cast<int32_t>(u % partials.heads);
    // Of a part past the last, the last one's.
    const auto row = [&](int32_t part) {
      const int32_t at = part < merge.parts ? part : merge.parts - 1;
      return partials.Row(merge.partial + at * merge.stride, head);
    };
    float largest = kMinusInfinity;
    for (int32_t part = lane; part < merge.parts; part += kWarpThreads) {
      largest = fmaxf(largest, partials.states[row(part)].largest);
    }
    largest = OverParts<Max>(largest, 1);
    float sum = 0;
    float sums[kWideVector] = {};
    for (int32_t next = first_part; next < merge.parts; next += kAtOnce * part_step) {
      SoftmaxState states[kAtOnce];
      float values[kAtOnce][kWideVector];
      BARAM_UNROLL
      for (int i = 0; i < kAtOnce; ++i) {
        const int64_t at = row(next + i * part_step);
        states[i] = partials.states[at];
        LoadVector<kWideVector>(partials.values + at * partials.row_elements + (in_row ? begin : 0),
                                values[i]);
      }
      BARAM_UNROLL
      for (int i = 0; i < kAtOnce; ++i) {
        if (next + i * part_step >= merge.parts) break;
        const float factor = Rescale(states[i].largest, largest);
        sum += factor * states[i].sum;
        for (int j = 0; j < kWideVector; ++j) sums[j] += factor * values[i][j];
      }
    }
    sum = OverParts<Sum>(sum, args.lanes);
    for (float& one : sums) one = OverParts<Sum>(one, args.lanes);
    if (first_part == 0 && in_row) {
      StoreOutput(args.out, args.wide_out, args.head_dim, merge.token, head, begin, sum, sums);
    }
  }
}

}  // namespace

void LaunchAttendCombine(const AttendArgs& args, const AttendPlanArrays& plan, int32_t blocks,
                         Stream stream) {
  const int32_t head_dim = args.pool.shape.head.head_dim;
  Launch(CombineKernel, {static_cast<uint32_t>(blocks)}, {kAttendThreads}, 0, stream,
         CombineLaunch{.header = plan.header,
                       .partials = PartialsOf(args, plan.partial_capacity),
                       .out = RowsOf(args.out),
                       .wide_out = HasWideHeads(args.out, head_dim),
                       .head_dim = head_dim,
                       .lanes = static_cast<int32_t>(std::bit_ceil(
                           static_cast<uint32_t>(KvRowElements(head_dim) / kWideVector)))});
}

}  // namespace baram::cuda
