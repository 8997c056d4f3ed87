// AlgorithmTable: the algorithm a library chooses for each kind of product, queried before steps
// need it, and which products the library rejects.
#ifndef BARAM_KERNELS_CUDA_ALGORITHM_TABLE_H_
#define BARAM_KERNELS_CUDA_ALGORITHM_TABLE_H_

#include <algorithm>
#include <compare>
#include <cstdint>
#include <map>
#include <utility>

#include "kernels/cuda/gemm_select.h"
#include "kernels/cuda/runtime.h"
#include "kernels/ops.h"
#include "kernels/rounding.h"

namespace baram::cuda {

// Rounds rows up, so that the table stays small however many different steps a server runs.
inline int64_t RoundedRows(int64_t rows) {
  const int64_t multiple = rows <= 128 ? 16 : rows <= 512 ? 64 : rows <= 2048 ? 256 : 1024;
  return RoundUp(rows, multiple);
}

// Products that share an algorithm.
struct ProductKind {
  int64_t rows = 0;  // RoundedRows of the product's
  int64_t n = 0;
  int64_t k = 0;
  int64_t a_stride = 0;
  int64_t out_stride = 0;
  DType out = DType::kBF16;
  bool has_bias = false;
  auto operator<=>(const ProductKind&) const = default;
};
inline ProductKind KindOf(const GemmArgs& args) {
  return {.rows = RoundedRows(args.a.rows),
          .n = args.weight.shape.n,
          .k = args.weight.shape.k,
          .a_stride = args.a.stride,
          .out_stride = args.out.stride,
          .out = args.out.dtype,
          .has_bias = args.bias != nullptr};
}

// A library's answer for products of a kind.
template <typename Algorithm>
struct FoundAlgorithm {
  Error refusal = nullptr;  // not null: it has none, or rejected a product; permanent
  Algorithm algorithm = {};
};

// Used by one thread. Rows aside, a model has a handful of kinds, all of which its first steps use.
// A query takes host time and memory, so the first product of a kind queries all numbers of rows
// that a step can have (I6).
template <typename Algorithm>
class AlgorithmTable {
 public:
  using Found = FoundAlgorithm<Algorithm>;

  // The largest number of rows of a step.
  void SetMostRows(int64_t rows) { most_rows_ = rows; }

  // Has the library multiply: run(algorithm) starts the product or returns why not, ask(kind) is
  // called for kinds missing from the table. An algorithm is chosen for rows rounded up and may not
  // work for fewer. If it fails, the library is asked once more, with the exact rows, and its
  // answer is used for products of these rows from then on. Returns why the library rejects the
  // product, or null. During a capture a failure may be the capture's own, which says nothing about
  // the product: it is returned, but neither recorded nor asked about.
  template <typename Ask, typename Run>
  Error Multiply(const ProductKind& kind, int64_t rows, bool in_capture, const Ask& ask,
                 const Run& run) {
    const ProductKind exact = WithRows(kind, rows);
    auto known = exact_.find(exact);
    if (known == exact_.end()) {
      const Found& rounded = Find(kind, ask);
      if (rounded.refusal != nullptr) return rounded.refusal;
      const Error refusal = run(rounded.algorithm);
      if (refusal == nullptr || in_capture) return refusal;
      if (rows == kind.rows) return exact_[exact].refusal = refusal;
      LastError();  // a refusal is an answer, not the loss of the device
      known = exact_.emplace(exact, ask(exact)).first;
    }
    Found& found = known->second;
    if (found.refusal != nullptr) return found.refusal;
    const Error refusal = run(found.algorithm);
    if (!in_capture) found.refusal = refusal;
    return refusal;
  }

  // The entry of a kind, queried if it is missing.
  template <typename Ask>
  const Found& Find(const ProductKind& kind, const Ask& ask) {
    const auto known = algorithms_.find(kind);
    if (known != algorithms_.end()) return known->second;
    ProductKind each = kind;
    const int64_t last = std::max(kind.rows, RoundedRows(most_rows_));
    for (each.rows = std::min(kind.rows, RoundedRows(kMaxSkinnyRows + 1)); each.rows <= last;
         each.rows = RoundedRows(each.rows + 1)) {
      const auto [entry, is_new] = algorithms_.try_emplace(each);
      if (is_new) entry->second = ask(each);
    }
    return algorithms_.at(kind);
  }
  // What Multiply would return, as far as is known. Null: not known to be rejected.
  Error Refusal(const ProductKind& kind, int64_t rows) const {
    for (const auto& [table, key] :
         {std::pair{&exact_, WithRows(kind, rows)}, {&algorithms_, kind}}) {
      const auto known = table->find(key);
      if (known != table->end()) return known->second.refusal;
    }
    return nullptr;
  }

 private:
  static ProductKind WithRows(ProductKind kind, int64_t rows) {
    kind.rows = rows;
    return kind;
  }

  int64_t most_rows_ = 0;
  std::map<ProductKind, Found> algorithms_;
  // By exact rows, where the algorithm for rounded rows failed: at most one entry per kind and
  // number of rows that a step can have.
  std::map<ProductKind, Found> exact_;
};

}  // namespace baram::cuda

#endif  // BARAM_KERNELS_CUDA_ALGORITHM_TABLE_H_
