// CudaDevice over the emulation: captures that are refused, what is said of them and what goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulation/emulator.h"

namespace baram::cuda {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::unique_ptr<Device> Open() {
  std::string error;
  std::unique_ptr<Device> device = OpenCudaDevice({}, &error);
  EXPECT_NE(device, nullptr) << error;
  return device;
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

// The first tells what its launches asked for; from then on captures do without, nothing else does.
TEST(CudaCapture, AGraphWhoseKernelsOverlapIsTriedWithoutOnce) {
  const auto device = Open();
  emulation::RefuseOverlappingCaptures(true);
  const auto captures = [&] { return device->BeginCapture() && device->EndCapture() != 0; };
  ::testing::internal::CaptureStderr();
  EXPECT_FALSE(captures());
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("programmatic stream serialization"));
  EXPECT_TRUE(captures());
  EXPECT_TRUE(kernels_overlap);
  emulation::RefuseOverlappingCaptures(false);
  EXPECT_TRUE(device->Wait(device->Record()));
}

// Where a graph of theirs was captured before, overlap is not why: memory may be.
TEST(CudaCapture, ALaterRefusalTakesNoOverlapFromCaptures) {
  const auto device = Open();
  ASSERT_TRUE(device->BeginCapture());
  ASSERT_NE(device->EndCapture(), 0u);
  emulation::RefuseOverlappingCaptures(true);
  ::testing::internal::CaptureStderr();
  ASSERT_TRUE(device->BeginCapture());
  EXPECT_EQ(device->EndCapture(), 0u);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("can't be captured as a graph: invalid argument; it will be slower"),
                    Not(HasSubstr("programmatic stream serialization"))));
  emulation::RefuseOverlappingCaptures(false);
  ASSERT_TRUE(device->BeginCapture());
  EXPECT_TRUE(kernels_overlap);
  EXPECT_NE(device->EndCapture(), 0u);
  EXPECT_TRUE(device->Wait(device->Record()));
}

// What fails first in a capture is why, not that the capture fails with it.
TEST(CudaCapture, ARefusedCaptureNamesWhatSpoiltIt) {
  const auto device = Open();
  ASSERT_TRUE(device->BeginCapture());
  void* memory = nullptr;
  ASSERT_NE(Allocate(1, &memory), nullptr);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(device->EndCapture(), 0u);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("operation not permitted when stream is capturing"));
  EXPECT_TRUE(device->Wait(device->Record())) << "nothing of it is left behind";
}

}  // namespace
}  // namespace baram::cuda
