// Reads a Hugging Face model folder's config.json and generation_config.json into values.
#ifndef BARAM_ENGINE_MODEL_HF_CONFIG_H_
#define BARAM_ENGINE_MODEL_HF_CONFIG_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/generation_defaults.h"
#include "engine/model/spec.h"

namespace baram {

// The spec of the model in `folder`. NotFound: no config.json; DataLoss: a field is missing, of the
// wrong type or out of range, named in the message; Unimplemented: the architecture or an option of
// it is not supported; the message says why, and what is.
absl::StatusOr<ModelSpec> ReadModelSpec(const std::string& folder);

// An absent generation_config.json is no error.
absl::StatusOr<GenerationDefaults> ReadGenerationDefaults(const std::string& folder);

// The architecture strings that this binary serves, for help texts and errors.
std::vector<std::string> SupportedArchitectures();

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_HF_CONFIG_H_
