// Norm and AddNorm as plain loops.
#include <cmath>

#include "kernels/ref/ref_ops.h"

namespace baram {

void RefRmsNorm(const float* x, const float* weight, float eps, int64_t n, float* out) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double{x[i]} * x[i];
  const double inverse = 1.0 / std::sqrt(sum / static_cast<double>(n) + eps);
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(x[i] * inverse * weight[i]);
}

void RefNorm(const NormArgs& args) {
  for (int64_t r = 0; r < args.x.rows; ++r) {
    RefRmsNorm(args.x.Row<float>(r), args.weight, args.eps, args.x.cols, args.out.Row<float>(r));
  }
}

void RefAddNorm(const AddNormArgs& args) {
  const int64_t d = args.residual.cols;
  for (int64_t r = 0; r < args.residual.rows; ++r) {
    const float* branch = args.branch.Row<float>(r);
    float* residual = args.residual.Row<float>(r);
    double inverse = 1.0;
    if (args.post_weight != nullptr) {
      double sum = 0;
      for (int64_t i = 0; i < d; ++i) sum += double{branch[i]} * branch[i];
      inverse = 1.0 / std::sqrt(sum / static_cast<double>(d) + args.eps);
    }
    for (int64_t i = 0; i < d; ++i) {
      const double y = args.post_weight != nullptr ? branch[i] * inverse * args.post_weight[i]
                                                   : double{branch[i]};
      residual[i] = static_cast<float>(residual[i] + args.scale * y);
    }
    float* out = args.out.Row<float>(r);
    if (args.pre_weight != nullptr) {
      RefRmsNorm(residual, args.pre_weight, args.eps, d, out);
    } else {
      for (int64_t i = 0; i < d; ++i) out[i] = residual[i];
    }
  }
}

}  // namespace baram
