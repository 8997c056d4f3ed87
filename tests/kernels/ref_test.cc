// The ref device against values computed by hand: it defines the ops, so nothing else checks it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "kernels/device.h"
#include "kernels/float_types.h"

namespace baram {
namespace {

using testing::ElementsAre;
using testing::FloatNear;
using testing::Pointwise;

class RefTest : public testing::Test {
 protected:
  RefTest() {
    std::string error;
    device_ = OpenDevice("ref", {}, &error);
    EXPECT_TRUE(device_->ReserveSlots({.slots = 2,
                                       .groups = 1,
                                       .max_pages_per_slot = 4,
                                       .vocab_size = 4,
                                       .max_step_tokens = 8,
                                       .max_step_outputs = 4}));
  }
  // Device memory is host memory on ref.
  static Tensor View(std::vector<float>& values, int64_t rows) {
    return DenseTensor(values.data(), DType::kF32, rows,
                       static_cast<int64_t>(values.size()) / rows);
  }
  std::unique_ptr<Device> device_;
};

TEST_F(RefTest, NormDividesByTheRootMeanSquare) {
  std::vector<float> x = {3, 4, 0, 0};  // mean square 6.25, with eps 6.5025 = 2.55^2
  std::vector<float> out(4);
  const std::vector<float> weight = {1, 2, 3, 4};
  device_->Norm({.x = View(x, 1), .weight = weight.data(), .eps = 0.2525f, .out = View(out, 1)});
  EXPECT_THAT(out, Pointwise(FloatNear(1e-6f), {3 / 2.55f, 8 / 2.55f, 0.0f, 0.0f}));
}

TEST_F(RefTest, AddNormNormsTheBranchThenTheSum) {
  std::vector<float> branch = {3, 4};  // mean square 12.5
  std::vector<float> residual = {1, 1};
  std::vector<float> out(2);
  const std::vector<float> post = {2, 2};
  const std::vector<float> pre = {1, 3};
  device_->AddNorm({.branch = View(branch, 1),
                    .residual = View(residual, 1),
                    .post_weight = post.data(),
                    .pre_weight = pre.data(),
                    .scale = 0.5f,
                    .eps = 0,
                    .out = View(out, 1)});
  const float a = 1 + 3 / std::sqrt(12.5f);
  const float b = 1 + 4 / std::sqrt(12.5f);
  const float rms = std::sqrt((a * a + b * b) / 2);
  EXPECT_THAT(residual, Pointwise(FloatNear(1e-6f), {a, b}));
  EXPECT_THAT(out, Pointwise(FloatNear(1e-6f), {a / rms, 3 * b / rms}));
}

TEST_F(RefTest, GemmScalesBeforeTheBias) {
  const WeightShape shape{2, 3, {DType::kF32}};
  std::vector<uint16_t> rows;  // as in a bf16 checkpoint
  for (float value : {1.0f, 2.0f, 3.0f, -1.0f, 0.5f, 0.0f}) rows.push_back(BF16FromF32(value));
  const Buffer packed = device_->Alloc(device_->PackedBytes(shape));
  device_->PackWeight(shape, {rows.data() + 3, DType::kBF16, 1}, 1, packed.data());
  device_->PackWeight(shape, {rows.data(), DType::kBF16, 1}, 0, packed.data());
  std::vector<float> a = {1, 1, 1, 2, 4, 8};
  std::vector<float> out(4);
  const std::vector<float> bias = {10, 20};
  device_->Gemm({.a = View(a, 2),
                 .weight = {packed.data(), shape},
                 .bias = bias.data(),
                 .scale = 0.5f,
                 .out = View(out, 2)});
  EXPECT_THAT(out, ElementsAre(13, 19.75f, 27, 20));
}

TEST_F(RefTest, ActivationsMultiplyTheSecondHalf) {
  std::vector<float> gate_up = {1, -1, 10, 100};
  std::vector<float> out(2);
  device_->Act({.gate_up = View(gate_up, 1), .kind = Activation::kSilu, .out = View(out, 1)});
  EXPECT_THAT(out, Pointwise(FloatNear(1e-4f), {7.3105858f, -26.894142f}));
  device_->Act({.gate_up = View(gate_up, 1), .kind = Activation::kGeluTanh, .out = View(out, 1)});
  EXPECT_THAT(out, Pointwise(FloatNear(1e-4f), {8.411920f, -15.880801f}));
}

// One head of four elements at position 1, cosines 0 and sines 1: a quarter turn of each pair.
TEST_F(RefTest, RotationTurnsPairsOfItsLayout) {
  const KvShape shape{{1, 1, 4}, 1, 2};
  const int64_t page_bytes = device_->KvBytesPerPage(shape);
  const Buffer memory = device_->Alloc(page_bytes);
  const std::vector<float> rope = {9, 9, 9, 9, 0, 0, 1, 1};  // [2 positions, 4]
  const std::vector<SlotInit> inits = {
      {.slot = 0, .length = 1, .sampling = {}, .tokens = {}, .bias = {}, .stop_ids = {}}};
  const std::vector<PageDelta> deltas = {{0, 0, 0, 0}};
  const std::vector<Row> rows = {{.slot = 0}};
  const std::vector<int32_t> tokens = {0};
  const auto rotated = [&](RopeLayout layout, int32_t rotary_dim) {
    std::vector<float> qkv = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const StepView view = device_->BeginStep(
        {.inits = inits, .page_deltas = deltas, .rows = rows, .tokens = tokens, .targets = {}});
    device_->StoreKv({.step = view,
                      .pool = {memory.data(), shape, page_bytes, 1},
                      .layer = {},
                      .qkv = View(qkv, 1),
                      .rope = {rope.data(), 2, rotary_dim, layout}});
    return std::vector<float>(qkv.begin(), qkv.begin() + 4);
  };
  EXPECT_THAT(rotated(RopeLayout::kHalfSplit, 4), ElementsAre(-3, -4, 1, 2));
  EXPECT_THAT(rotated(RopeLayout::kInterleaved, 4), ElementsAre(-2, 1, -4, 3));
  // Two rotated elements: the table's rows are two long, row 1 is (9, 9).
  EXPECT_THAT(rotated(RopeLayout::kHalfSplit, 2), ElementsAre(9 - 18, 18 + 9, 3, 4));
}

TEST_F(RefTest, AttentionIsCausalAndKeepsItsWindow) {
  const KvShape shape{{2, 1, 2}, 1, 2};
  const int64_t page_bytes = device_->KvBytesPerPage(shape);
  const Buffer memory = device_->Alloc(3 * page_bytes);
  const KvPool pool{memory.data(), shape, page_bytes, 3};
  const std::vector<SlotInit> inits = {
      {.slot = 1, .sampling = {}, .tokens = {}, .bias = {}, .stop_ids = {}}};
  const std::vector<PageDelta> deltas = {{1, 0, 0, 2}, {1, 0, 1, 0}};
  const std::vector<Row> rows = {{.slot = 1, .count = 3}};
  const std::vector<int32_t> tokens = {0, 0, 0};
  // Two query heads, then a key and a value. Keys are (0, 0), (1, 0), (2, 0).
  std::vector<float> qkv = {1, 0, 0, 5, 0, 0, 1, 10,  //
                            1, 0, 0, 5, 1, 0, 2, 20,  //
                            1, 0, 0, 5, 2, 0, 4, 40};
  std::vector<float> out(12);
  std::vector<float> scratch(64);
  const StepView view = device_->BeginStep(
      {.inits = inits, .page_deltas = deltas, .rows = rows, .tokens = tokens, .targets = {}});
  device_->StoreKv({.step = view, .pool = pool, .layer = {}, .qkv = View(qkv, 3), .rope = {}});
  AttendArgs attend{.step = view,
                    .pool = pool,
                    .layer = {},
                    .q = View(qkv, 3).Cols(0, 4),
                    .scale = std::log(2.0f),
                    .out = View(out, 3),
                    .scratch = scratch.data()};
  device_->Attend(attend);
  // Head 0 weights keys by powers of two, head 1 (whose scores are all zero) equally.
  EXPECT_THAT(out, Pointwise(FloatNear(1e-5f), {1.0f, 10.0f, 1.0f, 10.0f,          //
                                                5 / 3.0f, 50 / 3.0f, 1.5f, 15.0f,  //
                                                21 / 7.0f, 210 / 7.0f, 7 / 3.0f, 70 / 3.0f}));
  attend.window = 2;
  device_->Attend(attend);
  EXPECT_THAT(std::vector<float>(out.begin() + 8, out.end()),
              Pointwise(FloatNear(1e-5f), {10 / 3.0f, 100 / 3.0f, 3.0f, 30.0f}));
}

TEST_F(RefTest, PaddingIsNeitherStoredNorAttendedTo) {
  const KvShape shape{{1, 1, 2}, 1, 2};
  const int64_t page_bytes = device_->KvBytesPerPage(shape);
  const Buffer memory = device_->Alloc(page_bytes);
  const KvPool pool{memory.data(), shape, page_bytes, 1};
  const PageDelta delta{0, 0, 0, 0};
  const Row row{.slot = 0, .draws = true};
  const int32_t token = 3;
  std::vector<float> qkv = {1,   0,   5,   6,   7,   8,  //
                            NAN, NAN, NAN, NAN, NAN, NAN};
  std::vector<float> out(4, -1);
  std::vector<float> scratch(64);
  const StepView view = device_->BeginStep({.inits = {},
                                            .page_deltas = {&delta, 1},
                                            .rows = {&row, 1},
                                            .tokens = {&token, 1},
                                            .targets = {},
                                            .padded_rows = 2});
  device_->StoreKv({.step = view, .pool = pool, .layer = {}, .qkv = View(qkv, 2), .rope = {}});
  device_->Attend({.step = view,
                   .pool = pool,
                   .layer = {},
                   .q = View(qkv, 2).Cols(0, 2),
                   .out = View(out, 2),
                   .scratch = scratch.data()});
  EXPECT_THAT(out, ElementsAre(7, 8, -1, -1));
  const auto* cache = static_cast<const float*>(memory.data());
  EXPECT_THAT(std::vector<float>(cache, cache + 8), ElementsAre(5, 6, 0, 0, 7, 8, 0, 0));
}

// Its column belongs to no token: a padded table may hold anything there.
TEST_F(RefTest, ATargetPastTheVocabularyIsTheLeastLikely) {
  const Row row{.slot = 0, .scores = 1};
  const int32_t token = 0;
  for (const float foreign : {NAN, 50.0f}) {
    for (const int32_t target : {1, 3}) {
      std::vector<float> logits = {1, 2, 3, foreign};
      TokenResult result;
      const StepView view = device_->BeginStep({.inits = {},
                                                .page_deltas = {},
                                                .rows = {&row, 1},
                                                .tokens = {&token, 1},
                                                .targets = {&target, 1}});
      device_->Sample(
          {.step = view, .logits = View(logits, 1), .valid_vocab = 3, .results = &result});
      EXPECT_EQ(result.flags, kResultOk);
      EXPECT_EQ(result.token, target);
      EXPECT_EQ(result.rank, target == 1 ? 2 : 4);
      EXPECT_FLOAT_EQ(result.logprob, target == 1 ? -1.4076059f : -INFINITY);
    }
  }
}

TEST(FloatTypesTest, RoundToNearestEven) {
  EXPECT_EQ(F32FromBF16(BF16FromF32(1.00390625f)), 1.0f);       // a tie, down to even
  EXPECT_EQ(F32FromBF16(BF16FromF32(1.01171875f)), 1.015625f);  // a tie, up to even
  EXPECT_TRUE(std::isnan(F32FromBF16(BF16FromF32(NAN))));
  EXPECT_EQ(F32FromBF16(BF16FromF32(3.4e38f)), INFINITY);
  EXPECT_EQ(F16FromF32(65504.0f), 0x7bff);
  EXPECT_EQ(F16FromF32(65520.0f), 0x7c00);
  EXPECT_EQ(F16FromF32(-0x1p-24f), 0x8001);
  EXPECT_EQ(F16FromF32(0x1p-14f), 0x0400);
  EXPECT_TRUE(std::isnan(F32FromF16(F16FromF32(NAN))));
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {  // all finite halves round-trip
    if ((bits & 0x7c00) == 0x7c00) continue;
    ASSERT_EQ(F16FromF32(F32FromF16(static_cast<uint16_t>(bits))), bits);
  }
}

}  // namespace
}  // namespace baram
