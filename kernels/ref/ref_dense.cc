// Embed, Gemm, Act and GatherRows as plain loops. A packed weight is its rows in fp32.
#include <algorithm>
#include <cmath>

#include "kernels/ref/ref_ops.h"

namespace baram {
namespace {

const float* WeightRow(const PackedWeight& weight, int64_t n) {
  return static_cast<const float*>(weight.data) + n * weight.shape.k;
}

// Element i goes to partial sum i mod 8: one order for every row, and one that vectorizes.
double Dot(const float* a, const float* b, int64_t k) {
  double partial[8] = {};
  int64_t i = 0;
  for (; i + 8 <= k; i += 8) {
    for (int lane = 0; lane < 8; ++lane) partial[lane] += double{a[i + lane]} * b[i + lane];
  }
  for (int lane = 0; i + lane < k; ++lane) partial[lane] += double{a[i + lane]} * b[i + lane];
  return ((partial[0] + partial[4]) + (partial[1] + partial[5])) +
         ((partial[2] + partial[6]) + (partial[3] + partial[7]));
}

}  // namespace

void RefEmbed(const EmbedArgs& args) {
  for (int32_t t = 0; t < args.step.tokens; ++t) {
    const float* row = WeightRow(args.table, args.step.token_ids[t]);
    float* out = args.out.Row<float>(t);
    for (int64_t i = 0; i < args.out.cols; ++i) out[i] = args.scale * row[i];
  }
}

void RefGemm(const GemmArgs& args) {
  // Weight rows outermost: each is read from memory once, however many rows `a` has.
  for (int64_t n = 0; n < args.weight.shape.n; ++n) {
    const float* weight = WeightRow(args.weight, n);
    const double bias = args.bias != nullptr ? args.bias[n] : 0.0;
    for (int64_t r = 0; r < args.a.rows; ++r) {
      const double sum = Dot(args.a.Row<float>(r), weight, args.weight.shape.k);
      args.out.Row<float>(r)[n] = static_cast<float>(sum * args.scale + bias);
    }
  }
}

void RefAct(const ActArgs& args) {
  const int64_t f = args.out.cols;
  for (int64_t r = 0; r < args.out.rows; ++r) {
    const float* gate = args.gate_up.Row<float>(r);
    const float* up = gate + f;
    float* out = args.out.Row<float>(r);
    for (int64_t i = 0; i < f; ++i) {
      const double x = gate[i];
      double act;
      if (args.kind == Activation::kSilu) {
        act = x / (1.0 + std::exp(-x));
      } else {
        constexpr double kSqrt2OverPi = 0.7978845608028654;
        act = 0.5 * x * (1.0 + std::tanh(kSqrt2OverPi * (x + 0.044715 * x * x * x)));
      }
      out[i] = static_cast<float>(act * up[i]);
    }
  }
}

void RefGatherRows(const GatherRowsArgs& args) {
  for (int64_t r = 0; r < args.out.rows; ++r) {
    const float* row = args.x.Row<float>(args.index[r]);
    std::copy(row, row + args.out.cols, args.out.Row<float>(r));
  }
}

}  // namespace baram
