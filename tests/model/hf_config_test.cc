// config.json in every spelling, and the errors for bad ones.
#include "engine/model/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/model/config_bed.h"
#include "tests/model/scratch_folder.h"

namespace baram {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using testing::ConfigOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using testing::ReadConfig;
using testing::ReadGood;
using testing::ReadLlama;
using testing::ScratchFolder;

std::vector<int32_t> Windows(const ModelSpec& spec) {
  std::vector<int32_t> windows;
  for (const LayerSpec& layer : spec.layers) windows.push_back(layer.window);
  return windows;
}
std::vector<int32_t> Ropes(const ModelSpec& spec) {
  std::vector<int32_t> ropes;
  for (const LayerSpec& layer : spec.layers) ropes.push_back(layer.rope);
  return ropes;
}

TEST(HfConfigTest, LlamaDefaultsAreTheReferences) {
  const ModelSpec spec = ReadLlama(json::object());
  EXPECT_EQ(spec.architecture, "LlamaForCausalLM");
  EXPECT_EQ(spec.head, (HeadShape{4, 2, 16}));
  EXPECT_EQ(spec.layers.size(), 4u);
  EXPECT_EQ(spec.max_positions, 2048);
  EXPECT_FLOAT_EQ(spec.norm_eps, 1e-6f);
  EXPECT_FALSE(spec.tied_lm_head);
  EXPECT_FLOAT_EQ(spec.layers[0].attention_scale, 0.25f);
  EXPECT_FALSE(spec.layers[0].qkv_bias || spec.layers[0].o_bias || spec.layers[0].mlp_bias);
  ASSERT_EQ(spec.ropes.size(), 1u);
  EXPECT_EQ(spec.ropes[0].theta, 10000);
  EXPECT_EQ(spec.ropes[0].rotary_dim, 16);
}

// They get the configuration classes' defaults.
TEST(HfConfigTest, SizesThatAreLeftOut) {
  struct Family {
    const char* architecture;
    int32_t kv_heads;
    int64_t max_positions;
  };
  const std::vector<Family> families = {
      {"LlamaForCausalLM", 64, 2048},       {"MistralForCausalLM", 8, 131072},
      {"Qwen2ForCausalLM", 32, 32768},      {"Qwen3ForCausalLM", 32, 32768},
      {"ExaoneForCausalLM", 64, 2048},      {"Exaone4ForCausalLM", 32, 2048},
      {"HyperCLOVAXForCausalLM", 64, 2048}, {"Gemma3ForCausalLM", 4, 131072}};
  for (const std::string& architecture : SupportedArchitectures()) {
    // Gemma 3 with a vision model has its sizes in a config within.
    EXPECT_TRUE(architecture == "Gemma3ForConditionalGeneration" ||
                std::ranges::count(families, architecture, &Family::architecture) == 1)
        << architecture << " is not in this list";
  }
  for (const Family& family : families) {
    json config = ConfigOf(family.architecture, {{"hidden_size", 1024},
                                                 {"num_attention_heads", 64},
                                                 {"num_layers", 2},
                                                 {"use_post_norm", true}});
    config.erase("num_key_value_heads");
    config.erase("max_position_embeddings");
    const ModelSpec spec = ReadGood(config);
    EXPECT_EQ(spec.head.kv_heads, family.kv_heads) << family.architecture;
    EXPECT_EQ(spec.max_positions, family.max_positions) << family.architecture;
    config["num_key_value_heads"] = nullptr;
    EXPECT_EQ(ReadGood(config).head.kv_heads, 64) << family.architecture;
  }
  // As in the text part of a multimodal folder.
  const ModelSpec gemma = ReadGood({{"architectures", {"Gemma3ForCausalLM"}},
                                    {"hidden_size", 2560},
                                    {"intermediate_size", 10240},
                                    {"num_hidden_layers", 34}});
  EXPECT_EQ(gemma.vocab_size, 262208);
  EXPECT_EQ(gemma.head, (HeadShape{8, 4, 256}));
}

TEST(HfConfigTest, Mistral) {
  const json window = {{"sliding_window", 128}};
  EXPECT_THAT(Windows(ReadGood(ConfigOf("MistralForCausalLM", window))),
              ElementsAre(128, 128, 128, 128));
  EXPECT_THAT(Windows(ReadGood(ConfigOf("MistralForCausalLM", {{"sliding_window", nullptr}}))),
              ElementsAre(0, 0, 0, 0));
}

TEST(HfConfigTest, Qwen2) {
  json changes = {{"sliding_window", 128}, {"max_window_layers", 3}, {"use_sliding_window", true}};
  ModelSpec spec = ReadGood(ConfigOf("Qwen2ForCausalLM", changes));
  EXPECT_THAT(Windows(spec), ElementsAre(0, 0, 0, 128));
  EXPECT_TRUE(spec.layers[0].qkv_bias);
  EXPECT_FALSE(spec.layers[0].o_bias);
  changes["use_sliding_window"] = false;
  EXPECT_THAT(Windows(ReadGood(ConfigOf("Qwen2ForCausalLM", changes))), ElementsAre(0, 0, 0, 0));
  changes["use_sliding_window"] = true;
  changes["layer_types"] = {"sliding_attention", "full_attention", "full_attention",
                            "full_attention"};
  EXPECT_THAT(Windows(ReadGood(ConfigOf("Qwen2ForCausalLM", changes))), ElementsAre(128, 0, 0, 0));
}

TEST(HfConfigTest, Qwen3) {
  const ModelSpec spec = ReadGood(ConfigOf("Qwen3ForCausalLM"));
  EXPECT_EQ(spec.head.head_dim, 128);  // whatever the hidden size
  EXPECT_EQ(spec.layers[0].qk_norm, NormKind::kPlain);
  EXPECT_FALSE(spec.layers[0].qkv_bias);
}

TEST(HfConfigTest, BiasesThatAFamilyDoesNotHaveAreNotRead) {
  const auto layer = [](const char* architecture) {
    return ReadGood(
               ConfigOf(architecture,
                        {{"attention_bias", true}, {"mlp_bias", true}, {"use_post_norm", true}}))
        .layers.at(0);
  };
  for (const char* architecture : {"LlamaForCausalLM", "HyperCLOVAXForCausalLM"}) {
    EXPECT_TRUE(layer(architecture).qkv_bias && layer(architecture).o_bias) << architecture;
    EXPECT_TRUE(layer(architecture).mlp_bias) << architecture;
  }
  for (const char* architecture : {"Qwen3ForCausalLM", "Gemma3ForCausalLM"}) {
    EXPECT_TRUE(layer(architecture).qkv_bias && layer(architecture).o_bias) << architecture;
    EXPECT_FALSE(layer(architecture).mlp_bias) << architecture;
  }
  for (const char* architecture :
       {"MistralForCausalLM", "Qwen2ForCausalLM", "Exaone4ForCausalLM"}) {
    EXPECT_EQ(layer(architecture).qkv_bias, architecture == std::string("Qwen2ForCausalLM"));
    EXPECT_FALSE(layer(architecture).o_bias || layer(architecture).mlp_bias) << architecture;
  }
}

TEST(HfConfigTest, Exaone3) {
  json config = ConfigOf(
      "ExaoneForCausalLM",
      {{"num_layers", 3}, {"layer_norm_epsilon", 1e-4}, {"activation_function", "gelu_new"}});
  config.erase("num_hidden_layers");
  const ModelSpec spec = ReadGood(config);
  EXPECT_EQ(spec.layers.size(), 3u);
  EXPECT_FLOAT_EQ(spec.norm_eps, 1e-4f);
  EXPECT_EQ(spec.layers[0].activation, Activation::kGeluTanh);
  EXPECT_TRUE(spec.tied_lm_head);
  EXPECT_EQ(spec.names.gate, "transformer.h.{}.mlp.c_fc_0");
}

// Llama's class and keys: only model_type tells it from Llama.
TEST(HfConfigTest, Exaone3AsTransformersSavesIt) {
  json changes = {{"model_type", "exaone"}, {"rms_norm_eps", 1e-4}, {"hidden_act", "gelu_new"}};
  ModelSpec spec = ReadLlama(changes);
  EXPECT_EQ(spec.architecture, "ExaoneForCausalLM");
  EXPECT_EQ(spec.family, "EXAONE 3");
  ASSERT_EQ(spec.layers.size(), 4u);
  EXPECT_FLOAT_EQ(spec.norm_eps, 1e-4f);
  EXPECT_EQ(spec.layers[0].activation, Activation::kGeluTanh);
  EXPECT_EQ(spec.names.gate, "transformer.h.{}.mlp.c_fc_0");
  ASSERT_EQ(spec.other_names.size(), 1u);
  EXPECT_EQ(spec.other_names[0].embedding, "model.embed_tokens");
  EXPECT_EQ(spec.other_names[0].gate, "model.layers.{}.mlp.gate_proj");
  // The family's own keys take precedence, one by one.
  changes.update({{"num_layers", 3}, {"activation_function", "silu"}});
  spec = ReadLlama(changes);
  ASSERT_EQ(spec.layers.size(), 3u);
  EXPECT_FLOAT_EQ(spec.norm_eps, 1e-4f);
  EXPECT_EQ(spec.layers[0].activation, Activation::kSilu);
  // Omitted keys.
  json config =
      ConfigOf("LlamaForCausalLM", {{"model_type", "exaone"}, {"num_attention_heads", 8}});
  config.erase("num_key_value_heads");
  config.erase("max_position_embeddings");
  spec = ReadGood(config);
  EXPECT_EQ(spec.head.kv_heads, 8);
  EXPECT_EQ(spec.max_positions, 4096);
  EXPECT_FLOAT_EQ(spec.norm_eps, 1e-5f);
  ASSERT_EQ(spec.ropes.size(), 1u);
  EXPECT_EQ(spec.ropes[0].theta, 5e5);
  EXPECT_FALSE(spec.tied_lm_head);
}

TEST(HfConfigTest, Exaone4WindowsAndRotations) {
  const auto read = [](const json& changes) {
    return ReadGood(ConfigOf("Exaone4ForCausalLM", changes));
  };
  // All layers global: rotation everywhere.
  ModelSpec spec = read({{"sliding_window", nullptr}});
  EXPECT_THAT(Windows(spec), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(Ropes(spec), ElementsAre(0, 0, 0, 0));
  EXPECT_EQ(spec.layers[0].pre_attention, NormKind::kNone);
  EXPECT_EQ(spec.layers[0].post_attention, NormKind::kPlain);
  // A period, letters, the default period, and a list, which takes precedence.
  for (const json& pattern : {json(2), json("LG")}) {
    spec = read({{"sliding_window", 64}, {"sliding_window_pattern", pattern}});
    EXPECT_THAT(Windows(spec), ElementsAre(64, 0, 64, 0)) << pattern;
    EXPECT_THAT(Ropes(spec), ElementsAre(0, -1, 0, -1)) << pattern;
  }
  EXPECT_THAT(Windows(read({{"sliding_window", 64}})), ElementsAre(64, 64, 64, 0));
  // Letters force the last layer to be global.
  EXPECT_THAT(Windows(read({{"sliding_window", 64}, {"sliding_window_pattern", "LLL"}})),
              ElementsAre(64, 64, 64, 0));
  const json types = {"full_attention", "sliding_attention", "full_attention", "sliding_attention"};
  spec = read({{"sliding_window", 64}, {"sliding_window_pattern", 2}, {"layer_types", types}});
  EXPECT_THAT(Windows(spec), ElementsAre(0, 64, 0, 64));
  EXPECT_THAT(Ropes(spec), ElementsAre(-1, 0, -1, 0));
}

TEST(HfConfigTest, HyperClovaX) {
  const json multipliers = {{"embedding_multiplier", 10},
                            {"logits_scaling", 0.125},
                            {"attention_multiplier", 0.0078125},
                            {"residual_multiplier", 0.5},
                            {"use_post_norm", true}};
  ModelSpec spec = ReadGood(ConfigOf("HyperCLOVAXForCausalLM", multipliers));
  EXPECT_EQ(spec.embedding_scale, 10);
  EXPECT_EQ(spec.logit_scale, 0.125f);
  EXPECT_EQ(spec.layers[0].attention_scale, 0.0078125f);
  EXPECT_EQ(spec.layers[0].residual_scale, 0.5f);
  EXPECT_EQ(spec.layers[0].pre_mlp, NormKind::kPlain);
  EXPECT_EQ(spec.layers[0].post_mlp, NormKind::kPlain);
  EXPECT_EQ(spec.names.post_mlp, "model.layers.{}.post_norm2");
  spec = ReadGood(ConfigOf("HyperCLOVAXForCausalLM", {{"use_post_norm", false}}));
  EXPECT_EQ(spec.layers[0].post_mlp, NormKind::kNone);
  EXPECT_FLOAT_EQ(spec.layers[0].attention_scale, 0.25f);
}

TEST(HfConfigTest, Gemma3) {
  const auto read = [](const json& changes) {
    return ReadGood(ConfigOf("Gemma3ForCausalLM", changes));
  };
  ModelSpec spec = read({{"sliding_window", 64},
                         {"sliding_window_pattern", 2},
                         {"rope_theta", 2e6},
                         {"rope_local_base_freq", 3e4},
                         {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8}}},
                         {"query_pre_attn_scalar", 64}});
  EXPECT_EQ(spec.head.head_dim, 256);
  EXPECT_TRUE(spec.tied_lm_head);
  EXPECT_FLOAT_EQ(spec.embedding_scale, 8.0f);
  EXPECT_EQ(spec.final_norm, NormKind::kZeroCentred);
  EXPECT_THAT(Windows(spec), ElementsAre(64, 0, 64, 0));
  EXPECT_THAT(Ropes(spec), ElementsAre(1, 0, 1, 0));
  ASSERT_EQ(spec.ropes.size(), 2u);
  EXPECT_EQ(spec.ropes[0].theta, 2e6);
  EXPECT_EQ(spec.ropes[0].scaling, RopeScaling::kLinear);
  EXPECT_EQ(spec.ropes[1].theta, 3e4);
  EXPECT_EQ(spec.ropes[1].scaling, RopeScaling::kDefault);
  EXPECT_FLOAT_EQ(spec.layers[0].attention_scale, 0.125f);
  EXPECT_EQ(spec.layers[0].activation, Activation::kGeluTanh);

