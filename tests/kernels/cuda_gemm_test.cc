// The GEMM kernels on the emulation, plan by plan, in three thread orders. Factors are small
// integers, so that sums are exact and any summation order must give the same bits.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cuda/emulation/emulator.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/pack.h"
#include "kernels/float_types.h"

namespace baram::cuda {
namespace {

using emulation::LaneOrder;

constexpr uint16_t kNaN = 0x7fff;  // bf16; no kernel may read it or leave it behind
constexpr int64_t kOutGap = 3;

struct GemmCase {
  GemmPlan plan;
  int64_t rows, n, k;
  int64_t a_gap = 8;     // elements between the rows of a
  int64_t a_offset = 0;  // elements before the first
  DType out = DType::kF32;
  bool bias = false;
  float scale = 1.0f;
};

void PrintTo(const GemmCase& c, std::ostream* os) {
  *os << c.rows << " x " << c.n << " x " << c.k << ", " << ToString(c.plan);
}

constexpr GemmPlan Skinny(int32_t warps, int32_t splits = 1) {
  return {.path = GemmPath::kSkinny, .warps = warps, .splits = splits};
}
constexpr GemmPlan Mma(int32_t tile, int32_t splits = 1) {
  return {.path = GemmPath::kMma, .tile = tile, .splits = splits};
}

float AValue(int64_t row, int64_t i) { return static_cast<float>((row * 31 + i * 7) % 11 - 5); }
float WValue(int64_t column, int64_t i) {
  return static_cast<float>((column * 17 + i * 5) % 9 - 4);
}
float BiasValue(int64_t column) { return static_cast<float>(column % 13) * 0.5f; }

// Everything in allocations of exact size: the sanitizer catches a read of the first byte past the
// end.
struct Layout {
  explicit Layout(const GemmCase& c)
      : a_stride(c.k + c.a_gap),
        out_stride(c.n + kOutGap),
        a(c.a_offset + (c.rows - 1) * a_stride + c.k, kNaN),
        out(((c.rows - 1) * out_stride + c.n) * DTypeBytes(c.out), 0xff),
        partials(kSplitBytes / 64, std::nanf("")),
        arrived(kMaxSplitTiles, 0) {
    for (int64_t row = 0; row < c.rows; ++row) {
      for (int64_t i = 0; i < c.k; ++i) {
        a[c.a_offset + row * a_stride + i] = BF16FromF32(AValue(row, i));
      }
    }
    const WeightShape shape{c.n, c.k, {}};
    std::vector<float> rows(c.n * c.k);
    for (int64_t i = 0; i < c.n * c.k; ++i) rows[i] = WValue(i / c.k, i % c.k);
    weight.resize(c.n * PackedStride(shape));
    ConvertRows(shape, {rows.data(), DType::kF32, c.n}, 0, c.n, weight.data());
    for (int64_t i = 0; i < c.n && c.bias; ++i) bias.push_back(BiasValue(i));
    args = {.a = {a.data() + c.a_offset, DType::kBF16, c.rows, c.k, a_stride},
            .weight = {weight.data(), shape},
            .bias = c.bias ? bias.data() : nullptr,
            .scale = c.scale,
            .out = {out.data(), c.out, c.rows, c.n, out_stride}};
  }

