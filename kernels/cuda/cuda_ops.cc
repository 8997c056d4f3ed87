// CudaDevice: what it supports, and the ops that take a single launch.
#include <algorithm>
#include <initializer_list>
#include <string>
#include <variant>

#include "kernels/check.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/kv_layout.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/pack.h"
#include "kernels/cuda/transfers.h"
#include "kernels/shape_check.h"

namespace baram::cuda {
namespace {

std::string UnlessStored(const char* op, std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* tensor : tensors) {
    if (!IsStored(tensor->dtype)) return std::string(op) + ": a tensor is neither bf16 nor f32";
  }
  return "";
}

// What the kernels require beyond consistent shapes.
std::string Limit(const EmbedArgs& args) {
  if (args.table.shape.format.dtype != DType::kBF16) return "Embed: the table is not bf16";
  return UnlessStored("Embed", {&args.out});
}
std::string Limit(const NormArgs& args) { return UnlessStored("Norm", {&args.x, &args.out}); }
std::string Limit(const AddNormArgs& args) {
  if (args.residual.dtype != DType::kF32) return "AddNorm: the residual is not f32";
  return UnlessStored("AddNorm", {&args.branch, &args.out});
}
std::string Limit(const GemmArgs& args) {
  if (args.a.dtype != DType::kBF16) return "Gemm: a is not bf16";
  if (args.weight.shape.format.dtype != DType::kBF16) return "Gemm: the weight is not bf16";
  constexpr int64_t kMaxK = WeightStaging::kPieceBytes / int64_t{sizeof(uint16_t)};
  if (PackedStride(args.weight.shape) > kMaxK) {
    return "Gemm: a row of the weight has more than " + std::to_string(kMaxK) + " elements";
  }
  return IsStored(args.out.dtype) ? "" : "Gemm: out is neither bf16 nor f32";
}
std::string Limit(const StoreKvArgs& args) {
  return args.qkv.dtype == DType::kBF16 ? "" : "StoreKv: qkv is not bf16";
}
std::string Limit(const AttendArgs& args) {
  if (args.q.dtype != DType::kBF16) return "Attend: q is not bf16";
  if (args.out.dtype != DType::kBF16) return "Attend: out is not bf16";
  if (args.pool.shape.page_tokens < kMinPageTokens) {
    return "Attend: pages hold fewer than " + std::to_string(kMinPageTokens) + " tokens";
  }
  return "";
}
std::string Limit(const ActArgs& args) { return UnlessStored("Act", {&args.gate_up, &args.out}); }
std::string Limit(const GatherRowsArgs&) { return ""; }
std::string Limit(const SampleArgs&) { return ""; }

// Shared memory per block, where it depends on the shapes.
int64_t SharedBytes(const AttendArgs& args) {
  int64_t most = 0;
  for (AttendKernel kernel : {AttendKernel::kVector, AttendKernel::kNarrow, AttendKernel::kWide}) {
    most = std::max(most, AttendSharedBytes(kernel, args.pool.shape.head.head_dim));
  }
  return most;
}
template <typename Args>
int64_t SharedBytes(const Args&) {
  return 0;
}

}  // namespace

std::string CudaDevice::Unsupported(const OpArgs& args) const {
  const std::string misfit = CheckShapes(args);
  if (!misfit.empty()) return misfit;
  const std::string limit = std::visit([](const auto& op) { return Limit(op); }, args);
  if (!limit.empty()) return limit;
  const int64_t bytes = std::visit([](const auto& op) { return SharedBytes(op); }, args);
  if (bytes <= facts_.shared_bytes_per_block) return "";
  return std::string(OpName(args)) + ": a block needs " + std::to_string(bytes) +
         " bytes of shared memory, this GPU has " + std::to_string(facts_.shared_bytes_per_block);
}

void CudaDevice::Embed(const EmbedArgs& args) {
  DCheckShapes(args);
  LaunchEmbed(args, Launches());
}

void CudaDevice::Norm(const NormArgs& args) {
  DCheckShapes(args);
  LaunchNorm(args, Launches());
}

void CudaDevice::AddNorm(const AddNormArgs& args) {
  DCheckShapes(args);
  LaunchAddNorm(args, Launches());
}

void CudaDevice::Act(const ActArgs& args) {
  DCheckShapes(args);
  LaunchAct(args, Launches());
}

void CudaDevice::GatherRows(const GatherRowsArgs& args) {
  DCheckShapes(args);
  LaunchGatherRows(args, Launches());
}

void CudaDevice::StoreKv(const StoreKvArgs& args) {
  DCheckShapes(args);
  LaunchStoreKv(args, Launches());
}

void CudaDevice::Sample(const SampleArgs& args) {
  DCheckShapes(args);
  Check(args.valid_vocab <= steps_.slots().counts_stride,
        "Sample stays within the reserved vocabulary");
  LaunchSample(args, steps_.slots(), facts_.multiprocessors, SharedTiles(), Launches());
}

}  // namespace baram::cuda