  const std::vector<RopeSpec> hub_ropes = spec.ropes;
  spec = read({{"sliding_window", 64},
               {"rope_parameters",
                {{"full_attention", {{"rope_type", "linear"}, {"factor", 8}, {"rope_theta", 2e6}}},
                 {"sliding_attention", {{"rope_theta", 3e4}}}}}});
  EXPECT_EQ(spec.ropes, hub_ropes);
  spec = read(json::object());
  EXPECT_EQ(spec.ropes[0].theta, 1e6);
  EXPECT_EQ(spec.ropes[1].theta, 1e4);
}

// The square root of Gemma 3 4B's 2560 is 50.596..., which bf16 rounds to 50.5.
TEST(HfConfigTest, Gemma3ScalesItsEmbeddingInTheModelsType) {
  const auto scale = [](const json& type) {
    json changes = {{"hidden_size", 2560}};
    changes.update(type);
    return ReadGood(ConfigOf("Gemma3ForCausalLM", changes)).embedding_scale;
  };
  EXPECT_EQ(scale({{"torch_dtype", "bfloat16"}}), 50.5f);
  EXPECT_EQ(scale({{"dtype", "bfloat16"}}), 50.5f);
  EXPECT_EQ(scale({{"torch_dtype", "float16"}}), 50.59375f);
  EXPECT_EQ(scale({{"dtype", "float32"}, {"torch_dtype", "bfloat16"}}), std::sqrt(2560.0f));
  EXPECT_EQ(scale(json::object()), 50.5f);
}

