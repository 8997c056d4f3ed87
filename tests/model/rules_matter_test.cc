// Breaks every rule of every golden once: a golden that would not notice proves nothing about the
// rule.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "tests/model/golden_case.h"
#include "tests/model/model_runner.h"

namespace baram::testing {
namespace {

// The tolerance of an fp32 device, in log-probability. A broken rule must show five times that.
constexpr double kTolerance = 1e-2;

struct Rule {
  const char* name;
  std::function<bool(const ModelSpec&)> applies;
  SpecChange change;
};

using LayerChange = std::function<void(LayerSpec&)>;
using LayerTest = std::function<bool(const LayerSpec&)>;
using RopeChange = std::function<void(RopeSpec&)>;
using WeightsChange = std::function<void(LayerWeights&)>;

std::function<bool(const ModelSpec&)> AnyLayer(LayerTest test) {
  return [test](const ModelSpec& spec) {
    return std::any_of(spec.layers.begin(), spec.layers.end(), test);
  };
}

// Whichever names the checkpoint uses.
void SwapNames(ModelSpec& spec, std::string TensorNames::*a, std::string TensorNames::*b) {
  std::swap(spec.names.*a, spec.names.*b);
  for (TensorNames& names : spec.other_names) std::swap(names.*a, names.*b);
}

// Changes the layers that pass the test; applies if there is one.
Rule OfLayers(const char* name, LayerTest test, LayerChange change) {
  return {name,
          AnyLayer(test),
          {.before_loading =
               [=](ModelSpec& spec) {
                 for (LayerSpec& layer : spec.layers) {
                   if (test(layer)) change(layer);
                 }
               },
           .after_loading = nullptr}};
}

Rule OfRopes(const char* name, std::function<bool(const RopeSpec&)> test, RopeChange change) {
  return {name,
          [=](const ModelSpec& spec) {
            return std::any_of(spec.ropes.begin(), spec.ropes.end(), test);
          },
          {.before_loading =
               [=](ModelSpec& spec) {
                 for (RopeSpec& rope : spec.ropes) {
                   if (test(rope)) change(rope);
                 }
               },
           .after_loading = nullptr}};
}

Rule OfModel(const char* name, std::function<bool(const ModelSpec&)> test,
             std::function<void(ModelSpec&)> change) {
  return {name, std::move(test), {.before_loading = std::move(change), .after_loading = nullptr}};
}

// Omits loaded weights, where the spec has them.
Rule OfWeights(const char* name, LayerTest test, WeightsChange change) {
  return {name,
          AnyLayer(std::move(test)),
          {.before_loading = nullptr, .after_loading = [=](Weights& weights) {
             for (LayerWeights& layer : weights.layers) change(layer);
           }}};
}

bool Always(const ModelSpec&) { return true; }
bool EveryLayer(const LayerSpec&) { return true; }
bool EveryRope(const RopeSpec&) { return true; }
bool Windowed(const LayerSpec& layer) { return layer.window > 0; }
bool HasWindowsAndGlobals(const ModelSpec& spec) {
  return std::any_of(spec.layers.begin(), spec.layers.end(), Windowed) &&
         !std::all_of(spec.layers.begin(), spec.layers.end(), Windowed);
}
int32_t WindowOf(const ModelSpec& spec) {
  return std::find_if(spec.layers.begin(), spec.layers.end(), Windowed)->window;
}
bool IsYarn(const RopeSpec& rope) { return rope.scaling == RopeScaling::kYarn; }
bool IsLlama3(const RopeSpec& rope) { return rope.scaling == RopeScaling::kLlama3; }

NormKind OtherCentre(NormKind kind) {
  switch (kind) {
    case NormKind::kNone:
      return NormKind::kNone;
    case NormKind::kPlain:
      return NormKind::kZeroCentred;
    case NormKind::kZeroCentred:
      return NormKind::kPlain;
  }
  return kind;
}

std::vector<Rule> Rules() {
  return {
      OfLayers("a window is one key wider", Windowed, [](LayerSpec& layer) { ++layer.window; }),
      OfLayers("a window is one key narrower", Windowed, [](LayerSpec& layer) { --layer.window; }),
      OfLayers("no window", Windowed, [](LayerSpec& layer) { layer.window = 0; }),
      OfModel("global layers are windowed", HasWindowsAndGlobals,
              [](ModelSpec& spec) {
                const int32_t window = WindowOf(spec);
                for (LayerSpec& layer : spec.layers) layer.window = window;
              }),
      OfModel("the last layer is of the other kind", HasWindowsAndGlobals,
              [](ModelSpec& spec) {
                const int32_t window = WindowOf(spec);
                int32_t& last = spec.layers.back().window;
                last = last == 0 ? window : 0;
              }),
      OfLayers(
          "layers without rotation have one", [](const LayerSpec& layer) { return layer.rope < 0; },
          [](LayerSpec& layer) { layer.rope = 0; }),
      OfLayers(
          "no rotation", [](const LayerSpec& layer) { return layer.rope >= 0; },
          [](LayerSpec& layer) { layer.rope = -1; }),
      OfModel(
          "global and local rotations are swapped",
          [](const ModelSpec& spec) { return spec.ropes.size() == 2; },
          [](ModelSpec& spec) { std::swap(spec.ropes[0], spec.ropes[1]); }),
      OfRopes("pairs are interleaved", EveryRope,
              [](RopeSpec& rope) { rope.layout = RopeLayout::kInterleaved; }),
      OfRopes("a tenth more theta", EveryRope, [](RopeSpec& rope) { rope.theta *= 1.1; }),
      OfRopes("half of a head is rotated", EveryRope,
              [](RopeSpec& rope) { rope.rotary_dim = rope.rotary_dim / 4 * 2; }),
      OfRopes(
          "no scaling of the rotation",
          [](const RopeSpec& rope) { return rope.scaling != RopeScaling::kDefault; },
          [](RopeSpec& rope) { rope.scaling = RopeScaling::kDefault; }),
      OfRopes("llama3's low factor", IsLlama3, [](RopeSpec& rope) { rope.low_freq_factor *= 2; }),
      OfRopes("llama3's high factor", IsLlama3, [](RopeSpec& rope) { rope.high_freq_factor *= 2; }),
      OfRopes("llama3's original length", IsLlama3,
              [](RopeSpec& rope) { rope.original_max_positions *= 2; }),
      OfRopes("YaRN's magnitude", IsYarn, [](RopeSpec& rope) { rope.attention_factor = 1.0; }),
      OfRopes("YaRN's fast beta", IsYarn, [](RopeSpec& rope) { rope.beta_fast /= 16; }),
      OfRopes("YaRN's slow beta", IsYarn, [](RopeSpec& rope) { rope.beta_slow *= 4; }),
      OfRopes(
          "YaRN's ramp is rounded",
          [](const RopeSpec& rope) { return IsYarn(rope) && !rope.truncate; },
          [](RopeSpec& rope) { rope.truncate = true; }),
      OfRopes(
          "YaRN's mscale", [](const RopeSpec& rope) { return IsYarn(rope) && rope.mscale > 0; },
          [](RopeSpec& rope) { rope.mscale = 0; }),
      OfWeights(
          "no query norm", [](const LayerSpec& layer) { return layer.qk_norm != NormKind::kNone; },
          [](LayerWeights& layer) { layer.q_norm = nullptr; }),
      OfWeights(
          "no key norm", [](const LayerSpec& layer) { return layer.qk_norm != NormKind::kNone; },
          [](LayerWeights& layer) { layer.k_norm = nullptr; }),
      OfWeights(
          "no norm before attention",
          [](const LayerSpec& layer) { return layer.pre_attention != NormKind::kNone; },
          [](LayerWeights& layer) { layer.pre_attention = nullptr; }),
      OfWeights(
          "no norm before the MLP",
          [](const LayerSpec& layer) { return layer.pre_mlp != NormKind::kNone; },
          [](LayerWeights& layer) { layer.pre_mlp = nullptr; }),
      OfWeights(
          "no norm after attention",
          [](const LayerSpec& layer) { return layer.post_attention != NormKind::kNone; },
          [](LayerWeights& layer) { layer.post_attention = nullptr; }),
      OfWeights(
          "no norm after the MLP",
          [](const LayerSpec& layer) { return layer.post_mlp != NormKind::kNone; },
          [](LayerWeights& layer) { layer.post_mlp = nullptr; }),
      OfWeights(
          "norms after the sub-layers come before them",
          [](const LayerSpec& layer) { return layer.pre_mlp == NormKind::kNone; },
          [](LayerWeights& layer) {
            layer.pre_attention = std::exchange(layer.post_attention, nullptr);
            layer.pre_mlp = std::exchange(layer.post_mlp, nullptr);
          }),
      OfLayers(
          "per-head norms are about the other centre",
          [](const LayerSpec& layer) { return layer.qk_norm != NormKind::kNone; },
          [](LayerSpec& layer) { layer.qk_norm = OtherCentre(layer.qk_norm); }),
      OfLayers("norms are about the other centre", EveryLayer,
               [](LayerSpec& layer) {
                 for (NormKind* kind : {&layer.pre_attention, &layer.post_attention, &layer.pre_mlp,
                                        &layer.post_mlp}) {
                   *kind = OtherCentre(*kind);
                 }
               }),
      OfModel("the last norm is about the other centre", Always,
              [](ModelSpec& spec) { spec.final_norm = OtherCentre(spec.final_norm); }),
      OfModel("epsilon", Always, [](ModelSpec& spec) { spec.norm_eps = 0.05f; }),
      OfWeights(
          "no biases of q, k and v", [](const LayerSpec& layer) { return layer.qkv_bias; },
          [](LayerWeights& layer) { layer.qkv_bias = nullptr; }),
      OfWeights(
          "no bias of the attention's output", [](const LayerSpec& layer) { return layer.o_bias; },
          [](LayerWeights& layer) { layer.o_bias = nullptr; }),
      OfWeights(
          "no biases of gate and up", [](const LayerSpec& layer) { return layer.mlp_bias; },
          [](LayerWeights& layer) { layer.gate_up_bias = nullptr; }),
      OfWeights(
          "no bias of down", [](const LayerSpec& layer) { return layer.mlp_bias; },
          [](LayerWeights& layer) { layer.down_bias = nullptr; }),
      OfLayers("the other activation", EveryLayer,
               [](LayerSpec& layer) {
                 layer.activation = layer.activation == Activation::kSilu ? Activation::kGeluTanh
                                                                          : Activation::kSilu;
               }),
      OfModel("gate and up are swapped", Always,
              [](ModelSpec& spec) { SwapNames(spec, &TensorNames::gate, &TensorNames::up); }),
      OfModel("keys and values are swapped", Always,
              [](ModelSpec& spec) { SwapNames(spec, &TensorNames::k, &TensorNames::v); }),
      OfLayers("a tenth more attention scale", EveryLayer,
               [](LayerSpec& layer) { layer.attention_scale *= 1.1f; }),
      OfModel(
          "the attention scale is the head's",
          [](const ModelSpec& spec) {
            return std::abs(spec.layers[0].attention_scale -
                            1 / std::sqrt(static_cast<float>(spec.head.head_dim))) > 1e-3f;
          },
          [](ModelSpec& spec) {
            for (LayerSpec& layer : spec.layers) {
              layer.attention_scale = 1 / std::sqrt(static_cast<float>(spec.head.head_dim));
            }
          }),
      OfLayers(
          "no residual multiplier",
          [](const LayerSpec& layer) { return layer.residual_scale != 1.0f; },
          [](LayerSpec& layer) { layer.residual_scale = 1.0f; }),
      OfModel(
          "no embedding multiplier",
          [](const ModelSpec& spec) { return spec.embedding_scale != 1.0f; },
          [](ModelSpec& spec) { spec.embedding_scale = 1.0f; }),
      OfModel(
          "no logit multiplier", [](const ModelSpec& spec) { return spec.logit_scale != 1.0f; },
          [](ModelSpec& spec) { spec.logit_scale = 1.0f; }),
      OfModel(
          "logits are divided", [](const ModelSpec& spec) { return spec.logit_scale != 1.0f; },
          [](ModelSpec& spec) { spec.logit_scale = 1 / spec.logit_scale; }),
      {"the head is tied",
       [](const ModelSpec& spec) { return !spec.tied_lm_head; },
       {.before_loading = nullptr,
        .after_loading = [](Weights& weights) { weights.lm_head = weights.embedding; }}},
  };
}

class EveryRuleMatters : public ::testing::TestWithParam<std::string> {};

// The model's largest error in log-probability with that change.
absl::StatusOr<double> LargestError(const GoldenCase& golden, const SpecChange& change) {
  const auto runner =
      ModelRunner::Open(TestDevices().front().Open(), golden.folder,
                        static_cast<int32_t>(golden.prompts.front().ids.size()), change);
  if (!runner.ok()) return runner.status();
  std::vector<std::vector<float>> log_probs;
  for (const GoldenPrompt& prompt : golden.prompts) {
    log_probs.push_back(
        (*runner)->Run(prompt.ids, static_cast<int32_t>(prompt.ids.size()), 0).log_probs);
  }
  return ErrorOf(golden, log_probs, 0).max;
}

TEST_P(EveryRuleMatters, ToItsGolden) {
  const GoldenCase golden = ReadGoldenCase(GetParam());
  const absl::StatusOr<ModelSpec> spec = ReadModelSpec(golden.folder);
  ASSERT_TRUE(spec.ok()) << spec.status();
  const absl::StatusOr<double> error = LargestError(golden, {});
  ASSERT_TRUE(error.ok()) << error.status();
  const bool agrees = *error < kTolerance;
  EXPECT_TRUE(agrees) << "the spec is wrong by " << *error << "; what follows may say where";
  bool explained = agrees;
  for (const Rule& rule : Rules()) {
    if (!rule.applies(*spec)) continue;
    const absl::StatusOr<double> broken = LargestError(golden, rule.change);
    ASSERT_TRUE(broken.ok()) << rule.name << ": " << broken.status();
    if (agrees) {
      EXPECT_GT(*broken, 5 * kTolerance)
          << "this golden does not show the rule that \"" << rule.name
          << "\" breaks: lengthen its prompt, or the family has no such rule";
    } else {
      EXPECT_GT(*broken, kTolerance)
          << "the reference agrees with this break of the spec: " << rule.name;
      explained = explained || *broken <= kTolerance;
    }
  }
  EXPECT_TRUE(explained) << "no break of one rule explains it: a rule is missing from the spec, a "
                            "key of config.json is not read or has another default, or two rules "
                            "are wrong";
}

INSTANTIATE_TEST_SUITE_P(Models, EveryRuleMatters, ::testing::ValuesIn(GoldenCaseNames()),
                         [](const auto& info) { return info.param; });

// A rule that no golden has would not be tested.
TEST(EveryRuleMattersTest, AppliesSomewhere) {
  std::set<std::string> unused;
  for (const Rule& rule : Rules()) unused.insert(rule.name);
  for (const std::string& name : GoldenCaseNames()) {
    const absl::StatusOr<ModelSpec> spec = ReadModelSpec(ReadGoldenCase(name).folder);
    ASSERT_TRUE(spec.ok()) << spec.status();
    for (const Rule& rule : Rules()) {
      if (rule.applies(*spec)) unused.erase(rule.name);
    }
  }
  EXPECT_TRUE(unused.empty()) << "no golden has the rule that \"" << *unused.begin()
                              << "\" breaks: add a case to golden_cases.py";
}

}  // namespace
}  // namespace baram::testing
