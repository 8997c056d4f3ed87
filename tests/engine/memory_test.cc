// Peak resident memory of loading and running a model: at most 1.15 times its weights, plus the KV
// cache and 300 MB. The head is tied and is most of the weights, so that a second copy of it, or of
// the file, would not fit; nor would the logits of all outputs of a step at once.
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "gtest/gtest.h"
#include "tests/model/scratch_folder.h"

namespace baram::testing {
namespace {

constexpr int64_t kKvBytes = int64_t{64} << 20;
// What the rest of a server leaves of 300 MB: with a tokenizer of 262,144 ids it takes 175 MB.
constexpr int64_t kAllowance = 125'000'000;
constexpr char kConfig[] = R"({
  "architectures": ["LlamaForCausalLM"], "hidden_size": 640, "intermediate_size": 2048,
  "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 128,
  "vocab_size": 262144, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true,
  "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2})";

struct ShapedTensor {
  std::string name;
  std::vector<int64_t> shape;
};

std::vector<ShapedTensor> Tensors() {
  std::vector<ShapedTensor> tensors = {{"model.embed_tokens.weight", {262144, 640}},
                                       {"model.norm.weight", {640}}};
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    tensors.push_back({layer + "input_layernorm.weight", {640}});
    tensors.push_back({layer + "post_attention_layernorm.weight", {640}});
    tensors.push_back({layer + "self_attn.q_proj.weight", {1024, 640}});
    tensors.push_back({layer + "self_attn.k_proj.weight", {256, 640}});
    tensors.push_back({layer + "self_attn.v_proj.weight", {256, 640}});
    tensors.push_back({layer + "self_attn.o_proj.weight", {640, 1024}});
    tensors.push_back({layer + "mlp.gate_proj.weight", {2048, 640}});
    tensors.push_back({layer + "mlp.up_proj.weight", {2048, 640}});
    tensors.push_back({layer + "mlp.down_proj.weight", {640, 2048}});
  }
  return tensors;
}

// A sparse file of zeros. Returns the size of its tensors.
int64_t WriteSparseWeights(const ScratchFolder& folder) {
  std::string header;
  int64_t end = 0;
  for (const ShapedTensor& tensor : Tensors()) {
    const int64_t begin = end;
    std::string shape;
    int64_t elements = 1;
    for (const int64_t size : tensor.shape) {
      elements *= size;
      shape += (shape.empty() ? "" : ",") + std::to_string(size);
    }
    end += elements * 2;
    header += (header.empty() ? "{" : ",") + ("\"" + tensor.name) +
              R"(":{"dtype":"BF16","shape":[)" + shape + R"(],"data_offsets":[)" +
              std::to_string(begin) + "," + std::to_string(end) + "]}";
  }
  const std::string file =
      folder.Write("model.safetensors", SafetensorsBytes(header + "}", std::string()));
  std::ifstream written(file, std::ios::ate | std::ios::binary);
  EXPECT_EQ(truncate(file.c_str(), static_cast<int64_t>(written.tellg()) + end), 0);
  return end;
}

// This process's peak resident memory in bytes.
int64_t PeakResidentBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    int64_t kilobytes = 0;
    if (std::sscanf(line.c_str(), "VmHWM: %ld kB", &kilobytes) == 1) return kilobytes * 1024;
  }
  return -1;
}

TEST(MemoryTest, APeakOfLittleMoreThanWeightsAndCache) {
  const ScratchFolder folder;
  folder.Write("config.json", kConfig);
  const int64_t weights = WriteSparseWeights(folder);
  EngineConfig config;
  config.model = folder.path();
  config.kv_cache_bytes = kKvBytes;
  config.max_num_batched_tokens = 512;
  config.max_num_seqs = 32;
  const auto engine = Engine::Open(config);
  ASSERT_TRUE(engine.ok()) << engine.status();

  Request request;
  request.id = "one";
  request.prompt.resize(600);
  std::iota(request.prompt.begin(), request.prompt.end(), 3);
  request.max_tokens = 2;
  request.prompt_logprobs = 0;  // logits of many rows
  const auto outbox = (*engine)->Submit(request);
  ASSERT_TRUE(outbox.ok()) << outbox.status();
  while (!(*engine)->idle()) std::this_thread::sleep_for(std::chrono::milliseconds(1));

  const int64_t peak = PeakResidentBytes();
  std::printf("weights %.0f MB, KV %.0f MB, peak %.0f MB\n", weights / 1e6, kKvBytes / 1e6,
              peak / 1e6);
  ASSERT_GT(peak, weights) << "the weights were not loaded";
  EXPECT_LE(peak, weights * 115 / 100 + kKvBytes + kAllowance);
}

}  // namespace
}  // namespace baram::testing
