// Reads rotary embeddings from config.json, in the spelling of any year.
#include "engine/model/rope_config.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace baram {
namespace {

constexpr double kLargest = 1e12;        // of thetas and lengths: past any use, far from overflow
constexpr double kLargestFactor = 1024;  // of stretching and of magnitudes: far past any use

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

// What only a scaling reads. Without a type it would be for nothing.
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

// The object that describes the table; an empty one where the file has none.
ConfigFields RopeObject(const ConfigFields& config, const RopeDefaults& defaults,
                        const std::string& layer_type) {
  if (config.Has("rope_parameters")) {
    const ConfigFields parameters = config.Object("rope_parameters");
    const bool nested =
        parameters.IsObject("full_attention") || parameters.IsObject("sliding_attention");
    if (!nested) return parameters;
    return parameters.Object(layer_type.empty() ? "full_attention" : layer_type);
  }
  return defaults.scaled ? config.Object("rope_scaling") : config.Nothing();
}

}  // namespace

RopeSpec ReadRope(const ConfigFields& config, const RopeDefaults& defaults,
                  const std::string& layer_type) {
  const ConfigFields rope = RopeObject(config, defaults, layer_type);
  RopeSpec spec;
  spec.scaling = ReadScaling(rope);
  spec.theta = rope.NumberOr(
      "rope_theta", 1.0, kLargest * kLargest,
      config.NumberOr(defaults.theta_field, 1.0, kLargest * kLargest, defaults.theta));
  const double share = rope.NumberOr("partial_rotary_factor", 0.0, 1.0,
                                     config.NumberOr("partial_rotary_factor", 0.0, 1.0, 1.0));
  spec.rotary_dim = static_cast<int32_t>(defaults.head_dim * share);
  if (spec.rotary_dim < 2 || spec.rotary_dim % 2 != 0) {
    config.Fail("partial_rotary_factor",
                absl::StrCat("rotates ", spec.rotary_dim, " of a head's ", defaults.head_dim,
                             " elements; it must be an even number of at least 2"));
  }
  if (spec.scaling == RopeScaling::kDefault) return spec;

  // Beside the rope object this field wins, as in the reference.
  const double original =
      rope.NumberOr("original_max_position_embeddings", 1.0, kLargest, defaults.max_positions);
  spec.original_max_positions =
      config.NumberOr("original_max_position_embeddings", 1.0, kLargest, original);
  const bool derives_factor = spec.scaling == RopeScaling::kYarn && !rope.Has("factor");
  if (!derives_factor && !rope.Has("factor")) rope.Fail("factor", "is missing");
  spec.factor = derives_factor ? defaults.max_positions / spec.original_max_positions
                               : rope.NumberOr("factor", 1e-3, kLargestFactor, 1.0);
  if (spec.scaling == RopeScaling::kLlama3) {
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
    spec.truncate = rope.BoolOr("truncate", spec.truncate);
    if (spec.theta <= 1.0) rope.Fail("rope_theta", "must be greater than 1 under yarn");
  }
  return spec;
}

}  // namespace baram
