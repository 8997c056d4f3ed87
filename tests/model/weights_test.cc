// Loading is strict, packs every row where it belongs, and does not depend on threads.
#include "engine/model/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/model/random_weights.h"
#include "engine/model/rope.h"
#include "engine/model/weight_layout.h"
#include "tests/model/scratch_folder.h"
#include "tests/scarce_threads.h"

namespace baram {
namespace {

using ::testing::Each;
using ::testing::EndsWith;
using testing::FilledTensor;
using ::testing::HasSubstr;
using testing::SafetensorsBytes;
using testing::ScratchFolder;

constexpr int32_t kPositions = 8;

// All sizes differ, so that swapping two of them shows.
ModelSpec SmallSpec() {
  ModelSpec spec;
  spec.architecture = "TestForCausalLM";
  spec.hidden = 12;
  spec.vocab_size = 20;
  spec.max_positions = kPositions;
  spec.head = {.heads = 4, .kv_heads = 2, .head_dim = 6};
  RopeSpec rope;
  rope.rotary_dim = 6;
  spec.ropes = {rope};
  LayerSpec layer;
  layer.attention_scale = 0.4f;
  layer.qk_norm = NormKind::kZeroCentred;
  layer.qkv_bias = layer.mlp_bias = true;
  layer.post_mlp = NormKind::kPlain;
  layer.ffn = 10;
  spec.layers = {layer, layer};
  spec.names.post_mlp = "model.layers.{}.post_norm";
  return spec;
}

// The expected tensors, the i-th filled with i + 1 (exact in bf16).
std::vector<FilledTensor> FilledTensors(const ModelSpec& spec) {
  std::vector<FilledTensor> tensors;
  for (const ExpectedTensor& expected : ExpectedTensors(spec)) {
    tensors.push_back({expected.name, expected.shape, static_cast<float>(tensors.size() + 1)});
  }
  return tensors;
}

FilledTensor& Named(std::vector<FilledTensor>& tensors, const std::string& name) {
  return *std::find_if(tensors.begin(), tensors.end(),
                       [&](const FilledTensor& tensor) { return tensor.name == name; });
}

class WeightsTest : public ::testing::Test {
 protected:
  WeightsTest() {
    std::string error;
    device_ = OpenDevice("ref", {}, &error);
  }

  absl::StatusOr<std::unique_ptr<Weights>> Load(const ModelSpec& spec,
                                                const std::vector<FilledTensor>& tensors,
                                                int32_t threads = 1) {
    folder_.Write("model.safetensors", SafetensorsBytes(tensors));
    return LoadWeights(folder_.path(), spec, *device_,
                       {.positions = kPositions, .threads = threads, .progress = nullptr});
  }
  absl::Status Complaint(const ModelSpec& spec, const std::vector<FilledTensor>& tensors) {
    return Load(spec, tensors).status();
  }
  absl::Status Check(const ModelSpec& spec) {
    int64_t file_bytes = 0;
    return CheckCheckpoint(folder_.path(), spec, &file_bytes);
  }
  std::vector<float> Vector(const float* data, int64_t n) {
    std::vector<float> host(n);
    device_->Download(host.data(), data, n * static_cast<int64_t>(sizeof(float)));
    return host;
  }
  // Rows of a packed weight: on ref those are its rows in fp32.
  std::vector<float> Rows(const PackedWeight& weight, int64_t begin, int64_t count) {
    return Vector(static_cast<const float*>(weight.data) + begin * weight.shape.k,
                  count * weight.shape.k);
  }

