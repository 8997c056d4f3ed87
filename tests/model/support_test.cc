// The traced forward pass: ops that a device does not support are named, supported ones are
// counted.
#include "engine/model/support.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/model/hf_config.h"
#include "engine/model/step_cost.h"
#include "engine/model/weight_layout.h"
#include "kernels/trace/trace_device.h"
#include "tests/model/golden_case.h"
#include "tests/model/model_runner.h"

namespace baram::testing {
namespace {

using ::testing::HasSubstr;

ModelSpec GoldenSpec(const std::string& name) {
  return *ReadModelSpec(ReadGoldenCase(name).folder);
}

// ref, with one op unsupported.
class PickyDevice final : public Device {
 public:
  const DeviceInfo& Info() const override { return ref_->Info(); }
  std::string Unsupported(const OpArgs& args) const override {
    const auto* attend = std::get_if<AttendArgs>(&args);
    if (attend != nullptr && attend->window > 0) return "windows are beyond it";
    return ref_->Unsupported(args);
  }
  int64_t KvBytesPerPage(const KvShape& shape) const override {
    return ref_->KvBytesPerPage(shape);
  }
  int64_t AttendScratchBytes(const KvShape& shape, const SlotShape& slots) const override {
    return ref_->AttendScratchBytes(shape, slots);
  }
  int64_t PackedBytes(const WeightShape& shape) const override { return ref_->PackedBytes(shape); }
  // A support check computes nothing and allocates nothing.
  void PackWeight(const WeightShape&, const HostRows&, int64_t, void*) override { ADD_FAILURE(); }
  Buffer Alloc(int64_t) override { return ADD_FAILURE(), Buffer(); }
  void Upload(void*, const void*, int64_t) override { ADD_FAILURE(); }
  void Download(void*, const void*, int64_t) override { ADD_FAILURE(); }
  [[nodiscard]] bool ReserveSlots(const SlotShape&) override { return ADD_FAILURE(), false; }
  StepView BeginStep(const StepInput&) override { return ADD_FAILURE(), StepView(); }
  void Embed(const EmbedArgs&) override { ADD_FAILURE(); }
  void Norm(const NormArgs&) override { ADD_FAILURE(); }
  void AddNorm(const AddNormArgs&) override { ADD_FAILURE(); }
  void Gemm(const GemmArgs&) override { ADD_FAILURE(); }
  void StoreKv(const StoreKvArgs&) override { ADD_FAILURE(); }
  void Attend(const AttendArgs&) override { ADD_FAILURE(); }
  void Act(const ActArgs&) override { ADD_FAILURE(); }
  void GatherRows(const GatherRowsArgs&) override { ADD_FAILURE(); }
  void Sample(const SampleArgs&) override { ADD_FAILURE(); }

