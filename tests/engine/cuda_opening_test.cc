// Opening an engine on the CUDA device, emulated: what can't work is refused with a sentence.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_device.h"
#include "tests/engine/rig.h"

namespace baram::testing {
namespace {

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

}  // namespace
}  // namespace baram::testing