  const ScratchFolder folder_;
  std::unique_ptr<Device> device_;
};

TEST_F(WeightsTest, EveryTensorComesToItsPlace) {
  const ModelSpec spec = SmallSpec();
  std::vector<FilledTensor> tensors = FilledTensors(spec);
  const auto loaded = Load(spec, tensors);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Weights& weights = **loaded;
  const auto value = [&](const std::string& name) { return Named(tensors, name).value; };
  const auto expect_rows = [&](const PackedWeight& weight, int64_t begin, int64_t count,
                               const std::string& name) {
    EXPECT_THAT(Rows(weight, begin, count), Each(value(name))) << name;
  };
  expect_rows(weights.embedding, 0, 20, "model.embed_tokens.weight");
  expect_rows(weights.lm_head, 0, 20, "lm_head.weight");
  EXPECT_THAT(Vector(weights.final_norm, 12), Each(value("model.norm.weight")));
  for (int i = 0; i < 2; ++i) {
    const LayerWeights& layer = weights.layers[i];
    const std::string at = "model.layers." + std::to_string(i) + ".";
    EXPECT_EQ(layer.qkv.shape.n, 48);
    expect_rows(layer.qkv, 0, 24, at + "self_attn.q_proj.weight");
    expect_rows(layer.qkv, 24, 12, at + "self_attn.k_proj.weight");
    expect_rows(layer.qkv, 36, 12, at + "self_attn.v_proj.weight");
    expect_rows(layer.o, 0, 12, at + "self_attn.o_proj.weight");
    expect_rows(layer.gate_up, 0, 10, at + "mlp.gate_proj.weight");
    expect_rows(layer.gate_up, 10, 10, at + "mlp.up_proj.weight");
    expect_rows(layer.down, 0, 12, at + "mlp.down_proj.weight");
    EXPECT_THAT(Vector(layer.qkv_bias, 24), Each(value(at + "self_attn.q_proj.bias")));
    EXPECT_THAT(Vector(layer.qkv_bias + 36, 12), Each(value(at + "self_attn.v_proj.bias")));
    EXPECT_THAT(Vector(layer.gate_up_bias + 10, 10), Each(value(at + "mlp.up_proj.bias")));
    EXPECT_THAT(Vector(layer.down_bias, 12), Each(value(at + "mlp.down_proj.bias")));
    EXPECT_EQ(layer.o_bias, nullptr);
    EXPECT_THAT(Vector(layer.pre_attention, 12), Each(value(at + "input_layernorm.weight")));
    EXPECT_EQ(layer.post_attention, nullptr);
    EXPECT_THAT(Vector(layer.pre_mlp, 12), Each(value(at + "post_attention_layernorm.weight")));
    EXPECT_THAT(Vector(layer.post_mlp, 12), Each(value(at + "post_norm.weight")));
    // Zero-centred: one is added.
    EXPECT_THAT(Vector(layer.q_norm, 6), Each(value(at + "self_attn.q_norm.weight") + 1));
    EXPECT_THAT(Vector(layer.k_norm, 6), Each(value(at + "self_attn.k_norm.weight") + 1));
  }
  ASSERT_EQ(weights.ropes.size(), 1u);
  EXPECT_EQ(weights.ropes[0].positions, kPositions);
  std::vector<float> rope(kPositions * 6);
  FillRopeRows(spec.ropes[0], 0, kPositions, rope.data());
  EXPECT_EQ(Vector(weights.ropes[0].data, kPositions * 6), rope);
}

TEST_F(WeightsTest, SizesAreAsForeseen) {
  const ModelSpec spec = SmallSpec();
  int64_t elements = 0;
  for (const FilledTensor& tensor : FilledTensors(spec)) {
    int64_t product = 1;
    for (const int64_t dimension : tensor.shape) product *= dimension;
    elements += product;
  }
  EXPECT_EQ(ParameterCount(spec), elements);
  const auto loaded = Load(spec, FilledTensors(spec));
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ((*loaded)->bytes, WeightBytes(spec, *device_, kPositions));
  int64_t held = 0;
  for (const Buffer& buffer : (*loaded)->buffers) held += buffer.bytes();
  EXPECT_EQ((*loaded)->bytes, held);
}

TEST_F(WeightsTest, MissingTensorsAreNamed) {
  std::vector<FilledTensor> tensors = FilledTensors(SmallSpec());
  std::erase_if(tensors, [](const FilledTensor& tensor) {
    return tensor.name == "model.layers.1.mlp.up_proj.weight";
  });
  const absl::Status status = Complaint(SmallSpec(), tensors);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(),
              HasSubstr("tensor model.layers.1.mlp.up_proj.weight of shape [10, 12] is missing"));
}

TEST_F(WeightsTest, WrongShapesAreNamedWithBoth) {
  std::vector<FilledTensor> tensors = FilledTensors(SmallSpec());
  Named(tensors, "model.layers.0.mlp.down_proj.weight").shape = {10, 12};
  EXPECT_THAT(Complaint(SmallSpec(), tensors).message(),
              HasSubstr("tensor model.layers.0.mlp.down_proj.weight has shape [10, 12], and "
                        "config.json implies [12, 10]"));
}

TEST_F(WeightsTest, AllThatIsWrongIsCountedWithoutReadingWeights) {
  std::vector<FilledTensor> tensors = FilledTensors(SmallSpec());
  for (const char* name : {"q", "k", "v"}) {
    Named(tensors, std::string("model.layers.0.self_attn.") + name + "_proj.weight").shape = {1};
  }
  Named(tensors, "model.norm.weight").shape = {13};
  folder_.Write("model.safetensors", SafetensorsBytes(tensors));
  const absl::Status status = Check(SmallSpec());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("q_proj.weight has shape [1], and config.json implies "));
  EXPECT_THAT(status.message(), HasSubstr("; "));
  EXPECT_THAT(std::string(status.message()), EndsWith(" and 1 more"));
  folder_.Write("model.safetensors", SafetensorsBytes(FilledTensors(SmallSpec())));
  EXPECT_TRUE(Check(SmallSpec()).ok());
}

