// config.json of models that also see images; only the text model is served.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/model/hf_config.h"
#include "engine/model/weight_layout.h"
#include "nlohmann/json.hpp"
#include "tests/model/config_bed.h"

namespace baram {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

// Gemma 3 4B as published.
json Published() {
  return {{"architectures", {"Gemma3ForConditionalGeneration"}},
          {"boi_token_index", 255999},
          {"eoi_token_index", 256000},
          {"eos_token_id", {1, 106}},
          {"image_token_index", 262144},
          {"initializer_range", 0.02},
          {"mm_tokens_per_image", 256},
          {"model_type", "gemma3"},
          {"text_config",
           {{"hidden_size", 2560},
            {"intermediate_size", 10240},
            {"model_type", "gemma3_text"},
            {"num_hidden_layers", 34},
            {"rope_scaling", {{"factor", 8.0}, {"rope_type", "linear"}}},
            {"sliding_window", 1024}}},
          {"torch_dtype", "bfloat16"},
          {"transformers_version", "4.50.0.dev0"},
          {"vision_config",
           {{"hidden_size", 1152},
            {"image_size", 896},
            {"intermediate_size", 4304},
            {"model_type", "siglip_vision_model"},
            {"num_attention_heads", 16},
            {"num_hidden_layers", 27},
            {"patch_size", 14},
            {"vision_use_head", false}}}};
}

ModelSpec ReadPublished(const json& outside, const json& inside = json::object()) {
  json config = Published();
  config.update(outside);
  config["text_config"].update(inside);
  return testing::ReadGood(config);
}

TEST(MultimodalConfigTest, Gemma3AsPublished) {
  const ModelSpec spec = ReadPublished(json::object());
  EXPECT_EQ(spec.architecture, "Gemma3ForConditionalGeneration");
  EXPECT_EQ(spec.hidden, 2560);
  EXPECT_EQ(spec.vocab_size, 262208);
  EXPECT_EQ(spec.head, (HeadShape{8, 4, 256}));
  EXPECT_EQ(spec.max_positions, 131072);
  EXPECT_EQ(spec.embedding_scale, 50.5f);
  EXPECT_TRUE(spec.tied_lm_head);
  ASSERT_EQ(spec.layers.size(), 34u);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const bool global = i % 6 == 5;
    EXPECT_EQ(spec.layers[i].window, global ? 0 : 1024) << i;
    EXPECT_EQ(spec.layers[i].rope, global ? 0 : 1) << i;
  }
  EXPECT_EQ(spec.layers[0].ffn, 10240);
  EXPECT_FLOAT_EQ(spec.layers[0].attention_scale, 1.0f / 16);
  ASSERT_EQ(spec.ropes.size(), 2u);
  EXPECT_EQ(spec.ropes[0].scaling, RopeScaling::kLinear);
  EXPECT_EQ(spec.ropes[0].factor, 8);
  EXPECT_EQ(spec.ropes[0].theta, 1e6);
  EXPECT_EQ(spec.ropes[1].scaling, RopeScaling::kDefault);
  EXPECT_EQ(spec.ropes[1].theta, 1e4);
  // Those of the text model: the folder holds 4.3 billion.
  EXPECT_EQ(ParameterCount(spec), 3'880'263'168);
}

TEST(MultimodalConfigTest, ModelTypeAloneNamesIt) {
  EXPECT_EQ(ReadPublished({{"architectures", nullptr}}).architecture,
            "Gemma3ForConditionalGeneration");
}

TEST(MultimodalConfigTest, Gemma3sNamesAreThoseOfHubAndTrainers) {
  const ModelSpec spec = ReadPublished({{"tie_word_embeddings", false}});
  ASSERT_EQ(spec.other_names.size(), 1u);
  const TensorNames& hub = spec.names;
  const TensorNames& saved = spec.other_names.front();
  EXPECT_EQ(hub.embedding, "language_model.model.embed_tokens");
  EXPECT_EQ(hub.lm_head, "language_model.lm_head");
  EXPECT_THAT(hub.skipped_prefixes, ElementsAre("vision_tower.", "multi_modal_projector."));
  EXPECT_EQ(saved.embedding, "model.language_model.embed_tokens");
  EXPECT_EQ(saved.lm_head, "lm_head");
  EXPECT_THAT(saved.skipped_prefixes,
              ElementsAre("model.vision_tower.", "model.multi_modal_projector."));
  const auto expect_all = [&](const TensorNames& names, const std::string& prefix) {
    ModelSpec named = spec;
    named.names = names;
    for (const ExpectedTensor& tensor : ExpectedTensors(named)) {
      if (tensor.name == names.lm_head + ".weight") continue;
      EXPECT_EQ(tensor.name.substr(0, prefix.size()), prefix);
    }
  };
  expect_all(hub, "language_model.model.");
  expect_all(saved, "model.language_model.");
  EXPECT_EQ(saved.post_mlp, "model.language_model.layers.{}.post_feedforward_layernorm");
}

// The reference ignores the text part's values of these.
TEST(MultimodalConfigTest, TypeAndTiedHeadAreSaidOutside) {
  EXPECT_EQ(ReadPublished({{"torch_dtype", "float32"}}, {{"dtype", "bfloat16"}}).embedding_scale,
            std::sqrt(2560.0f));
  EXPECT_EQ(ReadPublished({{"torch_dtype", nullptr}}, {{"dtype", "float32"}}).embedding_scale,
            50.5f);
  EXPECT_TRUE(ReadPublished(json::object(), {{"tie_word_embeddings", false}}).tied_lm_head);
  EXPECT_FALSE(ReadPublished({{"tie_word_embeddings", false}}, {{"tie_word_embeddings", true}})
                   .tied_lm_head);
}

TEST(MultimodalConfigTest, BadFieldsAreNamedWithTheirObject) {
  struct Bad {
    json outside, inside;
    const char* complaint;
  };
  const json none = json::object();
  for (const Bad& bad : {
           Bad{none, {{"hidden_size", nullptr}}, "text_config.hidden_size is missing"},
           Bad{none,
               {{"num_hidden_layers", "34"}},
               "text_config.num_hidden_layers must be a whole"},
           Bad{none,
               {{"rope_scaling", {{"rope_type", "linear"}}}},
               "text_config.rope_scaling.factor is missing"},
           Bad{none,
               {{"final_logit_softcapping", 30.0}},
               "text_config.final_logit_softcapping = 30.0 is not supported; it must be absent or "
               "null"},
           Bad{none,
               {{"quantization_config", {{"quant_method", "fp8"}}}},
               "text_config.quantization_config = {\"quant_method\":\"fp8\"} is not supported; "
               "serve a bf16, f16 or f32 checkpoint"},
           Bad{none,
               {{"vision_config", none}},
               "text_config.vision_config = {} is not supported; only text models are"},
           Bad{{{"quantization_config", {{"quant_method", "fp8"}}}},
               none,
               "config.json: quantization_config = {\"quant_method\":\"fp8\"} is not supported; "
               "serve a bf16, f16 or f32 checkpoint"},
           Bad{{{"tie_word_embeddings", 1}}, none, "config.json: tie_word_embeddings must be true"},
           Bad{{{"architectures", {"Gemma3ForCausalLM"}}},
               none,
               "config.json: model_type is that of multimodal Gemma 3, but architectures is "
               "Gemma 3's; one of the two is wrong"},
       }) {
    json config = Published();
    config.update(bad.outside);
    config["text_config"].update(bad.inside);
    EXPECT_THAT(std::string(testing::ReadConfig(config.dump()).status().message()),
                HasSubstr(bad.complaint));
  }
  json config = Published();
  config["text_config"] = "gemma";
  EXPECT_THAT(std::string(testing::ReadConfig(config.dump()).status().message()),
              EndsWith("config.json: text_config must be an object, not \"gemma\""));
  for (const json& nothing : {json(), json::object()}) {
    config["text_config"] = nothing;
    EXPECT_THAT(std::string(testing::ReadConfig(config.dump()).status().message()),
                EndsWith(nothing.is_null() ? "config.json: text_config is missing"
                                           : "config.json: text_config.hidden_size is missing"));
  }
}

}  // namespace
}  // namespace baram
