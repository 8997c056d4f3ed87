// CheckShapes: every mismatch gets its sentence; valid shapes get none.
#include "kernels/shape_check.h"

#include <gtest/gtest.h>

namespace baram {
namespace {

Tensor Shape(int64_t rows, int64_t cols, DType dtype = DType::kF32) {
  return DenseTensor(nullptr, dtype, rows, cols);
}

StepView Tokens(int32_t tokens) {
  StepView step;
  step.tokens = tokens;
  step.outputs = tokens;
  return step;
}

KvPool Pool(HeadShape head, int32_t page_tokens = 16) {
  return {nullptr, {head, 2, page_tokens}, 0, 0};
}

TEST(ShapeCheckTest, Gemm) {
  GemmArgs args{.a = Shape(3, 8), .weight = {nullptr, {16, 8, {}}}, .out = Shape(3, 16)};
  EXPECT_EQ(CheckShapes(args), "");
  args.out.cols = 12;
  EXPECT_EQ(CheckShapes(args), "Gemm: out has 12 columns, the weight 16");
  args.out = Shape(4, 16);
  EXPECT_EQ(CheckShapes(args), "Gemm: out has 4 rows, a 3");
  args.a.cols = 9;
  args.a.stride = 9;
  EXPECT_EQ(CheckShapes(args), "Gemm: a has 9 columns, the weight's input 8");
  args.a.stride = 8;
  EXPECT_EQ(CheckShapes(args), "Gemm: a has rows of 9 elements 8 apart");
}

TEST(ShapeCheckTest, Norms) {
  NormArgs norm{.x = Shape(3, 8), .out = Shape(3, 8)};
  EXPECT_EQ(CheckShapes(norm), "");
  norm.out.rows = 2;
  EXPECT_EQ(CheckShapes(norm), "Norm: out has 2 rows, x 3");

  AddNormArgs add{.branch = Shape(3, 8), .residual = Shape(3, 8), .out = Shape(3, 8)};
  EXPECT_EQ(CheckShapes(add), "");
  add.out = Shape(3, 7);
  EXPECT_EQ(CheckShapes(add), "AddNorm: out has 7 columns, the residual 8");
  add.branch = Shape(2, 8);
  EXPECT_EQ(CheckShapes(add), "AddNorm: branch has 2 rows, the residual 3");
}

TEST(ShapeCheckTest, Attention) {
  const HeadShape head{6, 2, 8};
  const float rope_data = 0;
  StoreKvArgs store{
      .step = Tokens(5), .pool = Pool(head), .layer = {}, .qkv = Shape(5, 80), .rope = {}};
  EXPECT_EQ(CheckShapes(store), "");
  store.rope = {&rope_data, 1, 10, RopeLayout::kHalfSplit};
  EXPECT_NE(CheckShapes(store).find("StoreKv: the rotated elements"), std::string::npos);
  store.rope = {};
  store.qkv = Shape(5, 64);
  EXPECT_EQ(CheckShapes(store), "StoreKv: qkv has 64 columns, the heads together 80");
  store.layer.index = 2;
  EXPECT_EQ(CheckShapes(store), "StoreKv: the layer is not inside its group's pages");

  AttendArgs attend{
      .step = Tokens(5), .pool = Pool(head), .layer = {}, .q = Shape(5, 48), .out = Shape(5, 48)};
  EXPECT_EQ(CheckShapes(attend), "");
  attend.q = Shape(4, 48);
  EXPECT_EQ(CheckShapes(attend), "Attend: q has 4 rows, the step 5");
  attend.pool = Pool({6, 4, 8});
  EXPECT_EQ(CheckShapes(attend), "Attend: the KV heads must divide the query heads");
  attend.pool = Pool({6, 2, 7});
  EXPECT_EQ(CheckShapes(attend), "Attend: the head size must be even and at most 256");
  attend.pool = Pool(head, 24);
  EXPECT_EQ(CheckShapes(attend), "Attend: the tokens of a page must be a power of two");
  attend.pool = Pool(head);
  attend.q = Shape(5, 48);
  attend.scale = 0;
  EXPECT_EQ(CheckShapes(attend), "Attend: the scale must be positive");
}

TEST(ShapeCheckTest, RowOps) {
  EmbedArgs embed{.step = Tokens(5), .table = {nullptr, {100, 8, {}}}, .out = Shape(5, 8)};
  EXPECT_EQ(CheckShapes(embed), "");
  embed.out = Shape(6, 8);
  EXPECT_EQ(CheckShapes(embed), "Embed: out has 6 rows, the step 5");

  ActArgs act{.gate_up = Shape(2, 12), .out = Shape(2, 6)};
  EXPECT_EQ(CheckShapes(act), "");
  act.out = Shape(2, 5);
  EXPECT_EQ(CheckShapes(act), "Act: gate_up has 12 columns, out, twice, 10");

  GatherRowsArgs gather{.x = Shape(9, 8), .out = Shape(2, 8)};
  EXPECT_EQ(CheckShapes(gather), "");
  gather.out.dtype = DType::kBF16;
  EXPECT_EQ(CheckShapes(gather), "GatherRows: out and x must have one type");
}

TEST(ShapeCheckTest, Sample) {
  SampleArgs args{.step = Tokens(3), .logits = Shape(3, 100), .valid_vocab = 97};
  EXPECT_EQ(CheckShapes(args), "");
  args.valid_vocab = 101;
  EXPECT_NE(CheckShapes(args).find("Sample: valid_vocab"), std::string::npos);
  args.logits = Shape(2, 100);
  EXPECT_EQ(CheckShapes(args), "Sample: logits has 2 rows, the step's outputs 3");
  args.logits = Shape(3, 100, DType::kBF16);
  EXPECT_EQ(CheckShapes(args), "Sample: the logits must be f32");
}

TEST(ShapeCheckTest, CostsOfAGemmAreItsProductAndItsBytes) {
  const GemmArgs args{
      .a = Shape(3, 8, DType::kBF16), .weight = {nullptr, {16, 8, {}}}, .out = Shape(3, 16)};
  const OpCost cost = CostOf(args);
  EXPECT_EQ(cost.flops, 2 * 3 * 8 * 16);
  EXPECT_EQ(cost.bytes, 3 * 8 * 2 + 16 * 8 * 2 + 3 * 16 * 4);
  EXPECT_EQ(OpDescription(args), "Gemm bf16[3, 8] x bf16 weight [16, 8] -> f32[3, 16]");
}

}  // namespace
}  // namespace baram
