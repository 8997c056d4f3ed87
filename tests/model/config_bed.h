// Reads a config.json, as from a folder.
#ifndef BARAM_TESTS_MODEL_CONFIG_BED_H_
#define BARAM_TESTS_MODEL_CONFIG_BED_H_

#include <gtest/gtest.h>

#include <string>

#include "engine/model/hf_config.h"
#include "nlohmann/json.hpp"
#include "tests/model/scratch_folder.h"

namespace baram::testing {

// A small Llama config with class `architecture` and `changes` applied.
inline nlohmann::json ConfigOf(const char* architecture,
                               const nlohmann::json& changes = nlohmann::json::object()) {
  nlohmann::json config = {{"architectures", {architecture}},
                           {"hidden_size", 64},
                           {"vocab_size", 100},
                           {"intermediate_size", 96},
                           {"num_hidden_layers", 4},
                           {"num_attention_heads", 4},
                           {"num_key_value_heads", 2},
                           {"max_position_embeddings", 2048}};
  config.update(changes);
  return config;
}

inline absl::StatusOr<ModelSpec> ReadConfig(const std::string& text) {
  const ScratchFolder folder;
  folder.Write("config.json", text);
  return ReadModelSpec(folder.path());
}
// Fails the test if the config is refused.
inline ModelSpec ReadGood(const nlohmann::json& config) {
  absl::StatusOr<ModelSpec> spec = ReadConfig(config.dump());
  EXPECT_TRUE(spec.ok()) << spec.status();
  return spec.ok() ? *spec : ModelSpec();
}
inline ModelSpec ReadLlama(const nlohmann::json& changes) {
  return ReadGood(ConfigOf("LlamaForCausalLM", changes));
}

}  // namespace baram::testing

#endif  // BARAM_TESTS_MODEL_CONFIG_BED_H_
