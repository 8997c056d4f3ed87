// CudaDevice: Gemm, on the path that gemm_select.h plans.
#include <algorithm>
#include <cstdio>
#include <string>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/gemm_select.h"
#include "kernels/cuda/launchers.h"
#include "kernels/shape_check.h"

namespace baram::cuda {
namespace {

// One block of memory: cuBLASLt's workspace and the partial sums of our own kernels, which never
// run at the same time, then the tiles' counters, then results that wait to be rounded.
constexpr int64_t kSumBytes =
    kSplitBytes > CublasLt::kWorkspaceBytes ? kSplitBytes : CublasLt::kWorkspaceBytes;
constexpr int64_t kCounterBytes = kMaxSplitTiles * int64_t{sizeof(uint32_t)};

SplitMemory SplitMemoryIn(void* memory) {
  auto* bytes = static_cast<std::byte*>(memory);
  return {reinterpret_cast<float*>(bytes), reinterpret_cast<uint32_t*>(bytes + kSumBytes)};
}
void* WideMemoryIn(void* memory) {
  return static_cast<std::byte*>(memory) + kSumBytes + kCounterBytes;
}

Tensor RowsFrom(const Tensor& tensor, int64_t begin, int64_t count) {
  Tensor part = tensor;
  part.data =
      static_cast<std::byte*>(tensor.data) + begin * tensor.stride * DTypeBytes(tensor.dtype);
  part.rows = count;
  return part;
}

}  // namespace

int64_t CudaDevice::GemmBytes() { return kSumBytes + kCounterBytes + kWideBytes; }

Error CudaDevice::OpenGemm() {
  Error error =
      MakeOwned(&gemm_memory_, [](void** memory) { return Allocate(GemmBytes(), memory); });
  if (error == nullptr) {
    error = Fill(SplitMemoryIn(gemm_memory_.get()).arrived, 0, kCounterBytes, stream_.get());
  }
  if (error != nullptr) return error;
  std::string missing;
  cublaslt_ = CublasLt::Open(gemm_memory_.get(), &missing);
  if (cublaslt_ == nullptr) {
    std::fprintf(stderr, "baram: %s: %s; long prompts will be slower\n", info_.name.c_str(),
                 missing.c_str());
  }
  return nullptr;
}

std::string CudaDevice::UnsupportedGemm(const GemmArgs& args) const {
  if (args.a.dtype != DType::kBF16) return "Gemm: a is not bf16";
  if (args.weight.shape.format.dtype != DType::kBF16) return "Gemm: the weight is not bf16";
  if (args.out.dtype != DType::kBF16 && args.out.dtype != DType::kF32) {
    return "Gemm: out is neither bf16 nor f32";
  }
  return "";
}

bool CudaDevice::GemmByLibrary(const GemmArgs& args, const GemmPlan& plan) {
  if (plan.wide_rows == 0) return cublaslt_->Multiply(args, stream_.get());
  for (int64_t begin = 0; begin < args.a.rows; begin += plan.wide_rows) {
    const int64_t count = std::min<int64_t>(plan.wide_rows, args.a.rows - begin);
    GemmArgs part = args;
    part.a = RowsFrom(args.a, begin, count);
    part.out = DenseTensor(WideMemoryIn(gemm_memory_.get()), DType::kF32, count, args.out.cols);
    if (!cublaslt_->Multiply(part, stream_.get())) return false;
    LaunchRound(part.out, RowsFrom(args.out, begin, count), stream_.get());
  }
  return true;
}

void CudaDevice::Gemm(const GemmArgs& args) {
  DCheckShapes(args);
  if (args.a.rows == 0) return;
  const GemmProblem problem = ProblemOf(args);
  GemmPlan plan = SelectGemm(problem, {facts_.multiprocessors, cublaslt_ != nullptr});
  if (plan.path == GemmPath::kCublasLt) {
    if (GemmByLibrary(args, plan)) return;
    plan = SelectOwnGemm(problem, facts_.multiprocessors);
  }
  const SplitMemory memory = SplitMemoryIn(gemm_memory_.get());
  if (plan.path == GemmPath::kSkinny) {
    LaunchGemmSkinny(args, plan, memory, stream_.get());
  } else {
    LaunchGemmMma(args, plan, memory, stream_.get());
  }
}

}  // namespace baram::cuda
