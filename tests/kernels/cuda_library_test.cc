// The CUDA device with a cuBLASLt that rejects products, as the emulation's can: our own kernels
// compute them, and the operator is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/emulation/emulator.h"
#include "kernels/cuda/emulation/streams.h"
#include "kernels/float_types.h"

namespace baram::cuda {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::unique_ptr<Device> Open() {
  std::string error;
  std::unique_ptr<Device> device = OpenCudaDevice({}, &error);
  EXPECT_NE(device, nullptr) << error;
  return device;
}
// A product of 2 m rows in which every sum is k.
struct Ones {
  Ones(Device& device, int64_t m)
      : rows(device.Alloc(2 * m * kK * 2)),
        weight(device.Alloc(device.PackedBytes({kN, kK, device.Info().weights}))),
        out(device.Alloc(2 * m * kN * 4)) {
    const std::vector<uint16_t> ones(std::max(2 * m, kN) * kK, BF16FromF32(1));
    device.Upload(rows.data(), ones.data(), rows.bytes());
    device.Upload(weight.data(), ones.data(), weight.bytes());
    args = {.a = DenseTensor(rows.data(), DType::kBF16, 2 * m, kK),
            .weight = {weight.data(), {kN, kK, device.Info().weights}},
            .out = DenseTensor(out.data(), DType::kBF16, 2 * m, kN)};
  }
  static constexpr int64_t kN = 64, kK = 32;
  Buffer rows, weight, out;
  GemmArgs args;
};

std::string WordsOf(const std::function<void()>& what) {
  ::testing::internal::CaptureStderr();
  what();
  return ::testing::internal::GetCapturedStderr();
}

TEST(CudaLibrary, DoesNotUseALibraryThatCantMultiply) {
  emulation::OfferCublasLt();
  emulation::RefuseProducts(true);
  std::unique_ptr<Device> device;
  EXPECT_THAT(WordsOf([&] { device = Open(); }),
              HasSubstr("cuda:0: cuBLASLt does not multiply here: the emulation refuses products; "
                        "long prompts will be slower"));
  emulation::RefuseProducts(false);
  const Ones ones(*device, 16);
  EXPECT_THAT(device->KernelOf(ones.args), StartsWith("mma"));
  EXPECT_EQ(WordsOf([&] { Open(); }), "");
}

TEST(CudaLibrary, SaysOnceWhatTheLibraryTurnsDown) {
  emulation::OfferCublasLt();
  const auto device = Open();
  Ones ones(*device, 16);
  EXPECT_EQ(device->KernelOf(ones.args), "cublaslt");
  emulation::RefuseProducts(true);
  const std::string words = WordsOf([&] { device->Gemm(ones.args); });
  EXPECT_THAT(words, HasSubstr("cuda:0: cuBLASLt does not compute Gemm"));
  EXPECT_THAT(words, HasSubstr("the emulation refuses products; it will be slower"));
  EXPECT_THAT(device->KernelOf(ones.args), StartsWith("mma"));
  uint16_t got = 0;
  device->Download(&got, ones.out.data(), sizeof(got));
  EXPECT_TRUE(device->Wait(device->Record()));
  EXPECT_EQ(F32FromBF16(got), Ones::kK);
  EXPECT_EQ(WordsOf([&] {
              device->Gemm(ones.args);
              ones.args.a.rows = ones.args.out.rows = 17;
              device->Gemm(ones.args);
            }),
            "");
  // A kind known to be rejected before it is queried, like other row counts of a kind that was.
  ones.args.out.dtype = DType::kF32;
  EXPECT_THAT(WordsOf([&] { device->Gemm(ones.args); }), HasSubstr("cuBLASLt does not compute"));
  EXPECT_EQ(WordsOf([&] { device->Gemm(ones.args); }), "");
  emulation::RefuseProducts(false);
}

// It is queried for algorithms with the row count rounded up: to 32 here. Its answer for the exact
// count, good or not, holds only for that count.
TEST(CudaLibrary, IsAskedOnceMoreWithTheVeryRows) {
  emulation::OfferCublasLt();
  const auto device = Open();
  Ones ones(*device, 16);
  emulation::RefuseOtherRows(true);
  const auto multiply = [&](int64_t rows) {
    const float zero = 0;
    device->Upload(ones.out.data(), &zero, sizeof(zero));
    ones.args.a.rows = ones.args.out.rows = rows;
    const std::string words = WordsOf([&] { device->Gemm(ones.args); });
    uint16_t got = 0;
    device->Download(&got, ones.out.data(), sizeof(got));
    EXPECT_TRUE(device->Wait(device->Record()));
    EXPECT_EQ(F32FromBF16(got), Ones::kK);
    return words;
  };
  EXPECT_EQ(multiply(17), "");
  EXPECT_EQ(device->KernelOf(ones.args), "cublaslt");
  EXPECT_EQ(multiply(17), "");
  emulation::RefuseProducts(true);
  EXPECT_THAT(multiply(19), HasSubstr("the emulation refuses products"));
  emulation::RefuseProducts(false);
  EXPECT_EQ(multiply(19), "");
  EXPECT_THAT(device->KernelOf(ones.args), StartsWith("mma"));
  for (int64_t rows : {17, 21, 32}) {
    EXPECT_EQ(multiply(rows), "");
    EXPECT_EQ(device->KernelOf(ones.args), "cublaslt") << rows;
  }
  emulation::RefuseOtherRows(false);
}

// A spoilt capture fails every later product in it: the library has rejected none of them.
TEST(CudaLibrary, IsNotBlamedForWhatFailsInACapture) {
  emulation::OfferCublasLt();
  const auto device = Open();
  Ones ones(*device, 16);
  std::string words;  // of the end of the capture
  const auto capture_refused = [&] {
    ASSERT_TRUE(device->BeginCapture());
    emulation::RefuseProducts(true);
    EXPECT_EQ(WordsOf([&] { device->Gemm(ones.args); }), "");
    emulation::RefuseProducts(false);
    words = WordsOf([&] { EXPECT_NE(device->EndCapture(), 0u); });
    EXPECT_EQ(device->KernelOf(ones.args), "cublaslt");
  };
  device->Gemm(ones.args);
  capture_refused();
  EXPECT_THAT(words, HasSubstr("captured as a graph: the emulation refuses products; it will be"));
  emulation::RefuseOtherRows(true);
  ones.args.a.rows = ones.args.out.rows = 17;
  device->Gemm(ones.args);  // now known by its exact row count
  capture_refused();
  EXPECT_EQ(words, "") << "it is told once";
  emulation::RefuseOtherRows(false);
}

// Its runtime is its own: ours knows only that the capture is lost.
TEST(CudaLibrary, SaysWhatSpoiltACapture) {
  emulation::OfferCublasLt();
  for (const bool launch_fails_before : {true, false}) {
    const auto device = Open();
    Ones ones(*device, 16);
    device->Gemm(ones.args);
    ASSERT_TRUE(device->BeginCapture());
    if (launch_fails_before) {
      emulation::FailLaunch(emulation::kNoMemory);
      device->Gemm(ones.args);
    }
    emulation::RefuseProducts(true);
    device->Gemm(ones.args);
    emulation::RefuseProducts(false);
    EXPECT_FALSE(emulation::AllowedNow());
    device->Gemm(ones.args);
    EXPECT_THAT(WordsOf([&] { EXPECT_EQ(device->EndCapture(), 0u); }),
                HasSubstr(std::string("can't be captured as a graph: ") +
                          (launch_fails_before ? "out of memory" : "the emulation refuses")));
    EXPECT_TRUE(device->Wait(device->Record())) << "nothing of it is left behind";
    ASSERT_TRUE(device->BeginCapture());
    device->Gemm(ones.args);
    EXPECT_EQ(WordsOf([&] { EXPECT_NE(device->EndCapture(), 0u); }), "");
  }
}

}  // namespace
}  // namespace baram::cuda
