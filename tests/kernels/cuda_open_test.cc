// Opening a GPU: what the driver, the binary and the operator's choice allow, and the error
// messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/cuda/open_cuda.h"

namespace baram::cuda {
namespace {

using ::testing::HasSubstr;

TEST(OpenCuda, SaysWhichDriverIsNeededAndWhichWasFound) {
  EXPECT_EQ(DriverProblem(13000, 13000, "580.65.06"), "");
  EXPECT_EQ(DriverProblem(13010, 13000, ""), "");
  EXPECT_EQ(DriverProblem(0, 13000, ""),
            "the cuda device needs an NVIDIA driver of release 580 or newer (CUDA 13.0); this "
            "machine has none");
  EXPECT_EQ(DriverProblem(12020, 13000, "535.104.05"),
            "the cuda device needs an NVIDIA driver of release 580 or newer (CUDA 13.0); this "
            "machine has 535.104.05 (CUDA 12.2)");
}

TEST(OpenCuda, SaysWhatMayHideTheGpus) {
  EXPECT_EQ(NoGpuProblem(nullptr), "the driver shows no GPU; CUDA_VISIBLE_DEVICES may hide them");
  EXPECT_EQ(NoGpuProblem("no CUDA-capable device is detected"),
            "the driver shows no GPU: no CUDA-capable device is detected; CUDA_VISIBLE_DEVICES may "
            "hide them");
}

// The name of the code that runs on a GPU of this compute capability, or why none does.
std::string Found(const std::string& list, int major, int minor) {
  const std::vector<Architecture> architectures = ParseArchitectures(list);
  GpuFacts facts;
  facts.name = "a GPU";
  facts.major = major;
  facts.minor = minor;
  std::string error;
  const Architecture* found = FindArchitecture(facts, architectures, &error);
  return found != nullptr ? found->name : error;
}

TEST(OpenCuda, RefusesAnArchitectureByName) {
  EXPECT_EQ(Found("90a-real", 9, 0), "sm_90a");
  EXPECT_EQ(Found("90a-real", 8, 0), "a GPU is of architecture sm_80; this binary has sm_90a");
  EXPECT_EQ(Found("90a-real,100a-real", 12, 0),
            "a GPU is of architecture sm_120; this binary has sm_90a, sm_100a");
}

TEST(OpenCuda, CodeServesLaterMinorVersionsUnlessItIsExact) {
  EXPECT_EQ(Found("90a-real,100a-real", 10, 0), "sm_100a");
  EXPECT_THAT(Found("90a-real,100a-real", 10, 3), HasSubstr("is of architecture sm_103"));
  EXPECT_EQ(Found("90a-real,100f-real", 10, 3), "sm_100f");
  EXPECT_EQ(Found("90a-real,100-real", 10, 3), "sm_100");
  EXPECT_EQ(Found("100-real,103a-real,100a-real", 10, 3), "sm_103a");
  EXPECT_EQ(Found("100-real,103a-real,100a-real", 10, 0), "sm_100a");
  EXPECT_THAT(Found("103-real", 10, 0), HasSubstr("is of architecture sm_100"));
  EXPECT_THAT(Found("90-virtual", 9, 0), HasSubstr("is of architecture sm_90"));
  EXPECT_EQ(Found("90", 9, 0), "sm_90");
}

TEST(OpenCuda, FindsGpusByIndexAndUuid) {
  std::vector<GpuFacts> gpus(2);
  gpus[0].name = gpus[1].name = "NVIDIA H200";
  gpus[0].uuid = "GPU-a";
  gpus[1].uuid = "GPU-b";
  std::string error;
  EXPECT_EQ(FindGpu("", gpus, &error), 0);
  EXPECT_EQ(FindGpu("1", gpus, &error), 1);
  EXPECT_EQ(FindGpu("GPU-b", gpus, &error), 1);
  for (const char* wrong : {"2", "-1", "1x", "GPU-c"}) {
    EXPECT_EQ(FindGpu(wrong, gpus, &error), -1);
    EXPECT_EQ(error, "there is no GPU \"" + std::string(wrong) +
                         "\"; this machine has 0 (GPU-a, NVIDIA H200), 1 (GPU-b, NVIDIA H200)");
  }
}

// A slice of a GPU, whether or not the runtime reports it as one.
TEST(OpenCuda, FindsSlicesOfGpusAsNvidiaSmiPrintsThem) {
  std::vector<GpuFacts> gpus(2);
  gpus[0].uuid = "GPU-c5f9a2ab-0a3d-5c1c-9c6c-52b7a0d6e3f1";
  gpus[1].uuid = "MIG-11ce6a47-2d5e-5d38-9d0c-3d1d40c5f8aa";
  std::string error;
  EXPECT_EQ(FindGpu("MIG-c5f9a2ab-0a3d-5c1c-9c6c-52b7a0d6e3f1", gpus, &error), 0);
  EXPECT_EQ(FindGpu("GPU-C5F9A2AB-0A3D-5C1C-9C6C-52B7A0D6E3F1", gpus, &error), 0);
  EXPECT_EQ(FindGpu("mig-11ce6a47-2d5e-5d38-9d0c-3d1d40c5f8aa", gpus, &error), 1);
  EXPECT_EQ(FindGpu("MIG-c5f9a2ab-0a3d-5c1c-9c6c-52b7a0d6e3f2", gpus, &error), -1);
  EXPECT_THAT(error, HasSubstr("1 (MIG-11ce6a47-"));
  EXPECT_EQ(FindGpu("MIG-", gpus, &error), -1);
}

}  // namespace
}  // namespace baram::cuda
