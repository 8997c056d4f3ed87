// StoreKv: per-head RMSNorm of q and k, rotation, and writing k and v to their pages, in one
// kernel.
//
// Bound by memory: a token reads and writes its row of qkv once. A warp takes one head of one
// token; the head is kept in shared memory as fp32 between norm and rotation, because a rotation
// pairs elements that different lanes load. Padding of a step (slot -1) is skipped.
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/kv_layout.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/prims/reduce.h"
#include "kernels/cuda/prims/vector.h"
#include "kernels/rounding.h"

namespace baram::cuda {
namespace {

constexpr int kWarps = 8;
constexpr uint32_t kThreads = kWarps * kWarpThreads;

struct StoreKvLaunch {
  KvView kv;
  const int32_t* positions;
  const int32_t* token_slots;
  Rows qkv;  // [tokens, (heads + 2 * kv_heads) * head_dim]
  int32_t heads;
  int32_t kv_heads;
  int32_t head_dim;
  const float* q_norm;  // [head_dim] or null
  const float* k_norm;  // [head_dim] or null
  float eps;
  const float* rope;  // [positions, rotary_dim] or null
  int32_t rotary_dim;
  RopeLayout layout;
};

__device__ __forceinline__ void NormHead(float* head, int32_t hd, const float* weight, float eps) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % kWarpThreads;
  float sum = 0;
  for (int32_t i = lane; i < hd; i += kWarpThreads) sum += head[i] * head[i];
  sum = WarpReduce<Sum>(sum);
  const float inverse = ReciprocalSqrt(sum / static_cast<float>(hd) + eps);
  for (int32_t i = lane; i < hd; i += kWarpThreads) head[i] *= inverse * weight[i];
  SyncWarp();
}

// `table`: rotary_dim / 2 cosines, then as many sines.
__device__ __forceinline__ void RotateHead(float* head, const float* table, int32_t rotary_dim,
                                           RopeLayout layout) {
  const int32_t half = rotary_dim / 2;
  const bool split = layout == RopeLayout::kHalfSplit;
  for (int32_t i = static_cast<int32_t>(threadIdx.x) % kWarpThreads; i < half; i += kWarpThreads) {
    float& a = head[split ? i : 2 * i];
    float& b = head[split ? i + half : 2 * i + 1];
    const float cosine = table[i];
    const float sine = table[half + i];
    const float x = a;
    const float y = b;
    a = x * cosine - y * sine;
    b = y * cosine + x * sine;
  }
  SyncWarp();
}

template <int kN>
__global__ void __launch_bounds__(kThreads)
    StoreKvKernel(const __grid_constant__ StoreKvLaunch args) {
  WaitForPrevious();
  LetNextStart();
  alignas(16) __shared__ float heads[kWarps][kMaxHeadDim];
  const int32_t warp = static_cast<int32_t>(threadIdx.x) / kWarpThreads;
  const int32_t first = static_cast<int32_t>(threadIdx.x) % kWarpThreads * kN;
  const int32_t h = static_cast<int32_t>(blockIdx.y) * kWarps + warp;
  if (h >= args.heads + 2 * args.kv_heads) return;
  const int64_t t = blockIdx.x;
  const int32_t slot = args.token_slots[t];
  if (slot < 0) return;
  const int32_t position = args.positions[t];
  const int32_t hd = args.head_dim;
  Bf16* source = args.qkv.Row<Bf16>(t) + int64_t{h} * hd;
  float* head = heads[warp];
  for (int32_t i = first; i < hd; i += kWarpThreads * kN) {
    float values[kN];
    LoadVector<kN>(source + i, values);
    StoreVector<kN>(values, head + i);
  }
  SyncWarp();

  const bool is_query = h < args.heads;
  const bool is_value = h >= args.heads + args.kv_heads;
  const float* norm = is_query ? args.q_norm : args.k_norm;
  if (!is_value && norm != nullptr) NormHead(head, hd, norm, args.eps);
  if (!is_value && args.rope != nullptr) {
    RotateHead(head, args.rope + int64_t{position} * args.rotary_dim, args.rotary_dim, args.layout);
  }

  Bf16* to = source;
  int32_t columns = hd;
  if (!is_query) {
    const int32_t kv_head = h - args.heads - (is_value ? args.kv_heads : 0);
    const int32_t page = args.kv.Page(slot, position >> args.kv.page_shift);
    const int32_t offset = position & ((1 << args.kv.page_shift) - 1);
    to = args.kv.Plane(page, kv_head, is_value ? 1 : 0) + int64_t{offset} * args.kv.row_elements;
    columns = args.kv.row_elements;
  }
  for (int32_t i = first; i < columns; i += kWarpThreads * kN) {
    float values[kN];
    for (int j = 0; j < kN; ++j) values[j] = i + j < hd ? head[i + j] : 0.0f;
    StoreVector<kN>(values, to + i);
  }
}

}  // namespace

void LaunchStoreKv(const StoreKvArgs& args, LaunchStream stream) {
  if (args.step.tokens == 0) return;
  const HeadShape& head = args.pool.shape.head;
  const StoreKvLaunch launch{.kv = ViewKv(args.pool, args.layer, args.step),
                             .positions = args.step.positions,
                             .token_slots = args.step.token_slots,
                             .qkv = RowsOf(args.qkv),
                             .heads = head.heads,
                             .kv_heads = head.kv_heads,
                             .head_dim = head.head_dim,
                             .q_norm = args.q_norm,
                             .k_norm = args.k_norm,
                             .eps = args.eps,
                             .rope = args.rope.data,
                             .rotary_dim = args.rope.rotary_dim,
                             .layout = args.rope.layout};
  const int32_t units = head.heads + 2 * head.kv_heads;
  const Dim3 grid{static_cast<uint32_t>(args.step.tokens),
                  static_cast<uint32_t>(CeilDivide(units, kWarps))};
  WithWidth(IsWide(args.qkv) && head.head_dim % kWideVector == 0, [&](auto width) {
    Launch(StoreKvKernel<width()>, grid, {kThreads}, 0, stream, launch);
  });
}

}  // namespace baram::cuda
