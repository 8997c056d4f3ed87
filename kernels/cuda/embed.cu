// Embed: out[t] = scale * table[token_ids[t]], from the packed head table.
//
// Bound by memory latency: a row of 2 d bytes read, 4 d written. One block per token.
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/pack.h"
#include "kernels/cuda/prims/vector.h"

namespace baram::cuda {
namespace {

constexpr uint32_t kMaxThreads = 256;

struct EmbedLaunch {
  const int32_t* token_ids;
  const Bf16* table;
  int64_t table_stride;
  Rows out;
  int64_t d;
  float scale;
};

template <typename Out, int kN>
__global__ void __launch_bounds__(kMaxThreads)
    EmbedKernel(const __grid_constant__ EmbedLaunch args) {
  WaitForPrevious();
  LetNextStart();
  const int64_t t = blockIdx.x;
  const Bf16* row = args.table + args.token_ids[t] * args.table_stride;
  Out* out = args.out.template Row<Out>(t);
  for (int64_t begin = int64_t{threadIdx.x} * kN; begin < args.d;
       begin += int64_t{blockDim.x} * kN) {
    float values[kN];
    LoadVector<kN>(row + begin, values);
    for (int i = 0; i < kN; ++i) values[i] *= args.scale;
    StoreVector<kN>(values, out + begin);
  }
}

}  // namespace

void LaunchEmbed(const EmbedArgs& args, LaunchStream stream) {
  if (args.step.tokens == 0) return;
  const int64_t d = args.out.cols;
  const EmbedLaunch launch{.token_ids = args.step.token_ids,
                           .table = static_cast<const Bf16*>(args.table.data),
                           .table_stride = PackedStride(args.table.shape),
                           .out = RowsOf(args.out),
                           .d = d,
                           .scale = args.scale};
  WithType(args.out.dtype, [&](auto out) {
    WithWidth(IsWide(args.out) && IsWide(args.table.data, d), [&](auto width) {
      using Out = typename decltype(out)::Type;
      Launch(EmbedKernel<Out, width()>, {static_cast<uint32_t>(args.step.tokens)},
             {BlockThreads(d / width(), kMaxThreads)}, 0, stream, launch);
    });
  });
}

}  // namespace baram::cuda
