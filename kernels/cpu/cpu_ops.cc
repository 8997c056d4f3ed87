// CpuDevice: Norm, AddNorm, Act and Sample, from their arguments to jobs, units and tasks.
#include "kernels/check.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/shape_check.h"

namespace baram::cpu {
namespace {

// Rows per task: enough to outweigh the cost of taking a task, few enough to share the work.
constexpr int64_t kRowGrain = 4;

}  // namespace

void CpuDevice::Norm(const NormArgs& args) {
  DCheckShapes(args);
  const NormJob job = {args.x, args.weight, args.eps, args.out};
  Run(kernels_->norm, job, args.x.rows, kRowGrain);
}

void CpuDevice::AddNorm(const AddNormArgs& args) {
  DCheckShapes(args);
  const AddNormJob job = {args.branch, args.residual, args.post_weight, args.pre_weight,
                          args.scale,  args.eps,      args.out};
  Run(kernels_->add_norm, job, args.branch.rows, kRowGrain);
}

void CpuDevice::Act(const ActArgs& args) {
  DCheckShapes(args);
  const ActJob job = {args.gate_up, args.kind == Activation::kGeluTanh, args.out};
  // A task of four long rows takes longer than idle workers spin for the next op.
  constexpr int64_t kLongRow = 4096;
  Run(kernels_->act, job, args.gate_up.rows, args.out.cols < kLongRow ? kRowGrain : 1);
}

// One row per task: rows differ in cost. A row of 150,000 ids takes a thread about 200 us.
void CpuDevice::Sample(const SampleArgs& args) {
  DCheckShapes(args);
  Check(args.valid_vocab <= slots_.shape().vocab_size,
        "Sample stays within the reserved vocabulary");
  Run(args.step.outputs, 1, [&](int64_t begin, int64_t end, const Worker& worker) {
    for (int64_t output = begin; output < end; ++output) {
      sampler_.SampleRow(args, static_cast<int32_t>(output), worker.index, slots_);
    }
  });
}

}  // namespace baram::cpu
