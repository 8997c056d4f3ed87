// The error bounds of the ops.
#include "tests/kernels/op_tolerance.h"

#include <algorithm>
#include <cmath>

namespace baram::testing {
namespace {

constexpr double kF32Unit = 0x1p-24;  // half a unit in the last place, relative
// The relative error allowed in a device's exp, tanh and reciprocal square root.
constexpr double kFunction = 0x1p-20;
constexpr double kTiny = 1e-36;  // denormals may be flushed

double Unit(DType type) {
  switch (type) {
    case DType::kF32:
      return kF32Unit;
    case DType::kBF16:
      return 0x1p-8;
    case DType::kF16:
      return 0x1p-11;
  }
  return 0;
}

// One element as seen by Tolerance.
struct Element {
  const Output& output;
  int64_t index;
  double value;      // ref's
  double magnitude;  // ref's result for the magnitudes
  double unit;       // rounding of the output's type
};

struct Bounds {
  const ElementTypes& types;
  const Outcome& ref;

  // Any order of summing k products is within k units of the sum of their magnitudes.
  double operator()(const GemmCase& c, const Element& e) const {
    return e.unit * std::fabs(e.value) + static_cast<double>(c.k + 2) * kF32Unit * e.magnitude;
  }

  double NormError(int64_t d) const { return static_cast<double>(d + 8) * kF32Unit + kFunction; }

  double operator()(const NormCase& c, const Element& e) const {
    return (e.unit + NormError(c.d)) * std::fabs(e.value);
  }

  // The updated residual's relative error propagates through the norm: a device may normalize the
  // sum before or after rounding it.
  double operator()(const AddNormCase& c, const Element& e) const {
    const double residual = std::fabs(ref.outputs[0].values[e.index]);
    // y is at most the residual's change; inputs have standard deviation 3, norm weights are at
    // most 3.
    const double y_error = (c.post ? NormError(c.d) : kF32Unit) * c.scale * 8;
    const double residual_error = Unit(types.residual) * residual + y_error + 4 * kF32Unit;
    if (e.output.name == "residual") return residual_error;
    if (residual == 0) return residual_error;
    return (e.unit + NormError(c.d) + Unit(types.residual) + residual_error / residual) *
           std::fabs(e.value);
  }

  // 1 + tanh(x) cancels for negative x: the error is relative to gate times up.
  double operator()(const ActCase&, const Element& e) const {
    return e.unit * std::fabs(e.value) + 4 * kFunction * e.magnitude;
  }

  double operator()(const EmbedCase&, const Element& e) const {
    return (e.unit + kF32Unit) * std::fabs(e.value);
  }

  double operator()(const GatherRowsCase&, const Element&) const { return 0; }

  double operator()(const StoreKvCase& c, const Element& e) const {
    if (e.output.name == "v") return 0;
    const int64_t hd = c.head.head_dim;
    if (e.output.name == "q") {
      // A rotation mixes two elements: the error is relative to the head's largest.
      const float* head = e.output.values.data() + e.index / hd * hd;
      double largest = 0;
      for (int64_t i = 0; i < hd; ++i) largest = std::max(largest, double{std::fabs(head[i])});
      return e.unit * std::fabs(e.value) + (NormError(hd) + 4 * kF32Unit) * largest;
    }
    // "k" is the mean of kProbeValue and its negative, weighted by a softmax over one element of
    // two keys, each at most 5 in magnitude: two keys rounded, two weights rounded.
    const double key_error = 2 * 5 * (Unit(types.activation) + NormError(hd) + 4 * kF32Unit);
    const double mean = e.value / kProbeValue;
    const double slope = kProbeValue * (1 - mean * mean) / 2;  // of the mean in a key
    return e.unit * std::fabs(e.value) + slope * key_error + WeightError(hd) * kProbeValue;
  }

  // A device may round the softmax weights to its activation type; scores are sums of head_dim
  // exact products of magnitude about 1, scaled.
  double WeightError(int64_t head_dim) const {
    const double score_error = static_cast<double>(4 * head_dim) * kF32Unit + 4 * kFunction;
    const double weight_error = types.activation == DType::kF32 ? 0 : Unit(types.activation);
    return 2 * (weight_error + score_error);
  }

  double operator()(const AttendCase& c, const Element& e) const {
    return e.unit * std::fabs(e.value) + WeightError(c.head.head_dim) * e.magnitude;
  }

  double operator()(const SampleCase&, const Element&) const { return 0; }
};

}  // namespace

bool NeedsMagnitudes(const OpCase& op_case) {
  return std::holds_alternative<GemmCase>(op_case.spec) ||
         std::holds_alternative<ActCase>(op_case.spec) ||
         std::holds_alternative<AttendCase>(op_case.spec);
}

std::vector<float> Tolerance(const OpCase& op_case, const ElementTypes& types, const Outcome& ref,
                             const Outcome& magnitudes, size_t index) {
  const Output& output = ref.outputs[index];
  const Bounds bounds{types, ref};
  std::vector<float> tolerance(output.values.size());
  for (size_t i = 0; i < tolerance.size(); ++i) {
    const double magnitude = magnitudes.outputs.empty() ? 0 : magnitudes.outputs[index].values[i];
    const Element element{output, static_cast<int64_t>(i), output.values[i], magnitude,
                          Unit(TypeOf(types, output.role))};
    const double bound =
        std::visit([&](const auto& c) { return bounds(c, element); }, op_case.spec);
    tolerance[i] = static_cast<float>(bound > 0 ? bound + kTiny : 0);
  }
  return tolerance;
}

std::string CompareResults(const SampleCase& c, const std::vector<TokenResult>& got,
                           const std::vector<TokenResult>& want) {
  // The logarithm of a sum of V terms, each exp within kFunction; logits are at most about 15.
  const double log_error = kFunction + std::min(c.vocab, 1024) * kF32Unit + 32 * kF32Unit;
  const auto near = [&](float a, float b) {
    return a == b || std::fabs(a - b) <= log_error + 2 * kF32Unit * std::fabs(b);
  };
  for (size_t i = 0; i < want.size(); ++i) {
    const TokenResult& g = got[i];
    const TokenResult& w = want[i];
    const std::string where = "row " + std::to_string(i) + ": ";
    const auto differs = [&](const char* what, auto a, auto b) {
      return where + what + " is " + std::to_string(a) + ", ref's " + std::to_string(b);
    };
    if (g.flags != w.flags) return differs("flags", g.flags, w.flags);
    if (g.token != w.token) return differs("the token", g.token, w.token);
    if (g.rank != w.rank) return differs("the rank", g.rank, w.rank);
    if (!near(g.logprob, w.logprob)) return differs("the log-probability", g.logprob, w.logprob);
    if (g.top_count != w.top_count) return differs("the top count", g.top_count, w.top_count);
    for (int32_t j = 0; j < w.top_count; ++j) {
      if (g.top_ids[j] != w.top_ids[j]) return differs("a top id", g.top_ids[j], w.top_ids[j]);
      if (!near(g.top_logprobs[j], w.top_logprobs[j])) {
        return differs("a top log-probability", g.top_logprobs[j], w.top_logprobs[j]);
      }
    }
  }
  return "";
}

}  // namespace baram::testing