// Other files in the folder, such as a copy of the weights in another format, are ignored.
TEST_F(WeightsTest, OnlyTheCheckpointsFilesAreCounted) {
  const std::string file = SafetensorsBytes(FilledTensors(SmallSpec()));
  folder_.Write("model.safetensors", file);
  folder_.Write("consolidated.safetensors", file);
  int64_t file_bytes = 0;
  EXPECT_TRUE(CheckCheckpoint(folder_.path(), SmallSpec(), &file_bytes).ok());
  EXPECT_EQ(file_bytes, std::ssize(file));
  folder_.Write("model.safetensors", "broken");
  EXPECT_FALSE(CheckCheckpoint(folder_.path(), SmallSpec(), &file_bytes).ok());
  EXPECT_EQ(file_bytes, 0);
}

TEST_F(WeightsTest, LeftoversAreNamed) {
  std::vector<FilledTensor> tensors = FilledTensors(SmallSpec());
  for (const char* name : {"d", "c", "b", "a"}) tensors.push_back({name, {1}, 0});
  EXPECT_THAT(
      Complaint(SmallSpec(), tensors).message(),
      HasSubstr("unexpected tensors a, b, c and 1 more: TestForCausalLM has no such weights"));
}

TEST_F(WeightsTest, StoredRotaryFrequenciesAreIgnored) {
  std::vector<FilledTensor> tensors = FilledTensors(SmallSpec());
  tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", {3}, 0});
  EXPECT_TRUE(Load(SmallSpec(), tensors).ok());
}

// Parts of it that are not served are no leftovers, but only under the names that go with it.
TEST_F(WeightsTest, TheCheckpointChoosesAmongTheNames) {
  ModelSpec spec = SmallSpec();
  spec.names.skipped_prefixes = {"tower."};
  ModelSpec other = spec;
  other.names.embedding = "text.embedding";
  other.names.q = "text.{}.q";
  other.names.lm_head = "text.head";
  other.names.skipped_prefixes = {"model.tower.", "bridge."};
  spec.other_names = {other.names, other.names};
  spec.other_names.front().embedding = "absent";
  struct Case {
    const ModelSpec& named;
    const char* extra;
    bool loads = false;
  };
  for (const Case& c :
       {Case{spec, "tower.0.weight", true}, Case{other, "model.tower.0.weight", true},
        Case{other, "bridge.norm", true}, Case{spec, "bridge.norm"}, Case{spec, "model.tower.0"},
        Case{other, "tower.0"}, Case{other, "model.towers"}, Case{other, "lm_head"},
        Case{spec, "text.head.weight"}}) {
    std::vector<FilledTensor> tensors = FilledTensors(c.named);
    const auto value = [&](const std::string& role) {
      return Named(tensors, role + ".weight").value;
    };
    const float embedding = value(c.named.names.embedding), head = value(c.named.names.lm_head);
    tensors.push_back({c.extra, {1}, 0});
    const auto loaded = Load(spec, tensors);
    ASSERT_EQ(loaded.ok(), c.loads) << c.extra << ": " << loaded.status();
    EXPECT_EQ(Check(spec), loaded.status());
    if (!loaded.ok()) {
      EXPECT_EQ(loaded.status().message(), folder_.path() + ": unexpected tensor " + c.extra +
                                               ": TestForCausalLM has no such weight");
      continue;
    }
    EXPECT_THAT(Rows((*loaded)->embedding, 0, 20), Each(embedding));
    EXPECT_THAT(Rows((*loaded)->lm_head, 0, 20), Each(head));
  }
  // A mix of both: missing tensors are reported under the chosen names.
  std::vector<FilledTensor> mixed = FilledTensors(other);
  Named(mixed, "text.1.q.weight").name = "model.layers.1.self_attn.q_proj.weight";
  EXPECT_THAT(Complaint(spec, mixed).message(), HasSubstr("tensor text.1.q.weight of shape"));
  // A tied head is looked up under them too.
  spec.tied_lm_head = other.tied_lm_head = true;
  std::vector<FilledTensor> tied = FilledTensors(other);
  tied.push_back({"text.head.weight", tied.front().shape, tied.front().value});
  EXPECT_TRUE(Load(spec, tied).ok());
  tied.back().value = 100;
  EXPECT_THAT(Complaint(spec, tied).message(),
              HasSubstr("tensor text.head.weight differs from the embedding"));
}

