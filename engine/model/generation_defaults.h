// GenerationDefaults: a model folder's defaults for generation.
#ifndef BARAM_ENGINE_MODEL_GENERATION_DEFAULTS_H_
#define BARAM_ENGINE_MODEL_GENERATION_DEFAULTS_H_

#include <cstdint>
#include <optional>
#include <vector>

namespace baram {

// From generation_config.json and config.json; empty if neither states it.
struct GenerationDefaults {
  std::vector<int32_t> eos_ids;  // the primary one first
  std::optional<double> temperature{}, top_p{}, min_p{}, repetition_penalty{};
  std::optional<int32_t> top_k{};  // 0: off
};

}  // namespace baram

#endif  // BARAM_ENGINE_MODEL_GENERATION_DEFAULTS_H_
