// The last step of a product whose result a library leaves in fp32: out = sums, rounded to bf16.
//
// Per element 4 bytes read, from L2, where gemm_select.h keeps them, and 2 written. One thread per
// vector of 8, blocks along the columns.
#include <algorithm>

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/prims/vector.h"
#include "kernels/rounding.h"

namespace baram::cuda {
namespace {

constexpr uint32_t kMaxThreads = 256;
constexpr int64_t kMaxGridRows = 32768;  // CUDA's limit is 65535

struct RoundLaunch {
  Rows sums;
  Rows out;
  int64_t rows;
  int64_t columns;
};

__global__ void __launch_bounds__(kMaxThreads)
    RoundKernel(const __grid_constant__ RoundLaunch args) {
  WaitForPrevious();
  LetNextStart();
  const int64_t begin = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kWideVector;
  if (begin >= args.columns) return;
  for (int64_t r = blockIdx.y; r < args.rows; r += gridDim.y) {
    float values[kWideVector];
    LoadVector<kWideVector>(args.sums.template Row<float>(r) + begin, values);
    StoreVector<kWideVector>(values, args.out.template Row<Bf16>(r) + begin);
  }
}

}  // namespace

void LaunchRound(const Tensor& sums, const Tensor& out, LaunchStream stream) {
  if (sums.rows == 0) return;
  const RoundLaunch launch{RowsOf(sums), RowsOf(out), sums.rows, sums.cols};
  const int64_t vectors = sums.cols / kWideVector;
  const uint32_t threads = BlockThreads(vectors, kMaxThreads);
  const Dim3 grid{static_cast<uint32_t>(CeilDivide(vectors, threads)),
                  static_cast<uint32_t>(std::min(sums.rows, kMaxGridRows))};
  Launch(RoundKernel, grid, {threads}, 0, stream, launch);
}

}  // namespace baram::cuda