TEST_F(WeightsTest, TypesOfOtherMachinesAreNamed) {
  const std::vector<FilledTensor> tensors = FilledTensors(SmallSpec());
  std::string bytes = SafetensorsBytes(tensors);
  bytes.replace(bytes.find("\"BF16\""), 6, "\"I16\" ");
  folder_.Write("model.safetensors", bytes);
  const absl::Status status = LoadWeights(folder_.path(), SmallSpec(), *device_,
                                          {.positions = 1, .threads = 1, .progress = nullptr})
                                  .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(), HasSubstr("is of type I16; supported are BF16, F16 and F32"));
}

TEST_F(WeightsTest, ATiedHeadIsTheEmbedding) {
  ModelSpec spec = SmallSpec();
  spec.tied_lm_head = true;
  std::vector<FilledTensor> tensors = FilledTensors(spec);
  const auto loaded = Load(spec, tensors);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)->lm_head.data, (*loaded)->embedding.data);

  // If stored as well: accepted if equal, rejected if not.
  FilledTensor head = tensors.front();
  head.name = "lm_head.weight";
  tensors.push_back(head);
  EXPECT_TRUE(Load(spec, tensors).ok());
  tensors.back().value = 100;
  EXPECT_THAT(Complaint(spec, tensors).message(),
              HasSubstr("tensor lm_head.weight differs from the embedding"));
  EXPECT_TRUE(Check(spec).ok()) << "bytes are not read";
  // A different shape is detected without reading bytes.
  tensors.back().shape = {1, spec.hidden};
  EXPECT_THAT(Complaint(spec, tensors).message(),
              HasSubstr("tensor lm_head.weight differs from the embedding"));
  EXPECT_EQ(Check(spec), Complaint(spec, tensors));
}

// Two MiB and a remainder, whose last byte differs; or all bytes are equal, but the type differs.
TEST_F(WeightsTest, ATiedHeadIsComparedToItsEnd) {
  ModelSpec spec = SmallSpec();
  spec.tied_lm_head = true;
  spec.hidden = 1024;
  spec.vocab_size = 1100;
  std::vector<FilledTensor> tensors = FilledTensors(spec);
  FilledTensor head = tensors.front();
  head.name = "lm_head.weight";
  tensors.push_back(head);
  EXPECT_TRUE(Load(spec, tensors).ok());
  const std::string bytes = SafetensorsBytes(tensors);
  std::string other_end = bytes, other_type = bytes;
  other_end.back() ^= 1;
  const std::string type = "\"BF16\"";
  other_type.replace(other_type.find(type, other_type.find(head.name)), type.size(), "\"F16\" ");
  for (const std::string& file : {other_end, other_type}) {
    folder_.Write("model.safetensors", file);
    const auto loaded = LoadWeights(folder_.path(), spec, *device_,
                                    {.positions = kPositions, .threads = 1, .progress = nullptr});
    EXPECT_THAT(loaded.status().message(),
                HasSubstr("tensor lm_head.weight differs from the embedding"));
  }
}

