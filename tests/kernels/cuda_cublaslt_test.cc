// cuBLASLt's products and those of our own tensor-core kernels, which substitute for it: on the
// same operands both are within what the op table allows. On a GPU, or with the emulation's
// stand-in for the library.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/check.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/gemm_select.h"
#include "kernels/cuda/launchers.h"
#include "kernels/float_types.h"
#include "tests/environment.h"
#include "tests/kernels/cuda_place.h"
#include "tests/kernels/op_families.h"
#include "tests/kernels/op_tolerance.h"

namespace baram::cuda {
namespace {

using testing::GemmCase;
using testing::OpCase;
using testing::Role;
using ::testing::StartsWith;

struct Gpu {
  CudaPlace place;
  testing::Family family;
  GpuFacts facts;
  std::string missing;  // not empty: why nothing can be compared here
  OwnedStream stream;
  DeviceMemory partials, arrived, workspace;
  std::unique_ptr<CublasLt> library;  // separate from the device's own

  testing::OpBed& bed() { return *family.beds.front().bed; }
  Device& device() { return *family.beds.front().device; }
};

Gpu& TheGpu() {
  static Gpu& gpu = *[] {
    auto* made = new Gpu;
    made->place = PrepareCudaPlace();
    const std::string requested = baram::testing::RequestedDevice();
    std::unique_ptr<Device> device =
        OpenDevice(requested.empty() ? "cuda" : requested,
                   {.overlap_kernels = baram::testing::KernelsOverlap()}, &made->missing);
    if (device == nullptr) return made;
    testing::OpBed::Limits limits;
    limits.gap_elements = 8;  // the library requires rows at multiples of 16 bytes
    limits.memory_bytes = int64_t{256} << 20;
    testing::AddBed(made->family, "cuda", std::move(device), limits);
    testing::AddRef(made->family, limits);
    const auto allocate = [](int64_t bytes, DeviceMemory* memory) {
      const Error error = MakeOwned(memory, [&](void** data) { return Allocate(bytes, data); });
      Check(error == nullptr, "there is memory for partial sums");
    };
    allocate(kSplitBytes, &made->partials);
    allocate(kMaxSplitTiles * sizeof(uint32_t), &made->arrived);
    allocate(CublasLt::kWorkspaceBytes, &made->workspace);
    Check(MakeOwned(&made->stream, CreateStream) == nullptr, "there is a stream");
    Check(ReadFacts(0, &made->facts) == nullptr, "the GPU says what it is");
    made->library = CublasLt::Open(made->workspace.get(), &made->missing);
    return made;
  }();
  return gpu;
}

std::vector<float> Fetch(Device& device, const Tensor& tensor) {
  const int64_t elements = (tensor.rows - 1) * tensor.stride + tensor.cols;
  std::vector<uint8_t> bytes(elements * DTypeBytes(tensor.dtype));
  device.Download(bytes.data(), tensor.data, std::ssize(bytes));
  EXPECT_TRUE(device.Wait(device.Record()));
  std::vector<float> values;
  for (int64_t r = 0; r < tensor.rows; ++r) {
    for (int64_t c = 0; c < tensor.cols; ++c) {
      values.push_back(LoadElement(bytes.data(), tensor.dtype, r * tensor.stride + c));
    }
  }
  return values;
}

void ExpectWithin(const std::vector<float>& got, const testing::Output& ref,
                  const std::vector<float>& tolerance) {
  ASSERT_EQ(got.size(), ref.values.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_LE(std::fabs(got[i] - ref.values[i]), tolerance[i])  // false for NaN
        << "[" << i / ref.cols << ", " << i % ref.cols << "] = " << got[i] << ", ref "
        << ref.values[i];
  }
}

OpCase Named(const GemmCase& c) {
  return {std::to_string(c.rows) + "x" + std::to_string(c.n) + "x" + std::to_string(c.k), c};
}

class CudaCublasLtTest : public ::testing::TestWithParam<GemmCase> {
 protected:
  void SetUp() override {
    if (!TheGpu().missing.empty()) GTEST_SKIP() << TheGpu().missing;
  }

