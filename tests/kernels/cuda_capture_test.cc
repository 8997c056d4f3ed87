// CudaDevice on the emulation: captures that are refused, what is logged about them and what
// happens next.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/captures.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulation/emulator.h"
#include "kernels/cuda/emulation/streams.h"

namespace baram::cuda {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::unique_ptr<Device> Open(bool overlap = true) {
  DeviceOptions options;
  options.overlap_kernels = overlap;
  std::string error;
  std::unique_ptr<Device> device = OpenCudaDevice(options, &error);
  EXPECT_NE(device, nullptr) << error;
  return device;
}

TEST(CudaCapture, TheOperatorIsToldWhereTheOptionsSay) {
  std::vector<std::string> told;
  DeviceOptions options;
  options.warn = [&told](const std::string& sentence) { told.push_back(sentence); };
  std::string error;
  const std::unique_ptr<Device> device = OpenCudaDevice(options, &error);
  ASSERT_NE(device, nullptr) << error;
  told.clear();  // what opening logged
  ::testing::internal::CaptureStderr();
  emulation::RefuseCaptures(true);
  EXPECT_FALSE(device->BeginCapture());
  emulation::RefuseCaptures(false);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_THAT(told, ElementsAre(HasSubstr("cuda:0: a step can't be captured as a graph: ")));
}

// Captures one kernel, which is not run. False if that is refused.
bool CapturesAKernel(Device& device) {
  if (!device.BeginCapture()) return false;
  const Tensor row = DenseTensor(nullptr, DType::kF32, 1, 8);
  device.Norm({.x = row, .out = row});
  return device.EndCapture() != 0;
}

TEST(CudaCapture, ARefusedCaptureIsNoLostDevice) {
  const auto device = Open();
  emulation::RefuseCaptures(true);
  EXPECT_FALSE(device->BeginCapture());
  emulation::RefuseCaptures(false);
  const Buffer memory = device->Alloc(4);
  const int32_t value = 41;
  device->Upload(memory.data(), &value, sizeof(value));
  int32_t got = 0;
  device->Download(&got, memory.data(), sizeof(got));
  EXPECT_TRUE(device->Wait(device->Record()));
  EXPECT_EQ(got, 41);
  ASSERT_TRUE(device->BeginCapture());
  EXPECT_NE(device->EndCapture(), 0u);
}

// The first capture reports what its launches requested; the next does without overlap.
TEST(CudaCapture, AGraphWhoseKernelsOverlapIsTriedWithoutOnce) {
  for (const Error error : {emulation::kInvalid, emulation::kNotSupported, "unknown error"}) {
    const auto device = Open();
    emulation::RefuseOverlappingCaptures(error);
    ::testing::internal::CaptureStderr();
    EXPECT_FALSE(CapturesAKernel(*device));
    EXPECT_THAT(::testing::internal::GetCapturedStderr(),
                AllOf(HasSubstr("programmatic stream serialization"), HasSubstr(error)));
    EXPECT_TRUE(CapturesAKernel(*device));
    emulation::RefuseOverlappingCaptures(nullptr);
    EXPECT_FALSE(device->GraphsOverlap());
    EXPECT_TRUE(device->Wait(device->Record()));
  }
}

// What fails in both ways is not overlap's fault.
TEST(CudaCapture, OverlapIsClearedByACaptureThatFailsWithoutIt) {
  const auto device = Open();
  const Tensor row = DenseTensor(nullptr, DType::kF32, 1, 8);
  for (int attempt = 0; attempt < 2; ++attempt) {
    ASSERT_TRUE(device->BeginCapture());
    device->Norm({.x = row, .out = row});
    EXPECT_FALSE(emulation::AllowedNow());
    EXPECT_EQ(device->EndCapture(), 0u);
  }
  EXPECT_TRUE(CapturesAKernel(*device));
  EXPECT_TRUE(device->GraphsOverlap());
}

TEST(CudaCapture, ALackOfMemoryTakesNoOverlapFromCaptures) {
  const auto device = Open();
  emulation::RefuseOverlappingCaptures(emulation::kNoMemory);
  ::testing::internal::CaptureStderr();
  EXPECT_FALSE(CapturesAKernel(*device));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("can't be captured as a graph: out of memory; it will be slower"));
  EXPECT_FALSE(CapturesAKernel(*device)) << "its kernels overlap no more";
  EXPECT_FALSE(device->GraphsOverlap());
  emulation::RefuseOverlappingCaptures(nullptr);
  EXPECT_TRUE(CapturesAKernel(*device));
  EXPECT_TRUE(device->GraphsOverlap());
  EXPECT_TRUE(device->Wait(device->Record()));
}

