// CudaDevice: Gemm, on the path that gemm_select.h chooses.
#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/cuda/algorithm_table.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/gemm_select.h"
#include "kernels/cuda/launchers.h"
#include "kernels/float_types.h"
#include "kernels/shape_check.h"

namespace baram::cuda {
namespace {

// gemm_memory_ is one block: first cuBLASLt's workspace or the partial sums of our own kernels,
// which never run at the same time; then the tiles' counters; then results waiting to be rounded.
constexpr int64_t kSumBytes =
    kSplitBytes > CublasLt::kWorkspaceBytes ? kSplitBytes : CublasLt::kWorkspaceBytes;
constexpr int64_t kCounterBytes = kMaxSplitTiles * int64_t{sizeof(uint32_t)};

void* Fp32MemoryIn(void* memory) {
  return static_cast<std::byte*>(memory) + kSumBytes + kCounterBytes;
}

// The probe is a product of this many rows, columns and depth, whose factors have every byte equal.
constexpr int64_t kProbe = 64;
constexpr uint8_t kProbeByte = 0x3f;  // 0.746 in bf16

}  // namespace

int64_t CudaDevice::GemmBytes() { return kSumBytes + kCounterBytes + kFp32Bytes; }

SplitMemory CudaDevice::SharedTiles() const {
  auto* bytes = static_cast<std::byte*>(gemm_memory_.get());
  return {reinterpret_cast<float*>(bytes), reinterpret_cast<uint32_t*>(bytes + kSumBytes)};
}

Error CudaDevice::OpenGemm() {
  Error error =
      MakeOwned(&gemm_memory_, [](void** memory) { return Allocate(GemmBytes(), memory); });
  if (error == nullptr) {
    error = Fill(SharedTiles().arrived, 0, kCounterBytes, stream_.get());
  }
  if (error != nullptr) return error;
  int64_t free_before = 0, free_after = 0;
  error = FreeMemory(&free_before);
  std::string problem;
  cublaslt_ = CublasLt::Open(gemm_memory_.get(), &problem);
  if (error == nullptr && cublaslt_ != nullptr) error = ProbeCublasLt(&problem);
  if (!problem.empty()) {
    cublaslt_.reset();
    warn_(info_.name + ": " + problem + "; long prompts will be slower");
  }
  if (error == nullptr) error = FreeMemory(&free_after);
  info_.library_bytes = free_before - free_after;
  return error;
}

Error CudaDevice::ProbeCublasLt(std::string* problem) {
  auto* a = static_cast<std::byte*>(Fp32MemoryIn(gemm_memory_.get()));
  constexpr int64_t kBytes = kProbe * kProbe * int64_t{sizeof(uint16_t)};
  std::byte* weight = a + kBytes;
  std::byte* out = weight + kBytes;
  const GemmArgs probe{.a = DenseTensor(a, DType::kBF16, kProbe, kProbe),
                       .weight = {.data = weight, .shape = {kProbe, kProbe, Format{DType::kBF16}}},
                       .out = DenseTensor(out, DType::kBF16, kProbe, kProbe)};
  if (Error error = Fill(a, kProbeByte, 2 * kBytes, stream_.get())) return error;
  if (const Error refusal = cublaslt_->Multiply(probe, false, stream_.get())) {
    LastError();  // a rejection is an answer, not the loss of the device
    *problem = std::string("cuBLASLt does not multiply here: ") + refusal;
    return nullptr;
  }
  uint16_t got = 0;
  Error error = CopyToHost(&got, out, sizeof(got), stream_.get());
  if (error == nullptr) error = Synchronize(stream_.get());
  if (error != nullptr) return error;
  const float factor = F32FromBF16(uint16_t{kProbeByte} << 8 | kProbeByte);
  const float want = kProbe * factor * factor;
  if (!(std::fabs(F32FromBF16(got) - want) < want / 64)) *problem = "cuBLASLt multiplies wrongly";
  return nullptr;
}

GemmArgs CudaDevice::LibraryPart(const GemmArgs& args, const GemmPlan& plan, int64_t begin) const {
  if (plan.fp32_rows == 0) return args;
  const int64_t count = std::min<int64_t>(plan.fp32_rows, args.a.rows - begin);
  GemmArgs part = args;
  part.a = args.a.Rows(begin, count);
  part.out = DenseTensor(Fp32MemoryIn(gemm_memory_.get()), DType::kF32, count, args.out.cols);
  return part;
}

Error CudaDevice::GemmByLibrary(const GemmArgs& args, const GemmPlan& plan) {
  int64_t count = 0;
  for (int64_t begin = 0; begin < args.a.rows; begin += count) {
    const GemmArgs part = LibraryPart(args, plan, begin);
    count = part.a.rows;
    const bool in_capture = captures_.capturing();
    if (!in_capture) Note(LastError());  // a refusal clears it
    if (const Error refusal = cublaslt_->Multiply(part, in_capture, stream_.get())) {
      if (in_capture) {
        captures_.KeepRefusal(refusal);
      } else {
        LastError();  // as in ProbeCublasLt
      }
      return refusal;
    }
    if (plan.fp32_rows == 0) continue;
    LaunchRound(part.out, args.out.Rows(begin, count), Launches());
  }
  return nullptr;
}

GemmPlan CudaDevice::PlanGemm(const GemmArgs& args, Error* refusal) const {
  const GemmProblem problem = ProblemOf(args);
  GemmPlan plan = SelectGemm(problem, {facts_.multiprocessors, cublaslt_ != nullptr});
  if (plan.path != GemmPath::kCublasLt) return plan;
  int64_t count = 0;
  for (int64_t begin = 0; begin < args.a.rows; begin += count) {
    const GemmArgs part = LibraryPart(args, plan, begin);
    count = part.a.rows;
    *refusal = cublaslt_->Refusal(part);
    if (*refusal != nullptr) return SelectOwnGemm(problem, facts_.multiprocessors);
  }
  return plan;
}

std::string CudaDevice::KernelOf(const OpArgs& args) const {
  const auto* gemm = std::get_if<GemmArgs>(&args);
  Error refusal = nullptr;
  return gemm == nullptr ? "" : ToString(PlanGemm(*gemm, &refusal));
}

void CudaDevice::NoteRefusedProduct(const GemmArgs& args, Error refusal) {
  ProductKind kind = KindOf(args);
  kind.rows = 0;  // one line for all numbers of rows
  if (std::ranges::find(told_refusals_, kind) != told_refusals_.end()) return;
  told_refusals_.push_back(kind);
  warn_(info_.name + ": cuBLASLt does not compute " + OpDescription(args) + ": " + refusal +
        "; it will be slower");
}

void CudaDevice::Gemm(const GemmArgs& args) {
  DCheckShapes(args);
  if (args.a.rows == 0) return;
  Error refusal = nullptr;
  GemmPlan plan = PlanGemm(args, &refusal);
  if (plan.path == GemmPath::kCublasLt) {
    refusal = GemmByLibrary(args, plan);
    if (refusal == nullptr) return;
    plan = SelectOwnGemm(ProblemOf(args), facts_.multiprocessors);
  }
  if (refusal != nullptr && !captures_.capturing()) NoteRefusedProduct(args, refusal);
  const SplitMemory memory = SharedTiles();
  if (plan.path == GemmPath::kSkinny) {
    LaunchGemmSkinny(args, plan, memory, Launches());
  } else {
    LaunchGemmMma(args, plan, memory, Launches());
  }
}

}  // namespace baram::cuda
