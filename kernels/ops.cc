// Names, one-line descriptions and costs of the ops.
#include "kernels/ops.h"

#include <algorithm>

namespace baram {
namespace {

std::string Show(const Tensor& tensor) {
  return std::string(DTypeName(tensor.dtype)) + "[" + std::to_string(tensor.rows) + ", " +
         std::to_string(tensor.cols) + "]";
}

std::string Show(const WeightShape& shape) {
  return std::string(DTypeName(shape.format.dtype)) + " weight [" + std::to_string(shape.n) + ", " +
         std::to_string(shape.k) + "]";
}

std::string Show(const KvShape& shape) {
  return std::to_string(shape.head.heads) + "/" + std::to_string(shape.head.kv_heads) +
         " heads of " + std::to_string(shape.head.head_dim) + ", pages of " +
         std::to_string(shape.page_tokens);
}

std::string Show(const RopeTable& rope) {
  if (rope.data == nullptr) return "no rope";
  return std::string(rope.layout == RopeLayout::kHalfSplit ? "half-split" : "interleaved") +
         " rope of " + std::to_string(rope.rotary_dim);
}

std::string Describe(const EmbedArgs& args) {
  return Show(args.table.shape) + " -> " + Show(args.out);
}
std::string Describe(const NormArgs& args) { return Show(args.x) + " -> " + Show(args.out); }
std::string Describe(const AddNormArgs& args) {
  return Show(args.branch) + " + " + Show(args.residual) +
         (args.post_weight != nullptr ? ", post norm" : "") +
         (args.pre_weight != nullptr ? ", pre norm" : "") + " -> " + Show(args.out);
}
std::string Describe(const GemmArgs& args) {
  return Show(args.a) + " x " + Show(args.weight.shape) + (args.bias != nullptr ? " + bias" : "") +
         " -> " + Show(args.out);
}
std::string Describe(const StoreKvArgs& args) {
  return Show(args.qkv) + ", " + Show(args.pool.shape) +
         (args.q_norm != nullptr ? ", q norm" : "") + (args.k_norm != nullptr ? ", k norm" : "") +
         ", " + Show(args.rope);
}
std::string Describe(const AttendArgs& args) {
  return Show(args.q) + ", " + Show(args.pool.shape) +
         (args.window > 0 ? ", window " + std::to_string(args.window) : std::string()) + " -> " +
         Show(args.out);
}
std::string Describe(const ActArgs& args) {
  return std::string(args.kind == Activation::kSilu ? "silu " : "gelu-tanh ") + Show(args.gate_up) +
         " -> " + Show(args.out);
}
std::string Describe(const GatherRowsArgs& args) { return Show(args.x) + " -> " + Show(args.out); }
std::string Describe(const SampleArgs& args) {
  return Show(args.logits) + ", vocabulary " + std::to_string(args.valid_vocab) +
         (args.masks != nullptr ? ", masks" : "");
}

const char* Name(const EmbedArgs&) { return "Embed"; }
const char* Name(const NormArgs&) { return "Norm"; }
const char* Name(const AddNormArgs&) { return "AddNorm"; }
const char* Name(const GemmArgs&) { return "Gemm"; }
const char* Name(const StoreKvArgs&) { return "StoreKv"; }
const char* Name(const AttendArgs&) { return "Attend"; }
const char* Name(const ActArgs&) { return "Act"; }
const char* Name(const GatherRowsArgs&) { return "GatherRows"; }
const char* Name(const SampleArgs&) { return "Sample"; }

double Elements(const Tensor& tensor) {
  return static_cast<double>(tensor.rows) * static_cast<double>(tensor.cols);
}
double Bytes(const Tensor& tensor) {
  return Elements(tensor) * static_cast<double>(DTypeBytes(tensor.dtype));
}
double Bytes(const WeightShape& shape) {
  return static_cast<double>(shape.n * shape.k) *
         static_cast<double>(DTypeBytes(shape.format.dtype));
}

// Flops are the multiplications and additions of the formula; a transcendental counts as one.
OpCost Cost(const EmbedArgs& args, double) {
  const double read =
      Elements(args.out) * static_cast<double>(DTypeBytes(args.table.shape.format.dtype));
  return {read + Bytes(args.out), Elements(args.out)};
}
OpCost Cost(const NormArgs& args, double) {
  return {Bytes(args.x) + Bytes(args.out), 4 * Elements(args.x)};
}
OpCost Cost(const AddNormArgs& args, double) {
  const int norms = (args.post_weight != nullptr) + (args.pre_weight != nullptr);
  return {Bytes(args.branch) + 2 * Bytes(args.residual) + Bytes(args.out),
          (2 + 4 * norms) * Elements(args.residual)};
}
OpCost Cost(const GemmArgs& args, double) {
  return {Bytes(args.a) + Bytes(args.weight.shape) + Bytes(args.out),
          2 * Elements(args.out) * static_cast<double>(args.weight.shape.k)};
}
OpCost Cost(const StoreKvArgs& args, double) {
  const HeadShape& head = args.pool.shape.head;
  const double all = head.heads + 2 * head.kv_heads;
  const double kv_share = 2 * head.kv_heads / all;
  return {Bytes(args.qkv) * 2, 8 * Elements(args.qkv) * (1 - kv_share / 2)};
}
// A sequence's keys are read once for all its query tokens, so the bytes are those of one token per
// sequence, with the mean context.
OpCost Cost(const AttendArgs& args, double context_tokens) {
  const HeadShape& head = args.pool.shape.head;
  const double query_rows = std::max(1, args.step.tokens);
  const double sequences = std::max(1, args.step.rows);
  const double kv_bytes =
      2.0 * head.kv_heads * head.head_dim * static_cast<double>(DTypeBytes(args.q.dtype));
  return {Bytes(args.q) + Bytes(args.out) + context_tokens * kv_bytes * sequences / query_rows,
          4.0 * context_tokens * head.heads * head.head_dim};
}
OpCost Cost(const ActArgs& args, double) {
  return {Bytes(args.gate_up) + Bytes(args.out), 5 * Elements(args.out)};
}
OpCost Cost(const GatherRowsArgs& args, double) { return {2 * Bytes(args.out), 0}; }
OpCost Cost(const SampleArgs& args, double) {
  const double logits = static_cast<double>(args.logits.rows) * args.valid_vocab;
  return {logits * sizeof(float), 3 * logits};
}

}  // namespace

const char* OpName(const OpArgs& args) {
  return std::visit([](const auto& op) { return Name(op); }, args);
}

std::string OpDescription(const OpArgs& args) {
  return std::string(OpName(args)) + " " +
         std::visit([](const auto& op) { return Describe(op); }, args);
}

OpCost CostOf(const OpArgs& args, double context_tokens) {
  return std::visit([&](const auto& op) { return Cost(op, context_tokens); }, args);
}

}  // namespace baram
