// CpuDevice: the ops other than GEMM, from their arguments to jobs, units and tiles.
#include "kernels/cpu/cpu_device.h"

namespace baram::cpu {
namespace {

// Rows a tile takes: large enough to cost more than taking a tile, small enough to share.
constexpr int64_t kRowGrain = 4;

}  // namespace

void CpuDevice::Norm(const NormArgs& args) {
  const NormJob job = {args.x, args.weight, args.eps, args.out};
  Run(kernels_->norm, job, args.x.rows, kRowGrain);
}

void CpuDevice::AddNorm(const AddNormArgs& args) {
  const AddNormJob job = {args.branch, args.residual, args.post_weight, args.pre_weight,
                          args.scale,  args.eps,      args.out};
  Run(kernels_->add_norm, job, args.branch.rows, kRowGrain);
}

void CpuDevice::Act(const ActArgs& args) {
  const ActJob job = {args.gate_up, args.kind == Activation::kGeluTanh, args.out};
  Run(kernels_->act, job, args.gate_up.rows, kRowGrain);
}

}  // namespace baram::cpu
