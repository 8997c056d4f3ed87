// CpuDevice: packing of weights, and Gemm.
#include <algorithm>

#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/gemm_select.h"
#include "kernels/cpu/pack.h"
#include "kernels/rounding.h"
#include "kernels/shape_check.h"

namespace baram::cpu {
namespace {

// Columns of 16 rows that a worker packs at a time: about the cost of a barrier.
constexpr int64_t kPackColumnsPerTask = 4096;

}  // namespace

int64_t CpuDevice::PackedBytes(const WeightShape& shape) const { return PackedWeightBytes(shape); }

void CpuDevice::PackWeight(const WeightShape& shape, const HostRows& source, int64_t row_begin,
                           void* packed) {
  PackRows(shape, source, row_begin, packed);
}

void CpuDevice::Gemm(const GemmArgs& args) {
  DCheckShapes(args);
  if (args.a.rows == 0) return;
  GemmJob job;
  job.weight = ViewOf(args.weight);
  job.bias = args.bias;
  job.scale = args.scale;
  job.packed_a = gemm_scratch_.data();
  const GemmPlan plan = SelectGemm(args.a.rows, job.weight.n, job.weight.padded_k,
                                   kernels_->gemm_form, pool_.workers());
  job.block_k = plan.block_k;
  job.stream_out = plan.stream_out;
  const int64_t panels = CeilDivide(job.weight.n, kPanelColumns);
  const int64_t column_units = CeilDivide(job.weight.padded_k, plan.block_k);
  for (int64_t row = 0; row < args.a.rows; row += plan.chunk_rows) {
    const int64_t rows = std::min(plan.chunk_rows, args.a.rows - row);
    job.a = args.a.Rows(row, rows);
    job.out = args.out.Rows(row, rows);
    Run(kernels_->pack_a, job, CeilDivide(rows, 16) * column_units,
        kPackColumnsPerTask / plan.block_k);
    Run(kernels_->gemm, job, panels, plan.panels_per_task);
  }
}

}  // namespace baram::cpu