  static GemmPlan PlanOf(const GemmArgs& args) {
    return SelectGemm(ProblemOf(args), {TheGpu().facts.multiprocessors, true});
  }
};

TEST_P(CudaCublasLtTest, AndOurKernelsAreWithinTheTablesTolerance) {
  Gpu& gpu = TheGpu();
  const GemmCase& c = GetParam();
  if (c.rows * c.n * c.k > gpu.place.most_products) GTEST_SKIP() << "too large to emulate";
  const OpCase op_case = Named(c);
  const testing::Outcome ref = gpu.family.ref->Run(op_case);
  const testing::Outcome magnitudes = gpu.family.ref->Run(op_case, {}, true);
  const auto tolerance = testing::Tolerance(op_case, gpu.family.types, ref, magnitudes, 0);
  testing::PreparedOp op = gpu.bed().Prepare(op_case);
  const auto& args = std::get<GemmArgs>(op.args);
  ASSERT_EQ(PlanOf(args).path, GemmPath::kCublasLt);
  if (PlanOf(args).fp32_rows == 0) {  // as is; otherwise the device has more to do
    SCOPED_TRACE("the library");
    ASSERT_EQ(gpu.library->Multiply(args, false, gpu.stream.get()), nullptr);
    ASSERT_EQ(Synchronize(gpu.stream.get()), nullptr);
    ASSERT_NO_FATAL_FAILURE(ExpectWithin(Fetch(gpu.device(), args.out), ref.outputs[0], tolerance));
    op = gpu.bed().Prepare(op_case);
  }
  testing::RunOp(gpu.device(), op.args);
  {
    SCOPED_TRACE("the device");
    // Otherwise it might silently compute what the library rejects.
    ASSERT_THAT(gpu.device().KernelOf(op.args), StartsWith("cublaslt"));
    ASSERT_NO_FATAL_FAILURE(ExpectWithin(Fetch(gpu.device(), args.out), ref.outputs[0], tolerance));
  }
  const GemmPlan own = SelectOwnGemm(ProblemOf(args), gpu.facts.multiprocessors);
  ASSERT_EQ(own.path, GemmPath::kMma);
  ASSERT_EQ(Fill(gpu.arrived.get(), 0, kMaxSplitTiles * sizeof(uint32_t), gpu.stream.get()),
            nullptr);
  const SplitMemory memory{static_cast<float*>(gpu.partials.get()),
                           static_cast<uint32_t*>(gpu.arrived.get())};
  LaunchGemmMma(args, own, memory, {gpu.stream.get(), baram::testing::KernelsOverlap()});
  ASSERT_EQ(Synchronize(gpu.stream.get()), nullptr);
  SCOPED_TRACE("our kernel");
  ExpectWithin(Fetch(gpu.device(), args.out), ref.outputs[0], tolerance);
}

INSTANTIATE_TEST_SUITE_P(
    Products, CudaCublasLtTest,
    ::testing::Values(GemmCase{.rows = 17, .n = 64, .k = 64},
                      GemmCase{.rows = 33, .n = 72, .k = 160, .out = Role::kResidual},
                      GemmCase{.rows = 70, .n = 72, .k = 160, .out = Role::kF32, .bias = true},
                      GemmCase{.rows = 40, .n = 136, .k = 96, .scale = 0.125f},
                      GemmCase{.rows = 256, .n = 72, .k = 64, .bias = true, .scale = 0.5f},
                      GemmCase{.rows = 300, .n = 264, .k = 72, .bias = true},
                      GemmCase{.rows = 600, .n = 1536, .k = 1024},
                      GemmCase{.rows = 2048, .n = 4608, .k = 512, .bias = true}),
    [](const auto& info) { return "Case" + std::to_string(info.index); });

// More rows than the memory for unrounded results holds: 256 of 32768 columns.
TEST_F(CudaCublasLtTest, LongResultsAreRoundedPartByPart) {
  Gpu& gpu = TheGpu();
  const OpCase op_case = Named({.rows = 300, .n = 32768, .k = 8, .bias = true});
  const testing::Outcome ref = gpu.family.ref->Run(op_case);
  const testing::Outcome magnitudes = gpu.family.ref->Run(op_case, {}, true);
  const testing::PreparedOp op = gpu.bed().Prepare(op_case);
  EXPECT_EQ(PlanOf(std::get<GemmArgs>(op.args)).fp32_rows, 150);
  const testing::Outcome got = gpu.bed().Run(op_case);
  EXPECT_EQ(got.broken, "");
  EXPECT_EQ(gpu.device().KernelOf(op.args), "cublaslt, rounded by 150 rows");
  ExpectWithin(got.outputs[0].values, ref.outputs[0],
               testing::Tolerance(op_case, gpu.family.types, ref, magnitudes, 0));
}

}  // namespace
}  // namespace baram::cuda
