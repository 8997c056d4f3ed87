// Decode steps on a GPU or its emulation, as graphs and kernel by kernel: the same ids and
// log-probabilities, bit for bit, whatever joins, leaves and grows between two runs of a graph.
// Padding does not change any product's kernel here: that would take a border of gemm_select.h, and
// 16 is a bucket; the library's products are not padded.
#include <cstdio>

#include "engine/step_graphs.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/runtime.h"
#include "tests/engine/rig.h"
#include "tests/environment.h"
#include "tests/kernels/cuda_place.h"

namespace baram::testing {
namespace {

using ::testing::StartsWith;

// Small in everything but its rules: fibers are slow.
ModelSpec GraphSpec() {
  ModelSpec spec;
  spec.architecture = spec.family = "Graphs";
  spec.hidden = 32;
  spec.vocab_size = kTinyVocab;
  spec.max_positions = 512;
  spec.head = {.heads = 4, .kv_heads = 2, .head_dim = 16};
  spec.ropes = {{.rotary_dim = 16}};
  for (const int32_t window : {0, 40}) {
    spec.layers.push_back(
        {.window = window, .attention_scale = 0.5f, .qk_norm = NormKind::kPlain, .ffn = 32});
  }
  return spec;
}

// Null if no device was requested.
std::unique_ptr<Device> OpenTested() {
  if (RequestedDevice().empty()) return nullptr;
  std::string error;
  std::unique_ptr<Device> device =
      OpenDevice(RequestedDevice(), {.overlap_kernels = KernelsOverlap()}, &error);
  EXPECT_NE(device, nullptr) << error;
  return device;
}

class CudaStepGraphs : public ::testing::Test {
 protected:
  void SetUp() override {
    cuda::PrepareCudaPlace();
    const std::unique_ptr<Device> device = OpenTested();
    if (device == nullptr) GTEST_SKIP() << "BARAM_TEST_DEVICE names no device";
    if (!device->Info().graphs) GTEST_SKIP() << device->Info().name << " has no graphs";
  }
};

int64_t FreeBytes() {
  int64_t bytes = 0;
  EXPECT_EQ(cuda::FreeMemory(&bytes), nullptr);
  return bytes;
}

EngineConfig GraphConfig(bool enforce_eager, int32_t max_num_seqs) {
  EngineConfig config;
  config.max_model_len = 320;
  config.max_num_seqs = max_num_seqs;
  config.max_num_batched_tokens = 64;
  config.kv_cache_bytes = 1 << 20;
  config.enforce_eager = enforce_eager;
  return config;
}

void FillWithNaN(EngineRig& rig) {
  LoadedModel& model = rig.model();
  std::vector<const Buffer*> buffers = {&model.pool_memory, &model.results_memory};
  for (const Buffer& buffer : model.workspace->buffers) buffers.push_back(&buffer);
  for (const Buffer* buffer : buffers) {
    const std::vector<unsigned char> nan(buffer->bytes(), 0xff);
    model.device->Upload(buffer->data(), nan.data(), buffer->bytes());
  }
}

// A sequence that joins in turn `turn`.
struct Arrival {
  int32_t turn;
  int32_t prompt;
  int32_t output;
  bool penalized = false;
};

struct Outcome {
  std::vector<std::vector<TokenResult>> outputs;
  int64_t captures = 0;
  int64_t replays = 0;
  std::string kernel;  // of QueryProduct(max_num_seqs), at the end
};

// The product for queries, keys and values in a step of `rows` tokens.
GemmArgs QueryProduct(int64_t rows) {
  const ModelSpec spec = GraphSpec();
  const int64_t n = int64_t{spec.head.heads + 2 * spec.head.kv_heads} * spec.head.head_dim;
  return {.a = DenseTensor(nullptr, DType::kBF16, rows, spec.hidden),
          .weight = {.data = nullptr, .shape = {n, spec.hidden, Format{DType::kBF16}}},
          .out = DenseTensor(nullptr, DType::kBF16, rows, n)};
}

Outcome Run(const std::vector<Arrival>& arrivals, int32_t max_num_seqs, bool enforce_eager) {
  EngineRig rig(GraphSpec(), OpenTested(), GraphConfig(enforce_eager, max_num_seqs));
  FillWithNaN(rig);
  const int64_t free_before = FreeBytes();
  std::vector<Client*> clients;
  int32_t turn = 0;
  for (const Arrival& arrival : arrivals) {
    for (; turn < arrival.turn; ++turn) rig.Turn();
    Request request = MakeRequest(RandomPrompt(clients.size(), arrival.prompt), arrival.output);
    request.sampling.temperature = 0.9f;
    request.sampling.seed = clients.size();
    request.sampling.logprobs = 4;
    if (arrival.penalized) request.sampling.frequency_penalty = 0.7f;
    clients.push_back(rig.Submit(std::move(request)));
  }
  EXPECT_TRUE(rig.Finish());
  Outcome outcome;
  for (const Client* client : clients) {
    EXPECT_EQ(client->outputs[0].finish().reason, FinishReason::kLength);
    outcome.outputs.push_back(client->outputs[0].tokens);
  }
  outcome.captures = rig.runner().graphs().captures();
  outcome.replays = rig.runner().graphs().replays();
  outcome.kernel = rig.model().device->KernelOf(QueryProduct(max_num_seqs));
  // After an eager run in the same process, which loaded all kernels: checks the estimate.
  if (!enforce_eager) {
    std::printf("%d graphs took %lld bytes of the GPU, estimated %lld\n",
                static_cast<int>(outcome.captures),
                static_cast<long long>(free_before - FreeBytes()),
                static_cast<long long>(
                    StepGraphBytes(GraphSpec(), *rig.model().device,
                                   std::vector<int32_t>(static_cast<size_t>(outcome.captures)))));
  }
  return outcome;
}

void ExpectSameBits(const TokenResult& a, const TokenResult& b) {
  EXPECT_EQ(a.token, b.token);
  EXPECT_EQ(a.rank, b.rank);
  EXPECT_EQ(a.logprob, b.logprob);
  ASSERT_EQ(a.top_count, b.top_count);
  for (int32_t i = 0; i < a.top_count; ++i) {
    EXPECT_EQ(a.top_ids[i], b.top_ids[i]);
    EXPECT_EQ(a.top_logprobs[i], b.top_logprobs[i]);
  }
}

// Expects the same results both ways; returns what the graphs did.
Outcome ExpectGraphsChangeNothing(const std::vector<Arrival>& arrivals, int32_t max_num_seqs = 6) {
  const Outcome eager = Run(arrivals, max_num_seqs, true);
  Outcome graphs = Run(arrivals, max_num_seqs, false);
  EXPECT_EQ(eager.replays, 0);
  for (size_t i = 0; i < arrivals.size(); ++i) {
    SCOPED_TRACE("request " + std::to_string(i));
    if (graphs.outputs[i].size() != eager.outputs[i].size()) {
      ADD_FAILURE() << "outputs differ in length";
      continue;
    }
    for (size_t t = 0; t < eager.outputs[i].size(); ++t) {
      SCOPED_TRACE("token " + std::to_string(t));
      ExpectSameBits(graphs.outputs[i][t], eager.outputs[i][t]);
      if (::testing::Test::HasFailure()) break;
    }
  }
  return graphs;
}

// One, three, five and six at a time, then fewer again; contexts grow past a page of 32, a block of
// 64 keys, and the window.
TEST_F(CudaStepGraphs, BatchesThatGrowAndShrink) {
  const Outcome graphs = ExpectGraphsChangeNothing({{0, 60, 34},
                                                    {5, 28, 12, true},
                                                    {5, 3, 9},
                                                    {11, 39, 12},
                                                    {11, 1, 7, true},
                                                    {16, 5, 4},
                                                    {22, 62, 9}});
  EXPECT_EQ(graphs.captures, 4) << "1, 2, 4 and 6 rows";
  EXPECT_GE(graphs.replays, 15);
}

// Alone, a sequence of four blocks of keys is computed whole and one of five is split: the graph is
// captured before that and runs after it.
TEST_F(CudaStepGraphs, AContextThatIsCutAfterTheCapture) {
  const Outcome graphs = ExpectGraphsChangeNothing({{0, 250, 12}});
  EXPECT_EQ(graphs.captures, 1);
  EXPECT_GE(graphs.replays, 9);
}

// More rows than our own small-batch kernel takes.
TEST_F(CudaStepGraphs, ProductsOfTheLibrary) {
  constexpr int32_t kRows = 24;
  if (!OpenTested()->KernelOf(QueryProduct(kRows)).starts_with("cublaslt")) {
    GTEST_SKIP() << "this machine has no cuBLASLt";
  }
  const std::vector<Arrival> together(kRows, Arrival{0, 2, 7});
  const Outcome graphs = ExpectGraphsChangeNothing(together, kRows);
  EXPECT_EQ(graphs.captures, 1);
  EXPECT_GE(graphs.replays, 4);
  EXPECT_THAT(graphs.kernel, StartsWith("cublaslt")) << "it refused the product";
}

// Calling what is forbidden during a capture loses the capture and nothing else.
TEST_F(CudaStepGraphs, ALostCaptureLeavesTheDevice) {
  const auto device = OpenTested();
  const Buffer memory = device->Alloc(64);
  const std::vector<float> ones(8, 1.0f);
  const std::vector<float> fives(8, 5.0f);
  const Tensor x = DenseTensor(memory.data(), DType::kF32, 2, 4);
  const Tensor out = DenseTensor(static_cast<float*>(memory.data()) + 8, DType::kF32, 2, 4);
  const Buffer index = device->Alloc(8);
  const int32_t rows[] = {1, 1};
  device->Upload(index.data(), rows, sizeof(rows));
  const GatherRowsArgs gather{
      .x = x, .index = static_cast<const int32_t*>(index.data()), .out = out};
  const auto outcome = [&] {
    std::vector<float> values(8);
    device->Download(values.data(), out.data, 32);
    EXPECT_TRUE(device->Wait(device->Record()));
    return values;
  };
  device->Upload(x.data, ones.data(), 32);
  ASSERT_TRUE(device->BeginCapture());
  device->GatherRows(gather);
  EXPECT_EQ(device->Alloc(8).data(), nullptr);
  EXPECT_EQ(device->EndCapture(), 0u);
  EXPECT_EQ(outcome(), std::vector<float>(8, 0.0f)) << "nothing of it ran";

  ASSERT_TRUE(device->BeginCapture());
  device->GatherRows(gather);
  const uint64_t graph = device->EndCapture();
  ASSERT_NE(graph, 0u);
  EXPECT_EQ(outcome(), std::vector<float>(8, 0.0f)) << "captured, not run";
  device->Replay(graph);
  EXPECT_EQ(outcome(), ones);
  device->Upload(x.data, fives.data(), 32);
  device->Replay(graph);
  EXPECT_EQ(outcome(), fives);
}

}  // namespace
}  // namespace baram::testing
