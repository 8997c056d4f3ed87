// AttendPlans: the current step's plans of attention, on the host and in GPU memory.
#ifndef BARAM_KERNELS_CUDA_ATTEND_PLANS_H_
#define BARAM_KERNELS_CUDA_ATTEND_PLANS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/attend_plan.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/launchers.h"
#include "kernels/step.h"

namespace baram::cuda {

// Owned by the device, used by the executor thread. A model has one or two kinds of attention, with
// and without a window; a kind is planned when a layer first asks for it, and at the beginning of
// every step from then on. So a graph, captured when its kinds are known, finds the plans of its
// step at addresses that stay; a kind that a graph uses keeps its place.
class AttendPlans {
 public:
  struct Planned {
    AttendKind kind;
    AttendPlan plan;
    AttendPlanArrays arrays;
    bool in_graph = false;  // must keep its place
  };

  // The GPU memory that Reserve takes.
  static int64_t DeviceBytes(const SlotShape& shape, const AttendDevice& device);
  Error Reserve(const SlotShape& shape, const AttendDevice& device, Stream stream);
  // Plans for the rows, which must stay until the next call. Nothing is allocated.
  void BeginStep(std::span<const StepRow> rows);
  // The step's plan. Valid until the next call. `captured`: for a graph; the kind must be known.
  const Planned& For(const AttendKind& kind, bool captured = false);
  // The first error since Reserve.
  Error error() const { return error_; }

 private:
  // A kind more takes the place of the oldest. No model has more: its layers of one window share
  // page tables.
  static constexpr size_t kMostKinds = kMaxKvGroups;

  // Plans `planned` and copies the plans to the GPU.
  void Plan(std::span<Planned> planned);
  // Lays a plan out in `words` and returns how many there are.
  int64_t Pack(const Planned& planned, int32_t* words) const;
  void Note(Error error) {
    if (error_ == nullptr) error_ = error;
  }

  AttendDevice device_;
  Stream stream_ = nullptr;
  int64_t block_words_ = 0;  // of the largest plan
  DeviceMemory memory_;      // [kMostKinds, block_words_]
  struct Staging {
    PinnedMemory memory;  // as memory_
    OwnedEvent copied;
  };
  std::array<Staging, 2> stagings_;
  int next_staging_ = 0;
  std::span<const StepRow> rows_;
  std::array<Planned, kMostKinds> planned_;
  size_t kinds_ = 0;  // that are planned
  size_t oldest_ = 0;
  Error error_ = nullptr;
};

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_ATTEND_PLANS_H_
