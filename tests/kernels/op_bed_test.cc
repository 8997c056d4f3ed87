// Laying cases out for timing: values that resemble a model's, wherever an op reads, at the cost of
// one small upload.
#include "tests/kernels/op_bed.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "kernels/float_types.h"

namespace baram::testing {
namespace {

std::unique_ptr<Device> OpenCpu() {
  std::string error;
  std::unique_ptr<Device> device = OpenDevice("cpu", {.threads = 2}, &error);
  EXPECT_NE(device, nullptr) << error;
  return device;
}

OpBed::Limits TimingLimits() {
  OpBed::Limits limits;
  limits.gap_elements = 8;
  limits.for_timing = true;
  return limits;
}

// Zeros and denormals are multiplied at a different speed, and with less power, than a model's
// values.
void ExpectRandomLooking(Device& device, const void* data, int64_t bytes, DType type) {
  std::vector<uint8_t> host(bytes);
  device.Download(host.data(), data, bytes);
  std::set<float> different;
  double squares = 0;
  const int64_t count = bytes / DTypeBytes(type);
  for (int64_t i = 0; i < count; ++i) {
    const float value = LoadElement(host.data(), type, i);
    ASSERT_TRUE(std::isnormal(value)) << i << ": " << value;
    squares += double{value} * value;
    different.insert(value);
  }
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(count)), 1.0, 0.05);
  EXPECT_GT(different.size(), 500u);
}

TEST(OpBedForTiming, LaysOutProductsLikeAModels) {
  const auto device = OpenCpu();
  OpBed bed(*device, TypesOf(device->Info()), TimingLimits());
  // A weight with more elements than are drawn, and not a multiple of that.
  const PreparedOp gemm = bed.Prepare({"Gemm", GemmCase{.rows = 3, .n = 1088, .k = 1024}});
  const auto& product = std::get<GemmArgs>(gemm.args);
  const WeightShape& shape = product.weight.shape;
  ExpectRandomLooking(*device, product.weight.data, device->PackedBytes(shape), shape.format.dtype);
  ExpectRandomLooking(*device, product.a.data,
                      product.a.rows * product.a.stride * DTypeBytes(product.a.dtype),
                      product.a.dtype);
  RunOp(*device, gemm.args);
}

// On a fresh device: no other case has left values where the cache is.
TEST(OpBedForTiming, FillsCachesToTheirEnd) {
  const auto device = OpenCpu();
  OpBed bed(*device, TypesOf(device->Info()), TimingLimits());
  const PreparedOp attend =
      bed.Prepare({"Attend", AttendCase{{4, 2, 64}, 32, {{1900, 1}, {1023, 1}}}});
  const KvPool& pool = std::get<AttendArgs>(attend.args).pool;
  ExpectRandomLooking(*device, pool.data, pool.page_bytes * pool.pages, device->Info().activation);
  RunOp(*device, attend.args);
}

TEST(OpBedForTiming, PutsBackWhatAnOpOverwrites) {
  const auto device = OpenCpu();
  OpBed bed(*device, TypesOf(device->Info()), TimingLimits());
  const PreparedOp op = bed.Prepare({"AddNorm", AddNormCase{.rows = 5, .d = 256}});
  const Tensor& residual = std::get<AddNormArgs>(op.args).residual;
  const auto values = [&] {
    std::vector<float> host(residual.rows * residual.stride);
    device->Download(host.data(), residual.data, std::ssize(host) * int64_t{sizeof(float)});
    return host;
  };
  const std::vector<float> before = values();
  RunOp(*device, op.args);
  EXPECT_NE(values(), before);
  op.restore();
  EXPECT_EQ(values(), before);
}

// Whole rows, and a partial one.
TEST(DeviceCopyTest, CopiesEveryByteAndNoMore) {
  const auto device = OpenCpu();
  DeviceCopy copy(*device);
  constexpr int64_t kCount = (64 << 10) + 4321;
  std::vector<int32_t> values(kCount);
  for (int64_t i = 0; i < kCount; ++i) values[i] = static_cast<int32_t>(i + 1);
  const int64_t bytes = kCount * int64_t{sizeof(int32_t)};
  const Buffer from = device->Alloc(bytes);
  const Buffer to = device->Alloc(bytes + 4);
  device->Upload(from.data(), values.data(), bytes);
  copy.Copy(to.data(), from.data(), bytes);
  std::vector<int32_t> got(kCount + 1);
  device->Download(got.data(), to.data(), bytes + 4);
  values.push_back(0);
  EXPECT_EQ(got, values);
}

}  // namespace
}  // namespace baram::testing
