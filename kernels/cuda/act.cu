// Act: SwiGLU and GeGLU, out = act(gate) * up.
//
//   silu(x) = x / (1 + e^-x);  gelu(x) = x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3),
// which is 0.5 x (1 + tanh(u)) without its cancellation.
// Bound by memory: 6 bytes per bf16 output. One thread per vector, blocks along the columns.
#include <algorithm>

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/prims/vector.h"
#include "kernels/rounding.h"

namespace baram::cuda {
namespace {

constexpr uint32_t kMaxThreads = 256;
constexpr uint32_t kMaxGridRows = 32768;  // CUDA's limit is 65535

struct ActLaunch {
  Rows gate_up;
  Rows out;
  int64_t rows;
  int64_t f;
  Activation kind;
};

__device__ __forceinline__ float Activate(float x, Activation kind) {
  constexpr float kTwoSqrt2OverPi = 1.5957691216f;
  const float u = kind == Activation::kSilu ? x : kTwoSqrt2OverPi * (x + 0.044715f * x * x * x);
  return x / (1.0f + expf(-u));
}

template <typename In, typename Out, int kN>
__global__ void __launch_bounds__(kMaxThreads) ActKernel(const __grid_constant__ ActLaunch args) {
  WaitForPrevious();
  LetNextStart();
  const int64_t begin = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kN;
  if (begin >= args.f) return;
  for (int64_t r = blockIdx.y; r < args.rows; r += gridDim.y) {
    const In* gate = args.gate_up.template Row<In>(r);
    float x[kN], up[kN];
    LoadVector<kN>(gate + begin, x);
    LoadVector<kN>(gate + args.f + begin, up);
    for (int i = 0; i < kN; ++i) x[i] = Activate(x[i], args.kind) * up[i];
    StoreVector<kN>(x, args.out.template Row<Out>(r) + begin);
  }
}

}  // namespace

void LaunchAct(const ActArgs& args, LaunchStream stream) {
  if (args.out.rows == 0) return;
  const int64_t f = args.out.cols;
  const bool wide = IsWide(args.gate_up) && IsWide(args.out);
  const ActLaunch launch{RowsOf(args.gate_up), RowsOf(args.out), args.out.rows, f, args.kind};
  WithType(args.gate_up.dtype, [&](auto in) {
    WithType(args.out.dtype, [&](auto out) {
      WithWidth(wide, [&](auto width) {
        using In = typename decltype(in)::Type;
        using Out = typename decltype(out)::Type;
        const int64_t vectors = f / width();
        const uint32_t threads = BlockThreads(vectors, kMaxThreads);
        const Dim3 grid{static_cast<uint32_t>(CeilDivide(vectors, threads)),
                        static_cast<uint32_t>(std::min<int64_t>(args.out.rows, kMaxGridRows))};
        Launch(ActKernel<In, Out, width()>, grid, {threads}, 0, stream, launch);
      });
    });
  });
}

}  // namespace baram::cuda
