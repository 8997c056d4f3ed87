// CudaDevice: what it supports, and the ops that are one launch.
#include <initializer_list>
#include <string>
#include <variant>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/launchers.h"
#include "kernels/shape_check.h"

namespace baram::cuda {
namespace {

bool IsStored(const Tensor& tensor) {
  return tensor.dtype == DType::kF32 || tensor.dtype == DType::kBF16;
}

std::string UnlessStored(const char* op, std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* tensor : tensors) {
    if (!IsStored(*tensor)) return std::string(op) + ": a tensor is neither bf16 nor f32";
  }
  return "";
}

std::string UnlessNormable(const char* op, int64_t columns) {
  if (columns <= kMaxNormColumns) return "";
  return std::string(op) + ": rows are longer than " + std::to_string(kMaxNormColumns);
}

// What the kernels ask for beyond shapes that fit together.
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
std::string Limit(const ActArgs& args) { return UnlessStored("Act", {&args.gate_up, &args.out}); }
std::string Limit(const GatherRowsArgs&) { return ""; }
std::string Limit(const StoreKvArgs& args) {
  return args.qkv.dtype == DType::kBF16 ? "" : "StoreKv: qkv is not bf16";
}
std::string Limit(const SampleArgs&) { return ""; }

}  // namespace

std::string CudaDevice::Unsupported(const OpArgs& args) const {
  const std::string misfit = CheckShapes(args);
  if (!misfit.empty()) return misfit;
  if (const auto* gemm = std::get_if<GemmArgs>(&args)) return UnsupportedGemm(*gemm);
  if (const auto* attend = std::get_if<AttendArgs>(&args)) return UnsupportedAttend(*attend);
  return std::visit(
      [](const auto& op) -> std::string {
        if constexpr (requires { Limit(op); }) return Limit(op);
        return "";
      },
      args);
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
  LaunchSample(args, steps_.slots(), Launches());
}

}  // namespace baram::cuda
