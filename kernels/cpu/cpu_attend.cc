// CpuDevice: the cache and the ops that read and write it.
#include <cstddef>

#include "kernels/cpu/attend_plan.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/kv_layout.h"
#include "kernels/rounding.h"
#include "kernels/shape_check.h"

namespace baram::cpu {
namespace {

int64_t PartialBytes(const HeadShape& head) {
  const int64_t floats = RoundUp(head.head_dim, 16) + kPartialTail;
  return kMaxPartials * head.heads * floats * static_cast<int64_t>(sizeof(float));
}

}  // namespace

int64_t CpuDevice::KvBytesPerPage(const KvShape& shape) const { return KvPageBytes(shape); }

// The partials, the split runs, and the runs to compute: at most one per token, plus the shares.
int64_t CpuDevice::AttendScratchBytes(const KvShape& shape, const SlotShape& slots) const {
  const int64_t runs = kMaxSplitRuns + slots.max_step_tokens + kMaxPartials;
  return PartialBytes(shape.head) + runs * static_cast<int64_t>(sizeof(AttendRun));
}

void CpuDevice::StoreKv(const StoreKvArgs& args) {
  DCheckShapes(args);
  const StoreKvJob job = {.cache = ViewCache(args.pool, args.layer, args.step),
                          .positions = args.step.positions,
                          .token_slots = args.step.token_slots,
                          .qkv = args.qkv,
                          .q_norm = args.q_norm,
                          .k_norm = args.k_norm,
                          .eps = args.eps,
                          .rope = args.rope.data,
                          .rotary_dim = args.rope.rotary_dim,
                          .interleaved = args.rope.layout == RopeLayout::kInterleaved};
  // A few rows cost less than waking a worker. Neighbouring tokens of a prompt share cache lines,
  // 16 of them one line of keys: two workers that write the same line wait for each other.
  constexpr int64_t kTokenGrain = 4;
  constexpr int64_t kPromptGrain = 32;
  const int64_t tokens = args.step.tokens;
  Run(kernels_->store_kv, job, tokens,
      tokens < 2 * kPromptGrain * pool_.workers() ? kTokenGrain : kPromptGrain);
}

void CpuDevice::Attend(const AttendArgs& args) {
  DCheckShapes(args);
  const HeadShape& head = args.pool.shape.head;
  auto* split_runs =
      reinterpret_cast<AttendRun*>(static_cast<std::byte*>(args.scratch) + PartialBytes(head));
  AttendRun* runs = split_runs + kMaxSplitRuns;
  const AttendPlan plan =
      PlanAttend(args.step, head, args.window, pool_.workers(), runs, split_runs);
  // The products of a tile cost the same for fewer heads.
  const int32_t heads = kernels_->gemm_form.tiles
                            ? MaxHeadsPerUnit(head)
                            : ChooseHeadsPerUnit(head, plan.run_count, pool_.workers());
  AttendJob job = {.cache = ViewCache(args.pool, args.layer, args.step),
                   .runs = runs,
                   .run_count = plan.run_count,
                   .heads_per_unit = heads,
                   .partials = static_cast<float*>(args.scratch),
                   .q = args.q,
                   .window = args.window,
                   .scale = args.scale,
                   .out = args.out};
  Run(kernels_->attend, job, AttendUnitCount(head, plan.run_count, heads), 1);
  if (plan.split_count == 0) return;
  job.runs = split_runs;
  job.run_count = plan.split_count;
  // As above: a few heads of a few segments cost less than waking a worker.
  constexpr int64_t kHeadGrain = 4;
  Run(kernels_->merge_attend, job, plan.split_count * head.heads, kHeadGrain);
}

}  // namespace baram::cpu