  int64_t a_stride, out_stride;
  std::vector<uint16_t> a;
  std::vector<uint8_t> out;
  std::vector<float> partials;
  std::vector<uint32_t> arrived;
  std::vector<uint16_t> weight;
  std::vector<float> bias;
  GemmArgs args;
};

class CudaGemmTest : public testing::TestWithParam<GemmCase> {};

TEST_P(CudaGemmTest, AddsAllProductsInEveryOrderOfThreads) {
  const GemmCase& c = GetParam();
  for (LaneOrder order : {LaneOrder::kForward, LaneOrder::kBackward, LaneOrder::kShuffled}) {
    emulation::SetLaneOrder(order);
    Layout layout(c);
    const SplitMemory memory{layout.partials.data(), layout.arrived.data()};
    const auto launch = c.plan.path == GemmPath::kSkinny ? LaunchGemmSkinny : LaunchGemmMma;
    launch(layout.args, c.plan, memory, {nullptr});
    for (int64_t row = 0; row < c.rows; ++row) {
      for (int64_t column = 0; column < c.n; ++column) {
        float sum = 0;
        for (int64_t i = 0; i < c.k; ++i) sum += AValue(row, i) * WValue(column, i);
        float want = sum * c.scale + (c.bias ? BiasValue(column) : 0.0f);
        if (c.out == DType::kBF16) want = F32FromBF16(BF16FromF32(want));
        const float got = LoadElement(layout.out.data(), c.out, row * layout.out_stride + column);
        ASSERT_EQ(got, want) << row << ", " << column;
      }
      const int64_t gap = (row * layout.out_stride + c.n) * DTypeBytes(c.out);
      for (int64_t i = 0; row + 1 < c.rows && i < kOutGap * DTypeBytes(c.out); ++i) {
        ASSERT_EQ(layout.out[gap + i], 0xff) << "after row " << row;
      }
    }
    for (uint32_t arrived : layout.arrived) ASSERT_EQ(arrived, 0u);
  }
}

// k = 136: 16 bytes more than two steps of either kernel.
INSTANTIATE_TEST_SUITE_P(
    Skinny, CudaGemmTest,
    testing::Values(GemmCase{Skinny(4), 1, 16, 136}, GemmCase{Skinny(4), 8, 17, 136},
                    GemmCase{Skinny(4), 9, 33, 520, 8, 0, DType::kBF16, true, 0.5f},
                    GemmCase{Skinny(4), 16, 32, 1160, 0}, GemmCase{Skinny(8), 5, 40, 1096, 16},
                    GemmCase{Skinny(16), 16, 16, 264}, GemmCase{Skinny(16), 3, 20, 2184},
                    GemmCase{Skinny(4, 2), 2, 40, 1032, 8, 0, DType::kF32, true},
                    GemmCase{Skinny(8, 3), 13, 7, 1544, 8, 0, DType::kBF16},
                    GemmCase{Skinny(4), 4, 3, 8}));
INSTANTIATE_TEST_SUITE_P(
    Mma, CudaGemmTest,
    testing::Values(GemmCase{Mma(64), 1, 1, 1, 1}, GemmCase{Mma(64), 65, 67, 136},
                    GemmCase{Mma(64), 7, 70, 130, 6}, GemmCase{Mma(64), 20, 20, 62, 3},
                    GemmCase{Mma(64), 64, 64, 320, 8, 1, DType::kBF16, true, 0.25f},
                    GemmCase{Mma(64, 2), 70, 50, 260, 4, 0, DType::kBF16, true, 2.0f},
                    GemmCase{Mma(64, 3), 18, 130, 520, 1, 0, DType::kF32, true},
                    GemmCase{Mma(128), 130, 129, 136, 8, 0, DType::kBF16, true, 0.5f},
                    GemmCase{Mma(128), 96, 200, 264, 0}));

TEST(CudaGemmRows, AreTheSameBitsWhateverTheSkinnyProductsRows) {
  emulation::SetLaneOrder(LaneOrder::kForward);
  const GemmCase all{Skinny(4, 2), 16, 24, 1032};
  Layout whole(all);
  // Fractions, whose sums round.
  for (size_t i = 0; i < whole.a.size(); ++i) {
    whole.a[i] = BF16FromF32(std::sin(static_cast<float>(i)));
  }
  Layout part(all);
  part.a = whole.a;
  part.args.a.data = part.a.data();
  LaunchGemmSkinny(whole.args, all.plan, {whole.partials.data(), whole.arrived.data()}, {nullptr});
  part.args.a.rows = part.args.out.rows = 3;
  LaunchGemmSkinny(part.args, all.plan, {part.partials.data(), part.arrived.data()}, {nullptr});
  const size_t bytes = (2 * whole.out_stride + all.n) * sizeof(float);
  EXPECT_EQ(std::memcmp(whole.out.data(), part.out.data(), bytes), 0);
}

}  // namespace
}  // namespace baram::cuda
