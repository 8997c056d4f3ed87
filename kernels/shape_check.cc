// Symbolic check of an op's arguments, op by op.
#include "kernels/shape_check.h"

#include <bit>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

#include "kernels/check.h"

namespace baram {
namespace {

// A size and what to call it in a sentence.
struct Sized {
  const char* what;
  int64_t value;
};

// "out has 12 columns, the weight 16", or empty if equal.
std::string Same(const char* unit, Sized a, Sized b) {
  if (a.value == b.value) return "";
  return std::string(a.what) + " has " + std::to_string(a.value) + " " + unit + ", " + b.what +
         " " + std::to_string(b.value);
}

std::string CheckRows(const char* what, const Tensor& tensor) {
  if (tensor.rows < 0 || tensor.cols <= 0) return std::string(what) + " has no columns";
  if (tensor.stride >= tensor.cols) return "";
  return std::string(what) + " has rows of " + std::to_string(tensor.cols) + " elements " +
         std::to_string(tensor.stride) + " apart";
}

std::string Require(bool holds, std::string_view sentence) {
  return std::string(holds ? "" : sentence);
}

std::string First(std::initializer_list<std::string> sentences) {
  for (const std::string& sentence : sentences) {
    if (!sentence.empty()) return sentence;
  }
  return "";
}

std::string Pool(const KvPool& pool, const KvLayer& layer) {
  const KvShape& shape = pool.shape;
  const HeadShape& head = shape.head;
  return First({
      Require(head.heads > 0 && head.kv_heads > 0 && head.heads % head.kv_heads == 0,
              "the KV heads must divide the query heads"),
      Require(head.head_dim > 0 && head.head_dim % 2 == 0 && head.head_dim <= kMaxHeadDim,
              "the head size must be even and at most " + std::to_string(kMaxHeadDim)),
      Require(
          shape.page_tokens > 0 && std::has_single_bit(static_cast<uint32_t>(shape.page_tokens)),
          "the tokens of a page must be a power of two"),
      Require(layer.group >= 0 && layer.group < kMaxKvGroups, "the KV group does not exist"),
      Require(layer.index >= 0 && layer.index < shape.layers_per_group,
              "the layer is not inside its group's pages"),
  });
}

std::string CheckOp(const EmbedArgs& args) {
  return First({CheckRows("out", args.out),
                Same("rows", {"out", args.out.rows}, {"the step", args.step.tokens}),
                Same("columns", {"out", args.out.cols}, {"the table", args.table.shape.k})});
}

std::string CheckOp(const NormArgs& args) {
  return First({CheckRows("x", args.x), CheckRows("out", args.out),
                Same("rows", {"out", args.out.rows}, {"x", args.x.rows}),
                Same("columns", {"out", args.out.cols}, {"x", args.x.cols})});
}

std::string CheckOp(const AddNormArgs& args) {
  return First({CheckRows("branch", args.branch), CheckRows("residual", args.residual),
                CheckRows("out", args.out),
                Same("rows", {"branch", args.branch.rows}, {"the residual", args.residual.rows}),
                Same("columns", {"branch", args.branch.cols}, {"the residual", args.residual.cols}),
                Same("rows", {"out", args.out.rows}, {"the residual", args.residual.rows}),
                Same("columns", {"out", args.out.cols}, {"the residual", args.residual.cols})});
}

std::string CheckOp(const GemmArgs& args) {
  return First({CheckRows("a", args.a), CheckRows("out", args.out),
                Same("columns", {"a", args.a.cols}, {"the weight's input", args.weight.shape.k}),
                Same("columns", {"out", args.out.cols}, {"the weight", args.weight.shape.n}),
                Same("rows", {"out", args.out.rows}, {"a", args.a.rows})});
}

std::string CheckOp(const StoreKvArgs& args) {
  const HeadShape& head = args.pool.shape.head;
  const int64_t columns = int64_t{head.heads + 2 * head.kv_heads} * head.head_dim;
  return First({Pool(args.pool, args.layer), CheckRows("qkv", args.qkv),
                Same("rows", {"qkv", args.qkv.rows}, {"the step", args.step.tokens}),
                Same("columns", {"qkv", args.qkv.cols}, {"the heads together", columns}),
                Require(args.rope.data == nullptr ||
                            (args.rope.rotary_dim > 0 && args.rope.rotary_dim % 2 == 0 &&
                             args.rope.rotary_dim <= head.head_dim),
                        "the rotated elements must be even in number and at most the head size")});
}

std::string CheckOp(const AttendArgs& args) {
  const HeadShape& head = args.pool.shape.head;
  const int64_t columns = int64_t{head.heads} * head.head_dim;
  return First({Pool(args.pool, args.layer), CheckRows("q", args.q), CheckRows("out", args.out),
                Same("rows", {"q", args.q.rows}, {"the step", args.step.tokens}),
                Same("rows", {"out", args.out.rows}, {"the step", args.step.tokens}),
                Same("columns", {"q", args.q.cols}, {"the heads together", columns}),
                Same("columns", {"out", args.out.cols}, {"the heads together", columns}),
                Require(args.window >= 0, "the window must not be negative"),
                Require(args.scale > 0, "the scale must be positive")});
}

std::string CheckOp(const ActArgs& args) {
  return First(
      {CheckRows("gate_up", args.gate_up), CheckRows("out", args.out),
       Same("rows", {"out", args.out.rows}, {"gate_up", args.gate_up.rows}),
       Same("columns", {"gate_up", args.gate_up.cols}, {"out, twice,", 2 * args.out.cols})});
}

std::string CheckOp(const GatherRowsArgs& args) {
  return First({CheckRows("x", args.x), CheckRows("out", args.out),
                Same("columns", {"out", args.out.cols}, {"x", args.x.cols}),
                Require(args.x.dtype == args.out.dtype, "out and x must have one type")});
}

std::string CheckOp(const SampleArgs& args) {
  return First(
      {CheckRows("logits", args.logits),
       Same("rows", {"logits", args.logits.rows}, {"the step's outputs", args.step.outputs}),
       Require(args.logits.dtype == DType::kF32, "the logits must be f32"),
       Require(args.valid_vocab > 0 && args.valid_vocab <= args.logits.cols,
               "valid_vocab must be at least 1 and at most the logits' columns")});
}

}  // namespace

std::string CheckShapes(const OpArgs& args) {
  const std::string sentence = std::visit([](const auto& op) { return CheckOp(op); }, args);
  return sentence.empty() ? "" : std::string(OpName(args)) + ": " + sentence;
}

#ifndef NDEBUG
void DCheckShapes(const OpArgs& args) {
  const std::string sentence = CheckShapes(args);
  Check(sentence.empty(), sentence.c_str());
}
#endif

}  // namespace baram
