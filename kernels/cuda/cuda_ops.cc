// CudaDevice: what it supports, and the ops that take a single launch.
#include <initializer_list>
#include <string>
#include <variant>

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

std::string UnlessNormable(const char* op, int64_t columns) {
  if (columns <= kMaxNormColumns) return "";
  return std::string(op) + ": rows are longer than " + std::to_string(kMaxNormColumns);
}

// What the kernels require beyond consistent shapes.
std::string Limit(const EmbedArgs& args) {
  if (args.table.shape.format.dtype != DType::kBF16) return "Embed: the table is not bf16";
  return UnlessStored("Embed", {&args.out});
}
std::string Limit(const NormArgs& args) {
  const std::string types = UnlessStored("Norm", {&args.x, &args.out});
  return types.empty() ? UnlessNormable("Norm", args.x.cols) : types;
}
std::string Limit(const AddNormArgs& args) {
  if (args.residual.dtype != DType::kF32) return "AddNorm: the residual is not f32";
  const std::string types = UnlessStored("AddNorm", {&args.branch, &args.out});
  return types.empty() ? UnlessNormable("AddNorm", args.residual.cols) : types;
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

}  // namespace

std::string CudaDevice::Unsupported(const OpArgs& args) const {
  const std::string misfit = CheckShapes(args);
  if (!misfit.empty()) return misfit;
  return std::visit([](const auto& op) { return Limit(op); }, args);
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
  LaunchSample(args, steps_.slots(), facts_.multiprocessors, SharedTiles(), Launches());
}

}  // namespace baram::cuda
