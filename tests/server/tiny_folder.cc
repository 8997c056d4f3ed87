// TinyFolder: writes config.json, random weights arranged into a cycle, and the tokenizer's files.
#include "tests/server/tiny_folder.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "kernels/check.h"
#include "kernels/float_types.h"
#include "server/text/tokenizer.h"
#include "tests/environment.h"

namespace baram::testing {
namespace {

constexpr int kHidden = 64, kIntermediate = 64, kLayers = 2, kHeads = 4, kKvHeads = 2;
constexpr float kHeadScale = 0.15f;  // puts the likely token's logit near 9.6

using Matrix = std::vector<float>;  // [rows, kHidden]

// A random row of length sqrt(kHidden); such rows are nearly orthogonal to each other.
std::vector<float> RandomRow(std::mt19937& random) {
  std::vector<float> row(kHidden);
  for (float& value : row) value = (random() & 1) != 0 ? 1.0f : -1.0f;
  return row;
}

// Makes each cycle token's embedding row its successor's head row. Tokens outside share one
// embedding row, which leads to the first of the cycle, and have random head rows.
void Arrange(const std::vector<int32_t>& cycle, Matrix* embedding, Matrix* head) {
  std::mt19937 random(7);
  const auto put = [](Matrix* matrix, int32_t row, const std::vector<float>& values, float scale) {
    for (int i = 0; i < kHidden; ++i) (*matrix)[row * kHidden + i] += scale * values[i];
  };
  const std::vector<float> outside = RandomRow(random);
  std::vector<bool> inside(TinyFolder::kVocabSize, false);
  for (const int32_t token : cycle) inside[token] = true;
  for (int32_t token = 0; token < TinyFolder::kVocabSize; ++token) {
    if (!inside[token]) {
      put(embedding, token, outside, 1);
      put(head, token, RandomRow(random), kHeadScale);
    }
  }
  put(head, cycle[0], outside, kHeadScale);
  for (size_t i = 0; i < cycle.size(); ++i) {
    const std::vector<float> row = RandomRow(random);
    put(embedding, cycle[i], row, 1);
    put(head, cycle[(i + 1) % cycle.size()], row, kHeadScale);
  }
}

std::string Safetensors(const std::map<std::string, std::pair<std::vector<int64_t>, Matrix>>& all) {
  nlohmann::json header = nlohmann::json::object();
  std::string data;
  for (const auto& [name, tensor] : all) {
    const auto& [shape, values] = tensor;
    const size_t begin = data.size();
    for (const float value : values) {
      const uint16_t bits = BF16FromF32(value);
      data += static_cast<char>(bits);
      data += static_cast<char>(bits >> 8);
    }
    header[name] = {{"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {begin, data.size()}}};
  }
  return SafetensorsBytes(header.dump(), data);
}

}  // namespace

TinyFolder::TinyFolder(int max_model_len) {
  const std::filesystem::path source = SourceFolder() + "/tests/text/data/byte_level";
  for (const auto& entry : std::filesystem::directory_iterator(source)) {
    std::filesystem::copy(entry.path(), path() / entry.path().filename());
  }
  const auto tokenizer = text::Tokenizer::Load(path());
  Check(tokenizer.ok(), "the test tokenizer loads");
  const auto cycle = (*tokenizer)->Encode(kCycle, false);
  Check(cycle.ok() && cycle->size() == kCycleTokens, "the cycle has the tokens it had");

  Matrix embedding(kVocabSize * kHidden), head(kVocabSize * kHidden);
  Arrange(*cycle, &embedding, &head);
  constexpr int64_t kKv = kHidden * kKvHeads / kHeads;
  const auto filled = [](std::vector<int64_t> shape, float value) {
    int64_t count = 1;
    for (const int64_t dimension : shape) count *= dimension;
    return std::pair(std::move(shape), Matrix(count, value));
  };
  std::map<std::string, std::pair<std::vector<int64_t>, Matrix>> tensors;
  tensors["model.embed_tokens.weight"] = {{kVocabSize, kHidden}, embedding};
  tensors["lm_head.weight"] = {{kVocabSize, kHidden}, head};
  tensors["model.norm.weight"] = filled({kHidden}, 1);
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string name = "model.layers." + std::to_string(layer) + ".";
    tensors[name + "input_layernorm.weight"] = filled({kHidden}, 1);
    tensors[name + "post_attention_layernorm.weight"] = filled({kHidden}, 1);
    tensors[name + "self_attn.q_proj.weight"] = filled({kHidden, kHidden}, 0);
    tensors[name + "self_attn.k_proj.weight"] = filled({kKv, kHidden}, 0);
    tensors[name + "self_attn.v_proj.weight"] = filled({kKv, kHidden}, 0);
    tensors[name + "self_attn.o_proj.weight"] = filled({kHidden, kHidden}, 0);
    tensors[name + "mlp.gate_proj.weight"] = filled({kIntermediate, kHidden}, 0);
    tensors[name + "mlp.up_proj.weight"] = filled({kIntermediate, kHidden}, 0);
    tensors[name + "mlp.down_proj.weight"] = filled({kHidden, kIntermediate}, 0);
  }
  folder_.Write("model.safetensors", Safetensors(tensors));
  folder_.Write("config.json", nlohmann::json{{"architectures", {"LlamaForCausalLM"}},
                                              {"model_type", "llama"},
                                              {"torch_dtype", "bfloat16"},
                                              {"vocab_size", kVocabSize},
                                              {"hidden_size", kHidden},
                                              {"intermediate_size", kIntermediate},
                                              {"num_hidden_layers", kLayers},
                                              {"num_attention_heads", kHeads},
                                              {"num_key_value_heads", kKvHeads},
                                              {"hidden_act", "silu"},
                                              {"max_position_embeddings", max_model_len},
                                              {"rms_norm_eps", 1e-5},
                                              {"rope_theta", 10000.0},
                                              {"tie_word_embeddings", false},
                                              {"eos_token_id", kEos}}
                                   .dump());
  folder_.Write("generation_config.json",
                nlohmann::json{{"eos_token_id", {kEos, kSecondEos}}, {"temperature", 1.0}}.dump());
}

}  // namespace baram::testing
