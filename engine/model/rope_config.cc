// Reads rotary embeddings from config.json, in all their spellings.
#include "engine/model/rope_config.h"

namespace baram {
namespace {

constexpr double kLargest = 1e12;        // of thetas and lengths: beyond any use, far from overflow
constexpr double kLargestFactor = 1024;  // of stretching and of magnitudes: far beyond any use

struct ScalingName {
  const char* name;
  RopeScaling scaling;
};
constexpr ScalingName kScalings[] = {
    {"default", RopeScaling::kDefault},
    {"linear", RopeScaling::kLinear},
    {"llama3", RopeScaling::kLlama3},
    {"yarn", RopeScaling::kYarn},
};

// Keys that only a scaling reads: without a type they would have no effect.
constexpr const char* kScalingKeys[] = {"factor",      "low_freq_factor", "high_freq_factor",
                                        "beta_fast",   "beta_slow",       "attention_factor",
                                        "long_factor", "short_factor"};

RopeScaling ReadScaling(const ConfigFields& rope) {
  const bool typed = rope.Has("rope_type") || rope.Has("type");
  for (const char* key : kScalingKeys) {
    if (!typed && rope.Has(key)) rope.Fail(key, "is given, but no rope_type beside it");
  }
  const std::string field = rope.Has("rope_type") ? "rope_type" : "type";
  const std::string name = rope.StringOr(field, "default");
  for (const ScalingName& known : kScalings) {
    if (name == known.name) return known.scaling;
  }
  rope.FailUnsupported(field, "supported are default, linear, llama3 and yarn");
  return RopeScaling::kDefault;
}

// The table's part of `rope_parameters`; an empty object if the file has none.
ConfigFields ParametersOf(const ConfigFields& config, const RopeDefaults& defaults) {
  const ConfigFields parameters = config.Object("rope_parameters");
  const bool nested =
      parameters.IsObject("full_attention") || parameters.IsObject("sliding_attention");
  const bool by_layer_type = !defaults.layer_type.empty();
  if (!parameters.IsEmpty() && nested != by_layer_type) {
    config.FailUnsupported("rope_parameters",
                           by_layer_type ? "full_attention and sliding_attention have one each"
                                         : "layers of this family share one rotation");
  }
  return by_layer_type ? parameters.Object(defaults.layer_type) : parameters;
}

// The table that the object `rope` describes.
RopeSpec ReadTable(const ConfigFields& config, const ConfigFields& rope,
                   const RopeDefaults& defaults) {
  RopeSpec spec;
  spec.scaling = ReadScaling(rope);
  spec.theta = rope.NumberOr(
      "rope_theta", 1.0, kLargest * kLargest,
      config.NumberOr(defaults.theta_field, 1.0, kLargest * kLargest, defaults.theta));
  // The reference has no partial rotation in any family here: it ignores the field, or fails.
  for (const ConfigFields& fields : {rope, config}) {
    if (fields.NumberOr("partial_rotary_factor", 0.0, 1.0, 1.0) != 1.0) {
      fields.FailUnsupported("partial_rotary_factor", "only 1 is");
    }
  }
  spec.rotary_dim = defaults.head_dim;
  if (spec.scaling == RopeScaling::kDefault) return spec;

  // With a single rotation, this field outside the rope object wins, as in the reference.
  const char* original = "original_max_position_embeddings";
  spec.original_max_positions = rope.NumberOr(original, 1.0, kLargest, defaults.max_positions);
  if (defaults.layer_type.empty()) {
    spec.original_max_positions =
        config.NumberOr(original, 1.0, kLargest, spec.original_max_positions);
  }
  const bool derives_factor = spec.scaling == RopeScaling::kYarn && !rope.Has("factor");
  if (!derives_factor && !rope.Has("factor")) rope.Fail("factor", "is missing");
  spec.factor = derives_factor ? defaults.max_positions / spec.original_max_positions
                               : rope.NumberOr("factor", 1e-3, kLargestFactor, 1.0);
  if (spec.scaling == RopeScaling::kLlama3) {
    for (const char* needed : {"low_freq_factor", "high_freq_factor"}) {
      if (!rope.Has(needed)) rope.Fail(needed, "is missing");
    }
    spec.low_freq_factor =
        rope.NumberOr("low_freq_factor", 1e-6, kLargestFactor, spec.low_freq_factor);
    spec.high_freq_factor =
        rope.NumberOr("high_freq_factor", 1e-6, kLargestFactor, spec.high_freq_factor);
    if (spec.high_freq_factor <= spec.low_freq_factor) {
      rope.Fail("high_freq_factor", "must be greater than low_freq_factor");
    }
  }
  if (spec.scaling == RopeScaling::kYarn) {
    spec.beta_fast = rope.NumberOr("beta_fast", 1e-6, kLargest, spec.beta_fast);
    spec.beta_slow = rope.NumberOr("beta_slow", 1e-6, kLargest, spec.beta_slow);
    spec.attention_factor = rope.NumberOr("attention_factor", 1e-6, kLargestFactor, 0.0);
    spec.mscale = rope.NumberOr("mscale", 0.0, kLargestFactor, 0.0);
    spec.mscale_all_dim = rope.NumberOr("mscale_all_dim", 0.0, kLargestFactor, 0.0);
    spec.truncate = rope.BoolOr("truncate", !rope.IsNull("truncate"));
    if (spec.theta <= 1.0) rope.Fail("rope_theta", "must be greater than 1 under yarn");
  }
  return spec;
}

}  // namespace

// If both objects are there, the reference uses `rope_scaling`, with Gemma 3 key by key. It is
// usually added by hand to a file that has its base in the other one, which the reference then
// ignores.
RopeSpec ReadRope(const ConfigFields& config, const RopeDefaults& defaults) {
  const ConfigFields parameters = ParametersOf(config, defaults);
  const ConfigFields scaling = defaults.scaled ? config.Object("rope_scaling") : config.Nothing();
  if (scaling.IsEmpty()) return ReadTable(config, parameters, defaults);
  const RopeSpec spec = ReadTable(config, scaling, defaults);
  if (parameters.IsEmpty()) return spec;
  const RopeSpec other = ReadTable(config, parameters, defaults);
  const bool extends = other.scaling == RopeScaling::kDefault && other.theta == spec.theta;
  if (!extends && other != spec) {
    config.Fail("rope_scaling",
                "and rope_parameters describe different rotations; keep one of them, with "
                "rope_theta inside");
  }
  return spec;
}

}  // namespace baram
