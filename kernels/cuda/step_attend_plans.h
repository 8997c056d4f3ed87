// StepAttendPlans: the current step's attention plans, on the host and in GPU memory.
#ifndef BARAM_KERNELS_CUDA_STEP_ATTEND_PLANS_H_
#define BARAM_KERNELS_CUDA_STEP_ATTEND_PLANS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/attend_plan.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/step_block.h"
#include "kernels/step.h"

namespace baram::cuda {

// Owned by the device, used by the executor thread. A model has one or two kinds of attention, with
// and without a window; a kind is planned when a layer first asks for it, and from then on at the
// beginning of every step, in time for the step's own upload. So a graph, captured once its kinds
// are known, finds each step's plans at fixed addresses.
//
// In the block each kind has a place below the border for its share_begin, whose size depends on
// its heads; the pieces of all kinds are one array that begins at the border.
class StepAttendPlans {
 public:
  struct Planned {
    AttendKind kind;
    AttendPlan plan;
    AttendPlanArrays arrays;
    int64_t place = 0;      // bytes from the border, below 0
    bool in_graph = false;  // must keep its place
  };

  // Bytes that plans need in a StepBlock, below the border and from it on.
  static int64_t BytesBelow(const SlotShape& shape, const AttendDevice& device);
  static int64_t BytesAbove(const SlotShape& shape, const AttendDevice& device);
  // `block` must outlive it.
  void Reserve(const SlotShape& shape, const AttendDevice& device, StepBlock* block);
  // Plans for the rows, which must stay valid until the next call, and packs the plans into the
  // staging, from begin() to end(). Allocates nothing and copies nothing to the GPU.
  void BeginStep(std::span<const StepRow> rows);
  // The part of the block that holds plans, in bytes from the border.
  int64_t begin() const { return begin_; }
  int64_t end() const { return end_; }
  // The step's plan, in GPU memory from the step's upload on. Valid until the next call.
  // `captured`: for a graph; the kind must be known.
  const Planned& For(const AttendKind& kind, bool captured);

 private:
  // One kind more restarts the list. No model has more: layers of one window share page tables.
  static constexpr size_t kMaxKinds = kMaxKvGroups;

  // Plans for the step's rows and packs the plan after those already packed.
  void Pack(Planned& planned);

  AttendDevice device_;
  StepBlock* block_ = nullptr;
  int64_t bytes_above_ = 0;
  std::span<const StepRow> rows_;
  std::array<Planned, kMaxKinds> planned_;
  size_t kinds_ = 0;  // planned so far
  int64_t begin_ = 0;
  int64_t end_ = 0;
};

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_STEP_ATTEND_PLANS_H_
