// Norm and AddNorm: RMSNorm, alone or fused with the update of the residual stream.
//
//   y = post ? RMSNorm(branch, post) : branch;  residual += scale * y
//   out = pre ? RMSNorm(residual, pre) : residual
//
// Bound by memory: a row of AddNorm moves d * (4 + 4 + 4 + 2) bytes with an fp32 branch and a bf16
// result, and reads the norm weights from L2. One block per row; the row stays in shared memory as
// fp32 between the passes, each thread keeping its own elements, so that only the two sums need
// barriers.

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/prims/reduce.h"
#include "kernels/cuda/prims/vector.h"

namespace baram::cuda {
namespace {

constexpr uint32_t kMaxThreads = 512;

struct NormLaunch {
  Rows x;
  const float* weight;
  Rows out;
  int64_t d;
  float eps;
};

struct AddNormLaunch {
  Rows branch;
  Rows residual;
  const float* post_weight;  // or null
  const float* pre_weight;   // or null
  Rows out;
  int64_t d;
  float scale;
  float eps;
};

template <int kN>
__device__ __forceinline__ float SquareSum(const float (&values)[kN]) {
  float sum = 0;
  for (int i = 0; i < kN; ++i) sum += values[i] * values[i];
  return sum;
}

// Calls visit(begin) for the first element of each of this thread's vectors.
template <int kN, typename Visit>
__device__ __forceinline__ void ForOwnVectors(int64_t d, const Visit& visit) {
  for (int64_t begin = int64_t{threadIdx.x} * kN; begin < d; begin += int64_t{blockDim.x} * kN) {
    visit(begin);
  }
}

__device__ __forceinline__ float InverseRms(float square_sum, int64_t d, float eps,
                                            float* partial) {
  const float sum = BlockReduce<Sum>(square_sum, partial);
  return ReciprocalSqrt(sum / static_cast<float>(d) + eps);
}

// Norm weights are constant memory: they may be fetched while the previous kernel still runs.
template <int kN>
__device__ __forceinline__ void PrefetchWeights(const float* weight, int64_t d) {
  if (weight == nullptr) return;
  ForOwnVectors<kN>(d, [&](int64_t begin) { PrefetchConstant(weight + begin); });
}

// out = row * inverse * weight, for the elements of this thread.
template <int kN, typename Out>
__device__ __forceinline__ void StoreNormed(const float* row, float inverse, const float* weight,
                                            int64_t d, Out* out) {
  ForOwnVectors<kN>(d, [&](int64_t begin) {
    float values[kN], weights[kN];
    LoadVector<kN>(row + begin, values);
    LoadVector<kN>(weight + begin, weights);
    for (int i = 0; i < kN; ++i) values[i] *= inverse * weights[i];
    StoreVector<kN>(values, out + begin);
  });
}

template <typename In, typename Out, int kN>
__global__ void __launch_bounds__(kMaxThreads) NormKernel(const __grid_constant__ NormLaunch args) {
  PrefetchWeights<kN>(args.weight, args.d);
  WaitForPrevious();
  LetNextStart();
  __shared__ float partial[kWarpThreads];
  float* row = DynamicShared<float>();
  const In* x = args.x.template Row<In>(blockIdx.x);
  float sum = 0;
  ForOwnVectors<kN>(args.d, [&](int64_t begin) {
    float values[kN];
    LoadVector<kN>(x + begin, values);
    sum += SquareSum(values);
    StoreVector<kN>(values, row + begin);
  });
  const float inverse = InverseRms(sum, args.d, args.eps, partial);
  StoreNormed<kN>(row, inverse, args.weight, args.d, args.out.template Row<Out>(blockIdx.x));
}

template <typename Branch, typename Out, int kN>
__global__ void __launch_bounds__(kMaxThreads)
    AddNormKernel(const __grid_constant__ AddNormLaunch args) {
  PrefetchWeights<kN>(args.post_weight, args.d);
  PrefetchWeights<kN>(args.pre_weight, args.d);
  WaitForPrevious();
  LetNextStart();
  __shared__ float partial[kWarpThreads];
  float* row = DynamicShared<float>();
  const int64_t r = blockIdx.x;
  const Branch* branch = args.branch.template Row<Branch>(r);
  float* residual = args.residual.template Row<float>(r);

  float post_inverse = 1.0f;
  if (args.post_weight != nullptr) {
    float sum = 0;
    ForOwnVectors<kN>(args.d, [&](int64_t begin) {
      float values[kN];
      LoadVector<kN>(branch + begin, values);
      sum += SquareSum(values);
    });
    post_inverse = InverseRms(sum, args.d, args.eps, partial);
  }

  float sum = 0;
  ForOwnVectors<kN>(args.d, [&](int64_t begin) {
    float values[kN], sums[kN];
    LoadVector<kN>(branch + begin, values);
    LoadVector<kN>(residual + begin, sums);
    if (args.post_weight != nullptr) {
      float weights[kN];
      LoadVector<kN>(args.post_weight + begin, weights);
      for (int i = 0; i < kN; ++i) values[i] *= post_inverse * weights[i];
    }
    for (int i = 0; i < kN; ++i) sums[i] += args.scale * values[i];
    StoreVector<kN>(sums, residual + begin);
    StoreVector<kN>(sums, row + begin);
    sum += SquareSum(sums);
  });
  Out* out = args.out.template Row<Out>(r);
  if (args.pre_weight == nullptr) {
    ForOwnVectors<kN>(args.d, [&](int64_t begin) {
      float values[kN];
      LoadVector<kN>(row + begin, values);
      StoreVector<kN>(values, out + begin);
    });
    return;
  }
  const float inverse = InverseRms(sum, args.d, args.eps, partial);
  StoreNormed<kN>(row, inverse, args.pre_weight, args.d, out);
}

// A row, and the sums of a block's warps.
int64_t RowSharedBytes(int64_t d) { return (d + kWarpThreads) * int64_t{sizeof(float)}; }

bool IsWideOrNull(const float* weight, int64_t d) { return weight == nullptr || IsWide(weight, d); }

}  // namespace

int64_t SharedBytes(const NormArgs& args) { return RowSharedBytes(args.x.cols); }
int64_t SharedBytes(const AddNormArgs& args) { return RowSharedBytes(args.residual.cols); }

void LaunchNorm(const NormArgs& args, LaunchStream stream) {
  if (args.x.rows == 0) return;
  const int64_t d = args.x.cols;
  const bool wide = IsWide(args.x) && IsWide(args.out) && IsWide(args.weight, d);
  const NormLaunch launch{RowsOf(args.x), args.weight, RowsOf(args.out), d, args.eps};
  WithType(args.x.dtype, [&](auto in) {
    WithType(args.out.dtype, [&](auto out) {
      WithWidth(wide, [&](auto width) {
        using In = typename decltype(in)::Type;
        using Out = typename decltype(out)::Type;
        Launch(NormKernel<In, Out, width()>, {static_cast<uint32_t>(args.x.rows)},
               {BlockThreads(d / width(), kMaxThreads)}, d * sizeof(float), stream, launch);
      });
    });
  });
}

void LaunchAddNorm(const AddNormArgs& args, LaunchStream stream) {
  if (args.residual.rows == 0) return;
  const int64_t d = args.residual.cols;
  const bool wide = IsWide(args.branch) && IsWide(args.residual) && IsWide(args.out) &&
                    IsWideOrNull(args.post_weight, d) && IsWideOrNull(args.pre_weight, d);
  const AddNormLaunch launch{.branch = RowsOf(args.branch),
                             .residual = RowsOf(args.residual),
                             .post_weight = args.post_weight,
                             .pre_weight = args.pre_weight,
                             .out = RowsOf(args.out),
                             .d = d,
                             .scale = args.scale,
                             .eps = args.eps};
  WithType(args.branch.dtype, [&](auto branch) {
    WithType(args.out.dtype, [&](auto out) {
      WithWidth(wide, [&](auto width) {
        using Branch = typename decltype(branch)::Type;
        using Out = typename decltype(out)::Type;
        Launch(AddNormKernel<Branch, Out, width()>, {static_cast<uint32_t>(args.residual.rows)},
               {BlockThreads(d / width(), kMaxThreads)}, d * sizeof(float), stream, launch);
      });
    });
  });
}

}  // namespace baram::cuda