 private:
  std::unique_ptr<Device> ref_ = TestDevices().front().Open();
};

TEST(SupportTest, EveryGoldenIsSupportedByEveryDevice) {
  for (const TestDevice& device : TestDevices()) {
    const std::unique_ptr<Device> opened = device.Open();
    for (const std::string& name : GoldenCaseNames()) {
      const absl::Status status = CheckSupport(GoldenSpec(name), *opened, 0);
      EXPECT_TRUE(status.ok()) << name << " on " << device.name << ": " << status;
    }
  }
}

TEST(SupportTest, WhatIsNotSupportedIsNamed) {
  const PickyDevice picky;
  EXPECT_TRUE(CheckSupport(GoldenSpec("llama_untied"), picky, 0).ok());
  const absl::Status status = CheckSupport(GoldenSpec("mistral_window"), picky, 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(), HasSubstr("cannot run MistralForCausalLM: Attend "));
  EXPECT_THAT(status.message(), HasSubstr("window 13"));
  EXPECT_THAT(status.message(), HasSubstr("windows are beyond it"));
}

TEST(SupportTest, CountsTheOpsOfAStep) {
  const std::unique_ptr<Device> device = TestDevices().front().Open();
  for (const char* name : {"llama_untied", "gemma3"}) {
    const ModelSpec spec = GoldenSpec(name);
    const int64_t layers = std::ssize(spec.layers);
    const StepOps ops = CountOps(spec, *device);
    EXPECT_EQ(ops.products, layers * 4 + 1) << "QKV, output, gate and up, down; the head";
    EXPECT_EQ(ops.others, layers * 5 + 4)
        << "cache, attention, two norms, activation; embedding, first norm, two gathers";
  }
}

// A decode step reads every weight once, so it costs at least their bytes, and little more.
TEST(SupportTest, CostsFollowTheShapes) {
  const ModelSpec spec = GoldenSpec("llama_untied");
  const std::unique_ptr<Device> device = TestDevices().front().Open();
  const double matrices = static_cast<double>(ParameterCount(spec)) -
                          static_cast<double>(spec.vocab_size) * spec.hidden;  // one row is read
  const OpCost decode = StepCost(spec, *device, 1, 1, 0);
  EXPECT_GT(decode.bytes, 4 * matrices * 0.99);
  EXPECT_LT(decode.bytes, 4 * matrices * 1.3);
  EXPECT_GT(decode.flops, 2 * matrices * 0.99);
  EXPECT_LT(decode.flops, 2 * matrices * 1.1);

  // 512 tokens cost 512 times as much, except for what follows the last layer's attention.
  const OpCost prefill = StepCost(spec, *device, 512, 1, 0);
  const double last =
      2.0 * spec.hidden *
      (spec.head.heads * spec.head.head_dim + 3 * spec.layers.back().ffn + spec.vocab_size);
  EXPECT_NEAR(prefill.flops, 512 * (decode.flops - last) + last, 0.02 * prefill.flops);
}

// Llama 3.1 8B: 7.505 billion parameters in products, 131,072 elements of cache per token.
TEST(SupportTest, TheLeastCostIsOfWeightsAndCacheAlone) {
  ModelSpec spec;
  spec.hidden = 4096;
  spec.vocab_size = 128'256;
  spec.max_positions = 8192;
  spec.head = {.heads = 32, .kv_heads = 8, .head_dim = 128};
  spec.ropes = {{.rotary_dim = 128}};
  spec.layers.assign(32, {.ffn = 14'336});
  const std::unique_ptr<Device> device = TestDevices().front().Open();
  const double bytes = DTypeBytes(device->Info().weights.dtype);
  const StepParts one = LeastStepCost(spec, *device, 1, 1, 1024);
  EXPECT_DOUBLE_EQ(one.products.bytes, 7'504'658'432.0 * bytes);
  EXPECT_DOUBLE_EQ(one.products.flops, 2 * 7'504'658'432.0);
  EXPECT_NEAR(one.attention.bytes, 1024 * 65'536.0 * DTypeBytes(device->Info().activation), 1e3);
  EXPECT_NEAR(one.attention.flops, 1024 * 32 * 4 * 4096.0, 1e3);
  const StepParts many = LeastStepCost(spec, *device, 32, 32, 32 * 1024);
  EXPECT_DOUBLE_EQ(many.products.bytes, one.products.bytes);
  EXPECT_DOUBLE_EQ(many.products.flops, 32 * one.products.flops);
  EXPECT_NEAR(many.attention.bytes, 32 * one.attention.bytes, 1e5);
}

TEST(SupportTest, WindowsBoundTheContext) {
  const ModelSpec spec = GoldenSpec("mistral_window");
  const std::unique_ptr<Device> device = TestDevices().front().Open();
  const double window = spec.layers[0].window;
  EXPECT_EQ(StepCost(spec, *device, 1, 1, 1000).flops, StepCost(spec, *device, 1, 1, window).flops);
  EXPECT_GT(StepCost(spec, *device, 1, 1, window).flops, StepCost(spec, *device, 1, 1, 1).flops);
}

}  // namespace
}  // namespace baram::testing