// If a graph with overlap was captured before, overlap is not the reason: memory may be.
TEST(CudaCapture, ALaterRefusalTakesNoOverlapFromCaptures) {
  const auto device = Open();
  ASSERT_TRUE(CapturesAKernel(*device));
  emulation::RefuseOverlappingCaptures(emulation::kInvalid);
  ::testing::internal::CaptureStderr();
  EXPECT_FALSE(CapturesAKernel(*device));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("can't be captured as a graph: invalid argument; it will be slower"),
                    Not(HasSubstr("programmatic stream serialization"))));
  EXPECT_FALSE(CapturesAKernel(*device)) << "its kernels overlap no more";
  emulation::RefuseOverlappingCaptures(nullptr);
  EXPECT_TRUE(CapturesAKernel(*device));
  EXPECT_TRUE(device->Wait(device->Record()));
}

TEST(CudaCapture, KernelsOverlapOnTheDevicesThatWereAskedTo) {
  const auto device = Open();
  const auto plain = Open(false);
  emulation::RefuseOverlappingCaptures(emulation::kInvalid);
  EXPECT_FALSE(CapturesAKernel(*device));
  EXPECT_TRUE(CapturesAKernel(*plain));
  EXPECT_FALSE(plain->GraphsOverlap());
  emulation::RefuseOverlappingCaptures(nullptr);
}

TEST(CudaCapture, KernelsOverlapWithoutTheCarveoutWhereThatIsAskedFor) {
  for (const bool carveout : {true, false}) {
    DeviceOptions options;
    options.shared_carveout = carveout;
    std::string error;
    const std::unique_ptr<Device> device = OpenCudaDevice(options, &error);
    ASSERT_NE(device, nullptr) << error;
    EXPECT_TRUE(CapturesAKernel(*device));
    EXPECT_TRUE(device->GraphsOverlap());
    EXPECT_TRUE(emulation::LastLaunch().overlap);
    EXPECT_EQ(emulation::LastLaunch().carveout, carveout);
  }
}

TEST(CudaCapture, OnlyCapturesGiveOverlapUp) {
  OwnedStream stream;
  ASSERT_EQ(MakeOwned(&stream, CreateStream), nullptr);
  Captures captures("a GPU", true, OrStderr({}));
  emulation::RefuseOverlappingCaptures(emulation::kInvalid);
  ASSERT_TRUE(captures.Begin(stream.get()));
  EXPECT_TRUE(captures.overlap());
  emulation::EnqueueLaunch({stream.get(), captures.overlap()}, [] {});
  EXPECT_EQ(captures.End(stream.get()), 0u);
  emulation::RefuseOverlappingCaptures(nullptr);
  EXPECT_TRUE(captures.overlap());
  ASSERT_TRUE(captures.Begin(stream.get()));
  EXPECT_FALSE(captures.overlap());
  EXPECT_NE(captures.End(stream.get()), 0u);
  EXPECT_TRUE(captures.overlap());
}

// All launches after the first that fails say only that the capture is lost.
TEST(CudaCapture, ALaunchThatFindsNoMemoryTakesNoOverlapFromCaptures) {
  const auto device = Open();
  ASSERT_TRUE(device->BeginCapture());
  emulation::FailLaunch(emulation::kNoMemory);
  const Tensor row = DenseTensor(nullptr, DType::kF32, 1, 8);
  for (int i = 0; i < 3; ++i) device->Norm({.x = row, .out = row});
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(device->EndCapture(), 0u);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("can't be captured as a graph: out of memory; it will be slower"));
  EXPECT_TRUE(CapturesAKernel(*device));
  EXPECT_TRUE(device->GraphsOverlap());
  EXPECT_TRUE(device->Wait(device->Record())) << "nothing of it is left behind";
}

// The first failure in a capture is the reason, not the failure of the capture itself.
TEST(CudaCapture, ARefusedCaptureNamesWhatSpoiltIt) {
  const auto device = Open();
  ASSERT_TRUE(device->BeginCapture());
  void* memory = nullptr;
  ASSERT_NE(Allocate(1, &memory), nullptr);
  const Tensor row = DenseTensor(nullptr, DType::kF32, 1, 8);
  device->Norm({.x = row, .out = row});
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(device->EndCapture(), 0u);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("operation not permitted when stream is capturing"));
  EXPECT_TRUE(device->Wait(device->Record())) << "nothing of it is left behind";
}

}  // namespace
}  // namespace baram::cuda