TEST(HfConfigTest, ModelTypeNamesTheFamilyWhereArchitecturesDoNot) {
  for (const json& none : {json(), json::array()}) {
    const json changes = {{"architectures", none}, {"model_type", "qwen3"}};
    EXPECT_EQ(ReadLlama(changes).architecture, "Qwen3ForCausalLM");
  }
  EXPECT_EQ(ReadLlama({{"model_type", "llama"}}).family, "Llama");
  EXPECT_EQ(ReadLlama({{"model_type", "llama_of_ours"}}).family, "Llama");
}

TEST(HfConfigTest, CodeInTheFolderIsIgnored) {
  EXPECT_EQ(ReadLlama({{"auto_map", {{"AutoModelForCausalLM", "evil.Model"}}},
                       {"torch_dtype", "bfloat16"}})
                .layers.size(),
            4u);
}

struct BadConfig {
  json changes;
  absl::StatusCode code;
  const char* complaint;
};

TEST(HfConfigTest, BadFieldsAreNamed) {
  constexpr auto kInvalid = absl::StatusCode::kDataLoss;
  constexpr auto kUnsupported = absl::StatusCode::kUnimplemented;
  const std::vector<BadConfig> bad = {
      {{{"hidden_size", nullptr}}, kInvalid, "config.json: hidden_size is missing"},
      {{{"vocab_size", nullptr}}, kInvalid, "config.json: vocab_size is missing"},
      {{{"num_attention_heads", nullptr}}, kInvalid, "num_attention_heads is missing"},
      {{{"hidden_size", "64"}},
       kInvalid,
       "hidden_size must be a whole number from 1 to 1048576, not \"64\""},
      {{{"hidden_size", -64}}, kInvalid, "hidden_size must be a whole number"},
      {{{"hidden_size", 64.5}}, kInvalid, "hidden_size must be a whole number"},
      {{{"hidden_size", 1e300}}, kInvalid, "hidden_size must be a whole number"},
      {{{"vocab_size", uint64_t{1} << 63}}, kInvalid, "vocab_size must be a whole number"},
      {{{"num_hidden_layers", 100000}}, kInvalid, "num_hidden_layers must be"},
      {{{"num_hidden_layers", 0}}, kInvalid, "num_hidden_layers must be"},
      {{{"max_position_embeddings", json::array()}}, kInvalid, "max_position_embeddings must be"},
      {{{"max_position_embeddings", 1}},
       kInvalid,
       "max_position_embeddings must be a whole number from 2 to 134217728, not 1"},
      {{{"num_key_value_heads", 3}}, kInvalid, "3 does not divide 4"},
      {{{"num_attention_heads", 6}, {"num_key_value_heads", 6}},
       kInvalid,
       "hidden_size must be a multiple of num_attention_heads"},
      {{{"head_dim", 15}}, kUnsupported, "head_dim = 15 is not supported"},
      {{{"head_dim", 512}}, kUnsupported, "head_dim = 512 is not supported"},
      {{{"hidden_size", 4096}}, kUnsupported, "it makes heads of 1024"},
      {{{"rms_norm_eps", "small"}}, kInvalid, "rms_norm_eps must be a number"},
      {{{"tie_word_embeddings", 1}}, kInvalid, "tie_word_embeddings must be true or false, not 1"},
      {{{"hidden_act", "relu"}}, kUnsupported, "hidden_act = \"relu\" is not supported"},
      {{{"hidden_act", 1}}, kInvalid, "hidden_act must be a text"},
      {{{"rope_theta", 0}}, kInvalid, "rope_theta must be a number from"},
      {{{"rope_scaling", "yarn"}}, kInvalid, "rope_scaling must be an object"},
      {{{"rope_scaling", {{"type", "dynamic"}, {"factor", 2}}}},
       kUnsupported,
       "rope_scaling.type = \"dynamic\" is not supported"},
      {{{"rope_parameters", {{"rope_type", "longrope"}}}},
       kUnsupported,
       "rope_parameters.rope_type = \"longrope\" is not supported"},
      {{{"rope_scaling", {{"type", "linear"}}}}, kInvalid, "rope_scaling.factor is missing"},
      {{{"rope_scaling", {{"type", "linear"}, {"factor", 0}}}},
       kInvalid,
       "rope_scaling.factor must be a number"},
      {{{"rope_scaling", {{"factor", 8}}}},
       kInvalid,
       "rope_scaling.factor is given, but no rope_type beside it"},
      {{{"architectures", {"Gemma3ForCausalLM"}},
        {"rope_parameters", {{"full_attention", {{"rope_theta", 1e4}, {"beta_fast", 32}}}}}},
       kInvalid,
       "rope_parameters.full_attention.beta_fast is given, but no rope_type beside it"},
      {{{"rope_scaling", {{"type", "llama3"}, {"factor", 8}, {"low_freq_factor", 1}}}},
       kInvalid,
       "rope_scaling.high_freq_factor is missing"},
      {{{"rope_scaling", {{"type", "yarn"}, {"factor", 1e4}}}},
       kInvalid,
       "rope_scaling.factor must be a number from 0.001 to 1024.0"},
      {{{"rope_scaling", {{"type", "yarn"}, {"attention_factor", 1e12}}}},
       kInvalid,
       "rope_scaling.attention_factor must be a number from"},
      {{{"rope_scaling",
         {{"type", "llama3"}, {"factor", 2}, {"low_freq_factor", 4}, {"high_freq_factor", 4}}}},
       kInvalid,
       "rope_scaling.high_freq_factor must be greater"},
      {{{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2}}},
        {"rope_parameters", {{"rope_theta", 1e6}}}},
       kInvalid,
       "rope_scaling and rope_parameters describe different rotations"},
      {{{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2}}},
        {"rope_parameters", {{"rope_type", "linear"}, {"factor", 4}}}},
       kInvalid,
       "rope_scaling and rope_parameters describe different rotations"},
      {{{"rope_parameters", {{"full_attention", {{"rope_theta", 1e6}}}}}},
       kUnsupported,
       "layers of this family share one rotation"},
      {{{"architectures", {"Gemma3ForCausalLM"}}, {"rope_parameters", {{"rope_theta", 1e6}}}},
       kUnsupported,
       "full_attention and sliding_attention have one each"},
      {{{"partial_rotary_factor", 0.5}},
       kUnsupported,
       "config.json: partial_rotary_factor = 0.5 is not supported; only 1 is"},
      {{{"rope_parameters", {{"partial_rotary_factor", 0.5}}}},
       kUnsupported,
       "rope_parameters.partial_rotary_factor = 0.5 is not supported"},
      {{{"quantization", {{"bits", 4}}}},
       kUnsupported,
       "quantization = {\"bits\":4} is not supported"},
      {{{"quantization_config", {{"quant_method", "awq"}}}},
       kUnsupported,
       "quantization_config = {\"quant_method\":\"awq\"} is not supported"},
      {{{"num_local_experts", 8}}, kUnsupported, "num_local_experts = 8 is not supported"},
      {{{"final_logit_softcapping", 30.0}},
       kUnsupported,
       "final_logit_softcapping = 30.0 is not supported"},
      {{{"vision_config", json::object()}}, kUnsupported, "vision_config = {} is not supported"},
      {{{"architectures", json::array()}}, kInvalid, "architectures is missing or empty"},
      {{{"architectures", nullptr}, {"model_type", "gpt2"}}, kInvalid, "architectures is missing"},
      {{{"model_type", "mistral"}},
       kInvalid,
       "model_type is that of Mistral, but architectures is Llama's; one of the two is wrong"},
      {{{"architectures", {"MistralForCausalLM"}}, {"model_type", "exaone"}},
       kInvalid,
       "model_type is that of EXAONE 3, but architectures is Mistral's; one of the two is wrong"},
      {{{"num_hidden_layers", nullptr}, {"model_type", "exaone"}},
       kInvalid,
       "num_layers is missing"},
      {{{"architectures", "LlamaForCausalLM"}}, kInvalid, "architectures must be a list of texts"},
      {{{"architectures", {"Gemma3nForConditionalGeneration"}}},
       kUnsupported,
       "architecture \"Gemma3nForConditionalGeneration\" is not supported; supported are "
       "LlamaForCausalLM, "},
      {{{"architectures", {"\x1b[2J\xc2\x9b"}}},
       kUnsupported,
       "architecture \"\\u001b[2J\\u009b\" is not supported"},
      {{{"architectures", {"Qwen2ForCausalLM"}},
        {"layer_types",
         json::array({"full_attention", "full_attention", "full_attention", "\x1b[2J"})}},
       kInvalid,
       "layer_types has \"\\u001b[2J\" for layer 3"},
      {{{"architectures", {"MistralForCausalLM"}},
        {"sliding_window", 8},
        {"layer_types",
         json::array({"full_attention", "full_attention", "full_attention", "sliding_attention"})}},
       kUnsupported,
       "Mistral's layers are all alike"},
      {{{"architectures", {"Qwen2ForCausalLM"}}, {"layer_types", {"full_attention"}}},
       kInvalid,
       "layer_types names 1 layers of 4"},
      {{{"architectures", {"Qwen2ForCausalLM"}},
        {"layer_types",
         json::array({"full_attention", "full_attention", "full_attention", "linear_attention"})}},
       kInvalid,
       "layer_types has \"linear_attention\" for layer 3"},
      {{{"architectures", {"Qwen2ForCausalLM"}},
        {"layer_types",
         json::array({"full_attention", "full_attention", "full_attention", "sliding_attention"})}},
       kInvalid,
       "sliding_window gives no window, but some layers are windowed"},
      {{{"architectures", {"Exaone4ForCausalLM"}}, {"sliding_window_pattern", "LLX"}},
       kInvalid,
       "sliding_window_pattern must be a number or the letters L and G"},
      {{{"architectures", {"HyperCLOVAXForCausalLM"}}}, kInvalid, "use_post_norm is missing"},
      {{{"architectures", {"HyperCLOVAXForCausalLM"}}, {"logits_scaling", 0}},
       kInvalid,
       "logits_scaling must not be 0"},
      {{{"architectures", {"HyperCLOVAXForCausalLM"}}, {"attention_multiplier", -0.125}},
       kInvalid,
       "attention_multiplier must be a number from"},
      {{{"architectures", {"Gemma3ForCausalLM"}}, {"sliding_window", 1e12}},
       kInvalid,
       "sliding_window must be a whole number"},
      {{{"architectures", {"Gemma3ForCausalLM"}}, {"use_bidirectional_attention", true}},
       kUnsupported,
       "use_bidirectional_attention = true is not supported"},
      {{{"is_causal", false}}, kUnsupported, "is_causal = false is not supported"},
  };
  for (const BadConfig& config : bad) {
    const json whole = ConfigOf("LlamaForCausalLM", config.changes);
    const absl::StatusOr<ModelSpec> spec = ReadConfig(whole.dump());
    ASSERT_FALSE(spec.ok()) << config.changes;
    EXPECT_EQ(spec.status().code(), config.code) << config.changes;
    EXPECT_THAT(spec.status().message(),
                AllOf(HasSubstr("/config.json: "), HasSubstr(config.complaint)));
  }
}

