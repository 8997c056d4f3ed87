// Attention plans, uploaded like the device does it, but in isolation.
#ifndef BARAM_TESTS_KERNELS_CUDA_PLANS_H_
#define BARAM_TESTS_KERNELS_CUDA_PLANS_H_

#include <span>

#include "kernels/cuda/step_attend_plans.h"
#include "kernels/cuda/step_block.h"

namespace baram::cuda {

struct UploadedPlans {
  Error Reserve(const SlotShape& shape, const AttendDevice& device, Stream stream) {
    plans.Reserve(shape, device, &block);
    return block.Reserve(StepAttendPlans::BytesBelow(shape, device),
                         StepAttendPlans::BytesAbove(shape, device), stream);
  }
  void BeginStep(std::span<const StepRow> rows) {
    block.Begin();
    plans.BeginStep(rows);
    block.Copy(plans.begin(), plans.end());
  }

  StepBlock block;
  StepAttendPlans plans;
};

}  // namespace baram::cuda

#endif  // BARAM_TESTS_KERNELS_CUDA_PLANS_H_
