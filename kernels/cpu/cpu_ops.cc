// CpuDevice: what it supports, and the ops without files of their own, from their arguments to
// jobs, units and tasks.
#include <cstddef>
#include <cstring>
#include <string>
#include <variant>

#include "kernels/check.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/gemm_select.h"
#include "kernels/cpu/kv_layout.h"
#include "kernels/cpu/pack.h"
#include "kernels/float_types.h"
#include "kernels/shape_check.h"

namespace baram::cpu {
namespace {

// What the CPU's kernels require beyond consistent shapes.
std::string Limit(const EmbedArgs& args) {
  return args.table.shape.format.dtype != DType::kBF16 ? "Embed: the table is not bf16" : "";
}
std::string Limit(const NormArgs& args) {
  return IsStored(args.x.dtype) && IsStored(args.out.dtype)
             ? ""
             : "Norm: x or out is neither bf16 nor f32";
}
std::string Limit(const AddNormArgs& args) {
  if (args.residual.dtype != DType::kF32) return "AddNorm: the residual is not f32";
  return IsStored(args.branch.dtype) && IsStored(args.out.dtype)
             ? ""
             : "AddNorm: branch or out is neither bf16 nor f32";
}
std::string Limit(const GemmArgs& args) {
  if (args.a.dtype != DType::kBF16) return "Gemm: a is not bf16";
  if (args.weight.shape.format.dtype != DType::kBF16) return "Gemm: the weight is not bf16";
  if (args.weight.shape.k > kMaxGemmK) {
    return "Gemm: k is larger than " + std::to_string(kMaxGemmK);
  }
  return IsStored(args.out.dtype) ? "" : "Gemm: out is neither bf16 nor f32";
}
std::string Limit(const StoreKvArgs& args) {
  if (args.qkv.dtype != DType::kBF16) return "StoreKv: qkv is not bf16";
  return UnsupportedKv("StoreKv", args.pool.shape);
}
std::string Limit(const AttendArgs& args) {
  if (args.q.dtype != DType::kBF16 || args.out.dtype != DType::kBF16) {
    return "Attend: q or out is not bf16";
  }
  return UnsupportedKv("Attend", args.pool.shape);
}
std::string Limit(const ActArgs& args) {
  return IsStored(args.gate_up.dtype) && IsStored(args.out.dtype)
             ? ""
             : "Act: gate_up or out is neither bf16 nor f32";
}
std::string Limit(const GatherRowsArgs&) { return ""; }
std::string Limit(const SampleArgs&) { return ""; }

// How far ahead the embedding table is prefetched: hardware prefetchers stop at every 4 KiB page.
constexpr int64_t kEmbedAheadBytes = 4096;

// The table is also the weight of the logits and packed as such. So each of its rows is spread over
// a panel, 4 bytes in every 64-byte line, and reading it moves 16 times its bytes: 128 KiB for a
// row of 4096 columns. That is little compared with the products of a prompt, or with the weights
// that a decode step reads.
void EmbedRow(const WeightView& table, int32_t token, float scale, DType to_type, void* to) {
  DCheck(token >= 0 && token < table.n, "a token id is inside the embedding table");
  const uint16_t* pairs = table.data + token / kPanelColumns * kPanelColumns * table.padded_k +
                          token % kPanelColumns * 2;
  const auto copy = [&](const auto& store) {
    for (int64_t k = 0; k < table.k; ++k) {
      const uint16_t* value = pairs + k / 2 * kPanelColumns * 2 + k % 2;
      if (k % 2 == 0) __builtin_prefetch(value + kEmbedAheadBytes / 2);
      store(k, F32FromBF16(*value) * scale);
    }
  };
  if (to_type == DType::kF32) {
    copy([to](int64_t k, float x) { static_cast<float*>(to)[k] = x; });
  } else {
    copy([&](int64_t k, float x) { StoreElement(to, to_type, k, x); });
  }
}

// Rows per task: enough to outweigh the cost of taking a task, few enough to share the work.
constexpr int64_t kRowGrain = 4;

}  // namespace

std::string CpuDevice::Unsupported(const OpArgs& args) const {
  const std::string misfit = CheckShapes(args);
  if (!misfit.empty()) return misfit;
  return std::visit([](const auto& op) { return Limit(op); }, args);
}

void CpuDevice::Embed(const EmbedArgs& args) {
  DCheckShapes(args);
  const WeightView table = ViewOf(args.table);
  Run(args.step.tokens, 8, [&](int64_t begin, int64_t end, const Worker&) {
    for (int64_t t = begin; t < end; ++t) {
      EmbedRow(table, args.step.token_ids[t], args.scale, args.out.dtype, args.out.Rows(t, 1).data);
    }
  });
}

void CpuDevice::Norm(const NormArgs& args) {
  DCheckShapes(args);
  const NormJob job = {args.x, args.weight, args.eps, args.out};
  Run(kernels_->norm, job, args.x.rows, kRowGrain);
}

void CpuDevice::AddNorm(const AddNormArgs& args) {
  DCheckShapes(args);
  const AddNormJob job = {args.branch, args.residual, args.post_weight, args.pre_weight,
                          args.scale,  args.eps,      args.out};
  Run(kernels_->add_norm, job, args.branch.rows, kRowGrain);
}

void CpuDevice::Act(const ActArgs& args) {
  DCheckShapes(args);
  const ActJob job = {args.gate_up, args.kind == Activation::kGeluTanh, args.out};
  // A task of four long rows takes longer than idle workers spin for the next op.
  constexpr int64_t kLongRow = 4096;
  Run(kernels_->act, job, args.gate_up.rows, args.out.cols < kLongRow ? kRowGrain : 1);
}

void CpuDevice::GatherRows(const GatherRowsArgs& args) {
  DCheckShapes(args);
  const int64_t row_bytes = args.x.cols * DTypeBytes(args.x.dtype);
  Run(args.out.rows, 16, [&](int64_t begin, int64_t end, const Worker&) {
    for (int64_t r = begin; r < end; ++r) {
      std::memcpy(args.out.Rows(r, 1).data, args.x.Rows(args.index[r], 1).data, row_bytes);
    }
  });
}

// One row per task: rows differ in cost, and each costs far more than taking a task.
void CpuDevice::Sample(const SampleArgs& args) {
  DCheckShapes(args);
  Check(args.valid_vocab <= slots_.shape().vocab_size,
        "Sample stays within the reserved vocabulary");
  Run(args.step.outputs, 1, [&](int64_t begin, int64_t end, const Worker& worker) {
    for (int64_t output = begin; output < end; ++output) {
      sampler_.SampleRow(args, static_cast<int32_t>(output), worker.index, slots_);
    }
  });
}

}  // namespace baram::cpu
