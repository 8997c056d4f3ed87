// Reads rotary embeddings from config.json, in the spelling of any year.
#ifndef BARAM_ENGINE_MODEL_ROPE_CONFIG_H_
#define BARAM_ENGINE_MODEL_ROPE_CONFIG_H_

#include <string>

#include "engine/model/config_fields.h"
#include "engine/model/spec.h"

namespace baram {

// Which table is read, and what applies where the file is silent.
struct RopeDefaults {
  std::string layer_type;  // "full_attention", say: of the layers of this type; empty: of all
  int32_t head_dim = 0;
  int32_t max_positions = 0;
  double theta = 10000.0;
  // Where the base of this table stands outside the rope object.
  std::string theta_field = "rope_theta";
  // False: `rope_scaling` is of another table.
  bool scaled = true;
};

// Reads a table from
//   "rope_theta" and "rope_scaling": {"type" or "rope_type", ...}
//   "rope_parameters": {"rope_type", "rope_theta", ...}
//   "rope_parameters": {"full_attention": {...}, "sliding_attention": {...}}, by layer type only
// `rope_scaling` beside `rope_parameters` may repeat it or scale what it leaves unscaled.
RopeSpec ReadRope(const ConfigFields& config, const RopeDefaults& defaults);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_ROPE_CONFIG_H_
