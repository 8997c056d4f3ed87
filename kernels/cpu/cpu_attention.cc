// CpuDevice: the cache and the ops that read and write it.
#include "kernels/cpu/attend_plan.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/kv_layout.h"
#include "kernels/shape_check.h"

namespace baram::cpu {

int64_t CpuDevice::KvBytesPerPage(const KvShape& shape) const { return KvPageBytes(shape); }

// Room for the plan: a run a token at most.
int64_t CpuDevice::AttendScratchBytes(const KvShape&, const SlotShape& slots) const {
  return int64_t{slots.max_step_tokens} * static_cast<int64_t>(sizeof(AttendRun));
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
  auto* runs = static_cast<AttendRun*>(args.scratch);
  const int64_t run_count = PlanAttend(args.step, TokensPerUnit(head), args.window, runs);
  // The products of a tile cost the same for fewer heads.
  const int32_t heads = kernels_->gemm_form.tiles ? HeadsPerUnit(head)
                                                  : HeadsPerUnit(head, run_count, pool_.workers());
  const AttendJob job = {.cache = ViewCache(args.pool, args.layer, args.step),
                         .runs = runs,
                         .run_count = run_count,
                         .heads_per_unit = heads,
                         .q = args.q,
                         .window = args.window,
                         .scale = args.scale,
                         .out = args.out};
  Run(kernels_->attend, job, AttendUnits(head, run_count, heads), 1);
}

}  // namespace baram::cpu
