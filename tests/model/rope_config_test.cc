// RoPE settings in every spelling of config.json.
#include "engine/model/rope_config.h"

#include <gtest/gtest.h>

#include <cmath>

#include "nlohmann/json.hpp"
#include "tests/model/config_bed.h"

namespace baram {
namespace {

using nlohmann::json;
using testing::ConfigOf;
using testing::ReadGood;
using testing::ReadLlama;

TEST(RopeConfigTest, BothSpellingsOfRopeAreOne) {
  const json llama3 = {{"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 512}};
  json hub = llama3, old = llama3, parameters = llama3;
  hub["rope_type"] = "llama3";
  old["type"] = "llama3";
  parameters["rope_type"] = "llama3";
  parameters["rope_theta"] = 500000.0;
  const RopeSpec expected = ReadLlama({{"rope_theta", 500000.0}, {"rope_scaling", hub}}).ropes[0];
  EXPECT_EQ(expected.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(expected.theta, 500000);
  EXPECT_EQ(expected.original_max_positions, 512);
  EXPECT_EQ(ReadLlama({{"rope_theta", 500000}, {"rope_scaling", old}}).ropes[0], expected);
  EXPECT_EQ(ReadLlama({{"rope_parameters", parameters}}).ropes[0], expected);
  // Without an original length, the model's.
  hub.erase("original_max_position_embeddings");
  EXPECT_EQ(ReadLlama({{"rope_scaling", hub}}).ropes[0].original_max_positions, 2048);
}

// As when a longer context is added to a folder that transformers 5 saved.
TEST(RopeConfigTest, RopeScalingBesideRopeParameters) {
  const json yarn = {{"rope_type", "yarn"},
                     {"factor", 4},
                     {"original_max_position_embeddings", 512},
                     {"rope_theta", 1e6}};
  const json plain = {{"rope_type", "default"}, {"rope_theta", 1e6}};
  const RopeSpec expected = ReadLlama({{"rope_parameters", yarn}}).ropes[0];
  const auto read = [](const json& scaling, const json& parameters) {
    return ReadLlama({{"rope_scaling", scaling}, {"rope_parameters", parameters}}).ropes[0];
  };
  EXPECT_EQ(read(yarn, plain), expected);
  EXPECT_EQ(read(yarn, yarn), expected);
  for (const json& nothing : {json(), json::object()}) {
    EXPECT_EQ(read(nothing, yarn), expected);
    EXPECT_EQ(read(yarn, nothing), expected);
  }
  json baseless = yarn;
  baseless.erase("rope_theta");
  const json changes = {
      {"rope_theta", 1e6}, {"rope_scaling", baseless}, {"rope_parameters", plain}};
  EXPECT_EQ(ReadLlama(changes).ropes[0], expected);

  const ModelSpec gemma = ReadGood(
      ConfigOf("Gemma3ForCausalLM", {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 8}}},
                                     {"rope_parameters", {{"full_attention", plain}}}}));
  ASSERT_EQ(gemma.ropes.size(), 2u);
  EXPECT_EQ(gemma.ropes[0].scaling, RopeScaling::kLinear);
  EXPECT_EQ(gemma.ropes[1].scaling, RopeScaling::kDefault);
}

TEST(RopeConfigTest, YarnOptions) {
  const RopeSpec rope = ReadLlama({{"rope_scaling",
                                    {{"rope_type", "yarn"},
                                     {"original_max_position_embeddings", 512},
                                     {"beta_fast", 16},
                                     {"beta_slow", 2},
                                     {"mscale", 0.5},
                                     {"mscale_all_dim", 0.75},
                                     {"truncate", false}}}})
                            .ropes[0];
  EXPECT_EQ(rope.scaling, RopeScaling::kYarn);
  EXPECT_EQ(rope.factor, 4);  // 2048 over 512
  EXPECT_EQ(rope.beta_fast, 16);
  EXPECT_EQ(rope.beta_slow, 2);
  EXPECT_EQ(rope.mscale, 0.5);
  EXPECT_EQ(rope.mscale_all_dim, 0.75);
  EXPECT_FALSE(rope.truncate);
  json yarn = {{"rope_type", "yarn"}, {"truncate", nullptr}};
  EXPECT_FALSE(ReadLlama({{"rope_scaling", yarn}}).ropes[0].truncate) << "null is Python's false";
  yarn.erase("truncate");
  EXPECT_TRUE(ReadLlama({{"rope_scaling", yarn}}).ropes[0].truncate);
}

// With one table it takes precedence over the table's own, as in the reference.
TEST(RopeConfigTest, OriginalLengthOutsideTheRopeObject) {
  const json changes = {
      {"original_max_position_embeddings", 256},
      {"rope_scaling",
       {{"rope_type", "yarn"}, {"factor", 4}, {"original_max_position_embeddings", 512}}}};
  EXPECT_EQ(ReadLlama(changes).ropes[0].original_max_positions, 256);
  const ModelSpec gemma = ReadGood(ConfigOf("Gemma3ForCausalLM", changes));
  ASSERT_EQ(gemma.ropes.size(), 2u);
  EXPECT_EQ(gemma.ropes[0].original_max_positions, 512) << "not of one table of several";
}

TEST(RopeConfigTest, YarnStretchesTheContext) {
  const auto context = [](const json& rope, int64_t max_positions = 2048) {
    return ReadLlama({{"max_position_embeddings", max_positions}, {"rope_scaling", rope}})
        .max_positions;
  };
  json yarn = {{"rope_type", "yarn"}, {"original_max_position_embeddings", 512}, {"factor", 8}};
  EXPECT_EQ(context(yarn), 4096);
  EXPECT_EQ(context(yarn, 5000), 5000) << "the file's own is longer";
  yarn["factor"] = 4.01;
  EXPECT_EQ(context(yarn), 2053);
  json long_yarn = yarn;
  long_yarn["original_max_position_embeddings"] = 1 << 27;
  EXPECT_EQ(context(long_yarn), 1 << 27) << "the most there is";
  yarn.erase("factor");
  EXPECT_EQ(context(yarn), 2048) << "the factor follows from the context";
  // Without an explicit one, the original context is the file's, not the stretched one.
  const ModelSpec spec = ReadLlama({{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4}}}});
  EXPECT_EQ(spec.ropes[0].original_max_positions, 2048);
  EXPECT_EQ(spec.max_positions, 8192);
  EXPECT_EQ(context({{"rope_type", "linear"}, {"factor", 8}}), 2048);
}

}  // namespace
}  // namespace baram
