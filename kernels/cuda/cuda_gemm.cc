// CudaDevice: Gemm, on the path that gemm_select.h plans.
#include <cstdio>
#include <string>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/gemm_select.h"
#include "kernels/cuda/launchers.h"
#include "kernels/shape_check.h"

namespace baram::cuda {
namespace {

// One block of memory: cuBLASLt's workspace and the partial sums of our own kernels, which never
// run at the same time, then the tiles' counters.
constexpr int64_t kSumBytes =
    kSplitBytes > CublasLt::kWorkspaceBytes ? kSplitBytes : CublasLt::kWorkspaceBytes;
constexpr int64_t kCounterBytes = kMaxSplitTiles * int64_t{sizeof(uint32_t)};

SplitMemory SplitMemoryIn(void* memory) {
  auto* bytes = static_cast<std::byte*>(memory);
  return {reinterpret_cast<float*>(bytes), reinterpret_cast<uint32_t*>(bytes + kSumBytes)};
}

}  // namespace

int64_t CudaDevice::GemmBytes() { return kSumBytes + kCounterBytes; }

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

void CudaDevice::Gemm(const GemmArgs& args) {
  DCheckShapes(args);
  if (args.a.rows == 0) return;
  const GemmProblem problem = ProblemOf(args);
  GemmPlan plan = SelectGemm(problem, {facts_.multiprocessors, cublaslt_ != nullptr});
  if (plan.path == GemmPath::kCublasLt) {
    if (cublaslt_->Multiply(args, stream_.get())) return;
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
