// GatherRows: out[i] = x[index[i]], any type, bit for bit.
//
// Bound by memory latency: rows are few (the logit rows of a step). One block per row.
#include <cstddef>

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/prims/vector.h"

namespace baram::cuda {
namespace {

constexpr uint32_t kMaxThreads = 256;

struct GatherLaunch {
  const std::byte* x;
  int64_t x_stride_bytes;
  const int32_t* index;
  std::byte* out;
  int64_t out_stride_bytes;
  int64_t row_bytes;
};

// Unit: what is copied at a time.
template <typename Unit>
__global__ void __launch_bounds__(kMaxThreads)
    GatherRowsKernel(const __grid_constant__ GatherLaunch args) {
  WaitForPrevious();
  LetNextStart();
  const int64_t r = blockIdx.x;
  const auto* from = reinterpret_cast<const Unit*>(args.x + args.index[r] * args.x_stride_bytes);
  auto* to = reinterpret_cast<Unit*>(args.out + r * args.out_stride_bytes);
  const int64_t units = args.row_bytes / static_cast<int64_t>(sizeof(Unit));
  for (int64_t i = threadIdx.x; i < units; i += blockDim.x) to[i] = from[i];
}

}  // namespace

void LaunchGatherRows(const GatherRowsArgs& args, LaunchStream stream) {
  if (args.out.rows == 0) return;
  const int64_t element = DTypeBytes(args.x.dtype);
  const GatherLaunch launch{.x = static_cast<const std::byte*>(args.x.data),
                            .x_stride_bytes = args.x.stride * element,
                            .index = args.index,
                            .out = static_cast<std::byte*>(args.out.data),
                            .out_stride_bytes = args.out.stride * element,
                            .row_bytes = args.out.cols * element};
  const auto launch_units = [&](auto kernel, int64_t unit_bytes) {
    Launch(kernel, {static_cast<uint32_t>(args.out.rows)},
           {BlockThreads(launch.row_bytes / unit_bytes, kMaxThreads)}, 0, stream, launch);
  };
  if (IsWide(args.x) && IsWide(args.out)) {
    launch_units(GatherRowsKernel<uint4>, sizeof(uint4));
  } else {
    launch_units(GatherRowsKernel<uint16_t>, sizeof(uint16_t));
  }
}

}  // namespace baram::cuda
