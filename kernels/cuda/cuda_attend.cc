// CudaDevice: Attend and the facts of the cache.
#include "kernels/cuda/attend_plan.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/kv_layout.h"
#include "kernels/cuda/launchers.h"
#include "kernels/shape_check.h"

namespace baram::cuda {
namespace {

// The combining kernel has little to do in a block and none where no sequence was cut.
constexpr int32_t kCombineBlocksPerMultiprocessor = 2;

}  // namespace

int64_t CudaDevice::KvBytesPerPage(const KvShape& shape) const { return KvPageBytes(shape); }

int64_t CudaDevice::AttendScratchBytes(const KvShape& shape, const SlotShape&) const {
  return AttendPartialBytes(shape.head, KvRowElements(shape.head.head_dim), AttendFacts());
}

AttendDevice CudaDevice::AttendFacts() const {
  return {.multiprocessors = facts_.multiprocessors, .shared_bytes = facts_.shared_bytes_per_block};
}

std::string CudaDevice::UnsupportedAttend(const AttendArgs& args) const {
  if (args.q.dtype != DType::kBF16) return "Attend: q is not bf16";
  if (args.out.dtype != DType::kBF16) return "Attend: out is not bf16";
  if (args.pool.shape.page_tokens < kLeastPageTokens) {
    return "Attend: pages hold fewer than " + std::to_string(kLeastPageTokens) + " tokens";
  }
  return "";
}

void CudaDevice::Attend(const AttendArgs& args) {
  DCheckShapes(args);
  if (args.step.tokens == 0) return;
  const HeadShape& head = args.pool.shape.head;
  const AttendPlans::Planned& planned = attend_plans_.For({head, args.window}, capturing_);
  Note(step_block_.error());
  const AttendDevice device = AttendFacts();
  for (AttendKernel kernel : {AttendKernel::kVector, AttendKernel::kNarrow, AttendKernel::kWide}) {
    if (!planned.plan.Uses(kernel)) continue;
    const AttendTiling tiling = TilingOf(kernel, head, device);
    if (kernel == AttendKernel::kVector) {
      LaunchAttendVector(args, planned.arrays, tiling, planned.plan.vector_rows, stream_.get());
    } else {
      LaunchAttendTiles(args, planned.arrays, tiling, kernel, stream_.get());
    }
  }
  // In a graph whatever this step's plan says: the next one's may cut a sequence. And once before
  // any: its first launch makes the driver load a kernel, which is better not done in a capture.
  if (planned.plan.merges.empty() && !capturing_ && combined_) return;
  combined_ = true;
  LaunchAttendCombine(args, planned.arrays,
                      facts_.multiprocessors * kCombineBlocksPerMultiprocessor, stream_.get());
}

}  // namespace baram::cuda
