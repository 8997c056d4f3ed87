// CudaDevice: Attend and the sizes of the cache.
#include "kernels/cuda/attend_plan.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/kv_layout.h"
#include "kernels/cuda/launchers.h"
#include "kernels/shape_check.h"

namespace baram::cuda {

int64_t CudaDevice::KvBytesPerPage(const KvShape& shape) const { return KvPageBytes(shape); }

int64_t CudaDevice::AttendScratchBytes(const KvShape& shape, const SlotShape&) const {
  return AttendPartialBytes(shape.head, KvRowElements(shape.head.head_dim), AttendFacts());
}

AttendDevice CudaDevice::AttendFacts() const {
  return {.multiprocessors = facts_.multiprocessors,
          .shared_bytes_per_block = facts_.shared_bytes_per_block};
}

void CudaDevice::Attend(const AttendArgs& args) {
  DCheckShapes(args);
  if (args.step.tokens == 0) return;
  const HeadShape& head = args.pool.shape.head;
  const StepAttendPlans::Planned& planned =
      attend_plans_.For({head, args.window}, captures_.capturing());
  Note(step_block_.error());
  const AttendDevice device = AttendFacts();
  static_assert(kMaxAttendBlocks <= kMaxSplitTiles, "products lend their counters");
  uint32_t* arrived = SharedTiles().arrived;
  for (AttendKernel kernel : {AttendKernel::kVector, AttendKernel::kNarrow, AttendKernel::kWide}) {
    if (!planned.plan.Uses(kernel)) continue;
    const AttendTiling tiling = TilingOf(kernel, head, device);
    if (kernel == AttendKernel::kVector) {
      LaunchAttendVector(args, planned.arrays, tiling, planned.plan.vector_rows, arrived,
                         Launches());
    } else {
      LaunchAttendTiles(args, planned.arrays, tiling, kernel, arrived, Launches());
    }
  }
}

}  // namespace baram::cuda
