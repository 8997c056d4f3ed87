// The model families: from a config.json to a ModelSpec.
#ifndef BARAM_ENGINE_MODEL_ARCHS_H_
#define BARAM_ENGINE_MODEL_ARCHS_H_

#include <span>

#include "engine/model/config_fields.h"
#include "engine/model/spec.h"

namespace baram {

struct Arch {
  const char* architecture;  // config.json's `architectures`
  const char* model_type;    // its `model_type`, by which the reference chooses the family
  const char* family;        // human-readable
  // Errors are recorded in the config; the spec is only valid if there are none.
  ModelSpec (*read)(const ConfigFields& config);
  // The class of another family by which the reference runs this one, and which it names in what it
  // saves.
  const char* run_as = nullptr;
};

std::span<const Arch> Archs();

// The context of a model with these rotations whose max_position_embeddings is `max_positions`.
int32_t StretchedContext(int32_t max_positions, std::span<const RopeSpec> ropes);

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_ARCHS_H_
