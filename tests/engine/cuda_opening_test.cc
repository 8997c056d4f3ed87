// An engine on the emulated CUDA device: what can't work is refused with a sentence when it is
// opened, and what fails later ends what runs.
#include <set>

#include "engine/open.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulation/emulator.h"
#include "kernels/cuda/emulation/streams.h"
#include "tests/engine/rig.h"

namespace baram::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

EngineConfig OpeningConfig() {
  EngineConfig config = SmallConfig();
  config.kv_cache_bytes = 1 << 20;
  return config;
}

absl::Status OpenEngine(const EngineConfig& config) {
  std::string error;
  std::unique_ptr<Device> device = OpenCudaDevice({}, &error);
  if (device == nullptr) return absl::InvalidArgumentError(error);
  return OpenRandomModel(config, TinySpec({0, 40}), std::move(device), /*seed=*/1).status();
}

TEST(CudaOpening, PagesTooSmallForItsKernelsAreRefused) {
  EngineConfig config = OpeningConfig();
  for (const int32_t page_tokens : {1, 2, 4, 8}) {
    config.page_tokens = page_tokens;
    const absl::Status status = OpenEngine(config);
    EXPECT_TRUE(absl::IsUnimplemented(status)) << page_tokens << ": " << status;
    EXPECT_THAT(status.message(), HasSubstr("pages hold fewer than 16 tokens"));
  }
  config.page_tokens = 16;
  EXPECT_TRUE(OpenEngine(config).ok());
}

// Loading a kernel stalls a step. These heads use attention kernels for rows of one token, of two,
// of up to sixteen and of more, which no other test of this program does.
TEST(CudaOpening, StepsThatMixDecodesAndChunksMeetNoNewKernel) {
  ModelSpec spec = TinySpec({0});
  spec.head = {.heads = 1, .kv_heads = 1, .head_dim = 128};
  spec.ropes = {{.rotary_dim = 128}};
  EngineConfig config = OpeningConfig();
  config.max_num_seqs = 64;
  config.max_num_batched_tokens = 64;
  std::string error;
  EngineRig rig(spec, OpenCudaDevice({}, &error), config);
  const int met = cuda::emulation::KernelsMet();
  EXPECT_GT(met, 0);
  for (const int32_t prompt : {1, 2, 7, 30}) {
    rig.Submit(MakeRequest(RandomPrompt(prompt, prompt), 4));
    rig.Turn();
  }
  ASSERT_TRUE(rig.Finish());
  EXPECT_EQ(cuda::emulation::KernelsMet(), met);
}

// Whichever allocation fails, on the GPU or pinned: the result is a sentence, not a crash or a lost
// device.
TEST(CudaOpening, NoMemoryIsAnAnswer) {
  std::set<std::string> refused;  // the words after "no memory for"
  int n = 1;
  for (;; ++n) {
    SCOPED_TRACE("allocation " + std::to_string(n));
    cuda::emulation::FailAllocation(n);
    const absl::Status status = OpenEngine(OpeningConfig());
    const bool failed = cuda::emulation::AllocationFailed();
    cuda::emulation::FailAllocation(0);
    if (!failed) {
      EXPECT_TRUE(status.ok()) << status;
      break;
    }
    ASSERT_FALSE(status.ok());
    const std::string message(status.message());
    if (absl::IsResourceExhausted(status)) {
      constexpr std::string_view kWords = "has no memory for ";
      const size_t at = message.find(kWords);
      ASSERT_NE(at, std::string::npos) << message;
      refused.insert(message.substr(at + kWords.size(), 9));
      EXPECT_EQ(cuda::LastError(), nullptr) << "the next mark would take it for a lost device";
    } else {
      EXPECT_EQ(message, "GPU 0 can't be used: out of memory");
      cuda::LastError();
    }
  }
  EXPECT_GT(n, 20);
  EXPECT_THAT(refused, ElementsAre("a KV cach", "the activ", "the state", "the weigh"));
}

TEST(CudaLoss, AFailedLaunchEndsWhatRunsAsUnavailable) {
  std::vector<std::string> lost;
  DeviceOptions options;
  options.lost = [&lost](const std::string& sentence) { lost.push_back(sentence); };
  std::string error;
  EngineRig rig(TinySpec({0, 40}), OpenCudaDevice(options, &error), OpeningConfig());
  Client* client = rig.Submit(MakeRequest(RandomPrompt(1, 20), 9));
  do {
    rig.Turn();
  } while (rig.sequence(*client).output_tokens() == 0);
  cuda::emulation::FailLaunch(cuda::emulation::kInvalid);
  ASSERT_TRUE(rig.Finish(20));
  EXPECT_FALSE(rig.core().alive());
  EXPECT_EQ(client->outputs[0].finish().reason, FinishReason::kFailed);
  EXPECT_TRUE(client->outputs[0].finish().unavailable);
  EXPECT_THAT(lost, ElementsAre("cuda:0 is lost: invalid argument"));
}

}  // namespace
}  // namespace baram::testing