TEST(HfConfigTest, BadFilesAreRefused) {
  const auto missing = [](const std::string& folder) {
    const absl::Status status = ReadModelSpec(folder).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    return std::string(status.message());
  };
  EXPECT_EQ(missing("/nonexistent"), "there is no folder /nonexistent");
  const ScratchFolder empty;
  EXPECT_THAT(missing(empty.path()), HasSubstr("has no config.json"));
  EXPECT_THAT(missing(empty.Write("file", "")), HasSubstr("is not a folder"));
  empty.Write("m.gguf", "");
  EXPECT_THAT(missing(empty.path()), HasSubstr("it holds \"m.gguf\": serve the model that it was"));
  empty.Write("adapter_config.json", "");
  EXPECT_THAT(missing(empty.path()),
              EndsWith("merge the adapter into its base model, and serve that"));
  const auto complaint = [](const std::string& text) {
    return std::string(ReadConfig(text).status().message());
  };
  EXPECT_THAT(complaint(""), EndsWith("not valid JSON: it ends too early, at line 1, column 1"));
  EXPECT_THAT(complaint("{\"a\":\"\xff\"}"), EndsWith("not valid JSON: line 1, column 7"));
  EXPECT_THAT(complaint("{\n  \"한\": 1,\n  \"글\" 2\n}"),
              EndsWith("/config.json: not valid JSON: line 3, column 7"));
  EXPECT_THAT(complaint("{\n"), EndsWith("it ends too early, at line 2, column 1"));
  EXPECT_THAT(complaint("{\n\"a\":1e999}"), EndsWith("a number is too large, at line 2, column 9"));
  EXPECT_THAT(complaint(std::string("{}\n\0{{", 6)), EndsWith("not valid JSON: line 2, column 1"));
  EXPECT_THAT(complaint("[1]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(complaint(std::string((1 << 20) + 1, ' ')), HasSubstr("1048577 bytes long"));
  std::string deep = "{\"a\":";
  for (int i = 0; i < 100'000; ++i) deep += '[';
  EXPECT_THAT(complaint(deep), HasSubstr("nested more than 32 deep"));
  deep += std::string(100'000, ']') + "}";
  EXPECT_THAT(complaint(deep), HasSubstr("nested more than 32 deep"));
  EXPECT_THAT(complaint(R"({"a":"\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["})"),
              HasSubstr("architectures is missing"))
      << "brackets within strings are text";
  // A parser that scans back over all siblings would take minutes for this.
  std::string wide = R"({"a":[{})";
  while (wide.size() < 1'000'000) wide += ",{}";
  EXPECT_THAT(complaint(wide + "]}"), HasSubstr("architectures is missing"));
  // Every prefix is refused and none crashes.
  const std::string good = ConfigOf("LlamaForCausalLM").dump();
  for (size_t bytes = 0; bytes < good.size(); ++bytes) {
    EXPECT_FALSE(ReadConfig(good.substr(0, bytes)).ok());
  }
}

}  // namespace
}  // namespace baram
