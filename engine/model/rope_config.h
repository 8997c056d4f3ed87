// Reads rotary embeddings from config.json, in all their spellings.
#ifndef BARAM_ENGINE_MODEL_ROPE_CONFIG_H_
#define BARAM_ENGINE_MODEL_ROPE_CONFIG_H_

#include <string>

#include "engine/model/config_fields.h"
#include "engine/model/spec.h"

namespace baram {

// Which table is read, and the defaults for what the file omits.
struct RopeDefaults {
  std::string layer_type;  // of the layers of this type, such as "full_attention"; empty: of all
  int32_t head_dim = 0;
  int32_t max_positions = 0;
  double theta = 10000.0;
  // The field that holds the base of this table outside the rope object.
  std::string theta_field = "rope_theta";
  // False: `rope_scaling` belongs to another table.
  bool scaled = true;
};

// Reads a table from
//   "rope_theta" and "rope_scaling": {"type" or "rope_type", ...}
//   "rope_parameters": {"rope_type", "rope_theta", ...}
//   "rope_parameters": {"full_attention": {...}, "sliding_attention": {...}}, by layer type only
// If both exist, `rope_scaling` may repeat `rope_parameters` or scale what that leaves unscaled.
// Records errors in `config`; do not use the table then.
RopeSpec ReadRope(const ConfigFields& config, const RopeDefaults& defaults);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_ROPE_CONFIG_H_