TEST_F(WeightsTest, ThreadsChangeNothingAndProgressEndsComplete) {
  // Large enough for many slices.
  ModelSpec spec = SmallSpec();
  spec.hidden = 1024;
  spec.vocab_size = 5001;
  std::vector<FilledTensor> tensors;
  for (const ExpectedTensor& expected : ExpectedTensors(spec)) {
    tensors.push_back({expected.name, expected.shape, 0.5f});
  }
  folder_.Write("model.safetensors", SafetensorsBytes(tensors));
  int64_t done = -1, total = 0;
  const auto loaded = LoadWeights(
      folder_.path(), spec, *device_,
      {.positions = kPositions, .threads = 3, .progress = [&](int64_t now, int64_t all) {
         if (done < 0) {
           EXPECT_EQ(now, 0) << "before any is read";
         }
         EXPECT_GE(now, done);
         done = now;
         total = all;
       }});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(done, total);
  EXPECT_GT(total, 2 * 2 * 1024 * 5001);
  for (const PackedWeight& weight : {(*loaded)->embedding, (*loaded)->lm_head}) {
    const std::vector<float> rows = Rows(weight, 0, 5001);
    EXPECT_EQ(std::count(rows.begin(), rows.end(), 0.5f), 5001 * 1024);
  }
}

// More rows than the threads compute at a time, and a remainder.
TEST_F(WeightsTest, ThreadsFillWholeRopes) {
  const ModelSpec spec = SmallSpec();
  folder_.Write("model.safetensors", SafetensorsBytes(FilledTensors(spec)));
  constexpr int32_t kMany = 4500;
  std::vector<float> want(kMany * 6);
  FillRopeRows(spec.ropes[0], 0, kMany, want.data());
  for (const int32_t threads : {1, 3}) {
    const auto loaded = LoadWeights(folder_.path(), spec, *device_,
                                    {.positions = kMany, .threads = threads, .progress = nullptr});
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ(Vector((*loaded)->ropes[0].data, kMany * 6), want) << threads << " threads";
  }
}

TEST_F(WeightsTest, FewerThreadsThanWantedFillAll) {
  const ModelSpec spec = SmallSpec();
  folder_.Write("model.safetensors", SafetensorsBytes(FilledTensors(spec)));
  constexpr int32_t kMany = 4500;
  const auto load = [&](int left) {
    const testing::ScarceThreads scarce(left);
    return LoadWeights(folder_.path(), spec, *device_,
                       {.positions = kMany, .threads = 8, .progress = nullptr});
  };
  const auto want = load(100);
  ASSERT_TRUE(want.ok()) << want.status();
  for (const int left : {0, 1, 5}) {
    const auto loaded = load(left);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ(Vector((*loaded)->ropes[0].data, kMany * 6),
              Vector((*want)->ropes[0].data, kMany * 6));
    EXPECT_EQ(Rows((*loaded)->layers[1].qkv, 0, 48), Rows((*want)->layers[1].qkv, 0, 48));
  }
}

TEST_F(WeightsTest, RandomWeightsDependOnTheSeedAlone) {
  const ModelSpec spec = SmallSpec();
  const auto a = RandomWeights(spec, *device_, kPositions, 1);
  const auto b = RandomWeights(spec, *device_, kPositions, 1);
  const auto c = RandomWeights(spec, *device_, kPositions, 2);
  ASSERT_TRUE(a.ok() && b.ok() && c.ok());
  EXPECT_EQ(Rows((*a)->layers[1].qkv, 0, 48), Rows((*b)->layers[1].qkv, 0, 48));
  EXPECT_NE(Rows((*a)->layers[1].qkv, 0, 48), Rows((*c)->layers[1].qkv, 0, 48));
  EXPECT_NE(Rows((*a)->layers[0].qkv, 0, 48), Rows((*a)->layers[1].qkv, 0, 48));
  EXPECT_EQ((*a)->bytes, WeightBytes(spec, *device_, kPositions));
}

TEST_F(WeightsTest, RandomWeightsKeepActivationsTheirSize) {
  ModelSpec spec = SmallSpec();
  spec.hidden = 256;
  const auto weights = RandomWeights(spec, *device_, kPositions, 1);
  ASSERT_TRUE(weights.ok());
  double squares = 0;
  const std::vector<float> rows = Rows((*weights)->embedding, 0, 20);
  for (const float value : rows) squares += double{value} * value;
  EXPECT_NEAR(squares / 20, 1.0, 0.05);  // a row's length
  for (const float value : Vector((*weights)->final_norm, 256)) EXPECT_NEAR(value, 1.0f, 0.25f);
}

}  // namespace
}  // namespace baram
