// WeightLayout: which checkpoint tensors make up each weight of a model.
#include "engine/model/weight_layout.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "kernels/check.h"
#include "kernels/rounding.h"

namespace baram {
namespace {

VectorKind NormVector(NormKind kind) {
  return kind == NormKind::kZeroCentred ? VectorKind::kZeroCentredNorm : VectorKind::kPlainNorm;
}

// Collects the weights of one layer, or those outside the layers.
class LayoutBuilder {
 public:
  LayoutBuilder(Format format, size_t layer, WeightLayout& layout)
      : format_(format), layer_(absl::StrCat(layer)), layout_(layout) {}

  // Rows of the weight that the tensor called `name` fills.
  struct Rows {
    const std::string& name;
    int64_t rows;
  };

  void Matrix(PackedWeight& target, int64_t k, std::initializer_list<Rows> parts) {
    MatrixLayout matrix{&target, {0, k, format_}, {}};
    for (const Rows& part : parts) {
      matrix.shape.n += part.rows;
      matrix.parts.push_back({Name(part.name, ".weight"), part.rows});
    }
    target.shape = matrix.shape;
    layout_.matrices.push_back(std::move(matrix));
  }

  void Norm(const float*& target, NormKind kind, const std::string& name, int64_t n) {
    if (kind == NormKind::kNone) return;
    layout_.vectors.push_back({&target, NormVector(kind), {{Name(name, ".weight"), n}}});
  }

  void Bias(const float*& target, bool present, std::initializer_list<Rows> parts) {
    if (!present) return;
    VectorLayout vector{&target, VectorKind::kBias, {}};
    for (const Rows& part : parts) vector.parts.push_back({Name(part.name, ".bias"), part.rows});
    layout_.vectors.push_back(std::move(vector));
  }

 private:
  std::string Name(const std::string& role, const char* suffix) const {
    Check(!role.empty(), "the family names the tensors of every weight that its spec has");
    return absl::StrCat(absl::StrReplaceAll(role, {{"{}", layer_}}), suffix);
  }

  Format format_;
  std::string layer_;
  WeightLayout& layout_;
};

void LayOutLayer(const ModelSpec& spec, size_t index, LayoutBuilder builder,
                 LayerWeights& weights) {
  const LayerSpec& layer = spec.layers[index];
  const TensorNames& names = spec.names;
  const int64_t d = spec.hidden;
  const int64_t q = int64_t{spec.head.heads} * spec.head.head_dim;
  const int64_t kv = int64_t{spec.head.kv_heads} * spec.head.head_dim;

  builder.Norm(weights.pre_attention, layer.pre_attention, names.pre_attention, d);
  builder.Matrix(weights.qkv, d, {{names.q, q}, {names.k, kv}, {names.v, kv}});
  builder.Bias(weights.qkv_bias, layer.qkv_bias, {{names.q, q}, {names.k, kv}, {names.v, kv}});
  builder.Norm(weights.q_norm, layer.qk_norm, names.q_norm, spec.head.head_dim);
  builder.Norm(weights.k_norm, layer.qk_norm, names.k_norm, spec.head.head_dim);
  builder.Matrix(weights.o, q, {{names.o, d}});
  builder.Bias(weights.o_bias, layer.o_bias, {{names.o, d}});
  builder.Norm(weights.post_attention, layer.post_attention, names.post_attention, d);

  builder.Norm(weights.pre_mlp, layer.pre_mlp, names.pre_mlp, d);
  builder.Matrix(weights.gate_up, d, {{names.gate, layer.ffn}, {names.up, layer.ffn}});
  builder.Bias(weights.gate_up_bias, layer.mlp_bias,
               {{names.gate, layer.ffn}, {names.up, layer.ffn}});
  builder.Matrix(weights.down, layer.ffn, {{names.down, d}});
  builder.Bias(weights.down_bias, layer.mlp_bias, {{names.down, d}});
  builder.Norm(weights.post_mlp, layer.post_mlp, names.post_mlp, d);
}

}  // namespace

int64_t VectorLayout::Elements() const {
  int64_t elements = 0;
  for (const WeightPart& part : parts) elements += part.rows;
  return elements;
}

WeightLayout LayOutWeights(Format format, Weights& weights) {
  const ModelSpec& spec = weights.spec;
  WeightLayout layout;
  weights.layers.resize(spec.layers.size());
  LayoutBuilder ends(format, 0, layout);
  ends.Matrix(weights.embedding, spec.hidden, {{spec.names.embedding, spec.vocab_size}});
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    LayOutLayer(spec, i, LayoutBuilder(format, i, layout), weights.layers[i]);
  }
  ends.Norm(weights.final_norm, spec.final_norm, spec.names.final_norm, spec.hidden);
  if (!spec.tied_lm_head) {
    ends.Matrix(weights.lm_head, spec.hidden, {{spec.names.lm_head, spec.vocab_size}});
  }
  return layout;
}

int64_t VectorLayout::AlignedElements() const { return RoundUp(Elements(), 64 / sizeof(float)); }

int64_t VectorElements(const WeightLayout& layout) {
  int64_t elements = 0;
  for (const VectorLayout& vector : layout.vectors) elements += vector.AlignedElements();
  return elements;
}

std::vector<ExpectedTensor> ExpectedTensors(const ModelSpec& spec) {
  Weights weights;
  weights.spec = spec;
  const WeightLayout layout = LayOutWeights({}, weights);
  std::vector<ExpectedTensor> tensors;
  for (const MatrixLayout& matrix : layout.matrices) {
    for (const WeightPart& part : matrix.parts) {
      tensors.push_back({part.tensor, {part.rows, matrix.shape.k}});
    }
  }
  for (const VectorLayout& vector : layout.vectors) {
    for (const WeightPart& part : vector.parts) tensors.push_back({part.tensor, {part.rows}});
  }
  return tensors;
}

int64_t ParameterCount(const ModelSpec& spec) {
  int64_t count = 0;
  for (const ExpectedTensor& tensor : ExpectedTensors(spec)) {
    int64_t elements = 1;
    for (const int64_t dimension : tensor.shape) elements *= dimension;
    count += elements;
  }
  return count;
}

int64_t WeightBytes(const ModelSpec& spec, const Device& device, int32_t positions) {
  Weights weights;
  weights.spec = spec;
  const WeightLayout layout = LayOutWeights(device.Info().weights, weights);
  const DeviceInfo& info = device.Info();
  int64_t bytes = TakenBytes(info, VectorElements(layout) * static_cast<int64_t>(sizeof(float)));
  for (const MatrixLayout& matrix : layout.matrices) {
    bytes += TakenBytes(info, device.PackedBytes(matrix.shape));
  }
  for (const RopeSpec& rope : spec.ropes) {
    bytes += TakenBytes(info,
                        int64_t{positions} * rope.rotary_dim * static_cast<int64_t>(sizeof(float)));
  }
  return bytes;
}

}  // namespace baram
