// Puts together what the pieces of a cut sequence found: the second half of flash-decoding.
//
//   largest = max_i largest_i;  out = sum_i f_i values_i / sum_i f_i sum_i,
//   f_i = 2^(largest_i - largest)
//
// Bound by launch latency: it reads parts * heads * (hd + 2) * 4 bytes for every token that was
// cut, against 4 * hd * kv_heads bytes for each of its keys. A warp a token and head, a lane 8
// elements; the parts are added in their order, so equal inputs give equal bits. The grid depends
// on the device alone; what there is to do is read from the plan.

#include "kernels/cuda/attend_pieces.h"
#include "kernels/cuda/launchers.h"

namespace baram::cuda {
namespace {

struct CombineLaunch {
  const AttendPlanHeader* header;
  AttendPartials partials;
  Rows out;
  bool wide_out;
  int32_t head_dim;
};

__global__ void __launch_bounds__(kAttendThreads)
    CombineKernel(const __grid_constant__ CombineLaunch args) {
  WaitForPrevious();
  LetNextStart();
  const AttendPartials& partials = args.partials;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int32_t begin = lane * kWideVector;
  if (begin >= partials.row_elements) return;
  const auto* merges = reinterpret_cast<const AttendMerge*>(
      reinterpret_cast<const int32_t*>(args.header) + args.header->merges_at);
  const int64_t units = int64_t{args.header->merge_count} * partials.heads;
  const int64_t stride = int64_t{gridDim.x} * kAttendWarps;
  for (int64_t u = int64_t{blockIdx.x} * kAttendWarps + warp; u < units; u += stride) {
    const AttendMerge merge = merges[u / partials.heads];
    const int32_t head = static_cast<int32_t>(u % partials.heads);
    const auto row = [&](int32_t part) {
      return partials.Row(merge.partial + part * merge.stride, head);
    };
    float largest = kMinusInfinity;
    for (int32_t part = 0; part < merge.parts; ++part) {
      largest = fmaxf(largest, partials.states[row(part)].largest);
    }
    float sum = 0;
    float sums[kWideVector] = {};
    for (int32_t part = 0; part < merge.parts; ++part) {
      const SoftmaxState state = partials.states[row(part)];
      const float factor = Rescale(state.largest, largest);
      sum += factor * state.sum;
      float values[kWideVector];
      LoadVector<kWideVector>(partials.values + row(part) * partials.row_elements + begin, values);
      for (int i = 0; i < kWideVector; ++i) sums[i] += factor * values[i];
    }
    StoreOutput(args.out, args.wide_out, args.head_dim, merge.token, head, begin, sum, sums);
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
                       .head_dim = head_dim});
}

}  // namespace baram::cuda
