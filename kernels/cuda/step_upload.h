// StepUpload: a step's deltas on their way to the GPU, in one packed copy.
#ifndef BARAM_KERNELS_CUDA_STEP_UPLOAD_H_
#define BARAM_KERNELS_CUDA_STEP_UPLOAD_H_

#include <cstdint>
#include <vector>

#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/slot_arrays.h"
#include "kernels/cuda/step_attend_plans.h"
#include "kernels/cuda/step_block.h"
#include "kernels/step.h"

namespace baram::cuda {

// Owned by the device, used by the executor thread. Its sections lie in the block below the
// attention plans, which are copied with them. A step that brings more than fits, such as long
// histories of new requests, takes several copies.
class StepUpload {
 public:
  // The GPU memory that Reserve allocates.
  static int64_t DeviceBytes(const SlotShape& shape) { return StepUpload().Lay(shape, nullptr); }
  // Bytes it needs in a StepBlock below the border, besides those of the plans.
  static int64_t BytesBelow(const SlotShape& shape);
  // `block` and `plans` must outlive it.
  Error Reserve(const SlotShape& shape, LaunchStream stream, StepBlock* block,
                StepAttendPlans* plans);

  // See Device::BeginStep. Plans attention as well. Nothing is allocated.
  StepView BeginStep(const StepInput& input);

  const SlotArrays& slots() const { return slots_; }

 private:
  // Lays the arrays out from `base` on and returns their bytes; with a null base it only counts.
  int64_t Lay(const SlotShape& shape, std::byte* base);
  void Bind(const SlotInit& init);
  void AddPage(const PageDelta& delta);
  StepView AddRows(const StepInput& input);
  // Copies what is packed, and the plans up to `plans_end` bytes from the block's border, and
  // applies it.
  void Flush(int64_t plans_end, int32_t padded_rows);
  // Makes room for the rest of the step.
  void FlushEarly();
  int64_t PackedBytes() const;
  // Whether the sections have room for `bytes` more.
  bool HasRoom(int64_t bytes) const { return PackedBytes() + bytes <= block_bytes_; }

  SlotShape shape_;
  LaunchStream stream_;
  SlotArrays slots_;
  StepArrays step_;
  DeviceMemory memory_;  // what slots_ and step_ point into
  StepBlock* block_ = nullptr;
  StepAttendPlans* plans_ = nullptr;
  int64_t block_bytes_ = 0;       // of the sections
  std::vector<int32_t> lengths_;  // [slots] tokens with KV, the current step's included

  // The sections being packed. Capacities are reserved.
  std::vector<SlotBinding> bindings_;
  std::vector<TokenBias> bias_;
  std::vector<int32_t> stop_ids_;
  std::vector<int32_t> history_;
  std::vector<PageEntry> pages_;
  std::vector<StepRow> rows_;
  std::vector<int32_t> tokens_;
  std::vector<OutputEntry> outputs_;
};

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_STEP_UPLOAD_H_
