// The roofs of a device: of the host's processors, or of a GPU through its own Gemm.
#include "bench/roofs.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <vector>

#include "bench/host_roofs.h"
#include "bench/launch_time.h"
#include "bench/read_memory.h"
#include "kernels/check.h"
#include "kernels/float_types.h"

namespace baram::bench {
namespace {

// Defined by CMake: the function, or null if no GPU kernels are built.
constexpr double (*kReadGpuMemory)(const void*, int64_t, int) = BARAM_READ_GPU_MEMORY;

constexpr int kSamples = 5;
// Launches of a sample's first series; the second has twice as many. Clocks have time to rise.
constexpr int64_t kReads = 8;
constexpr int64_t kProducts = 8;
constexpr int64_t kFillRows = 64;

// Factors like a model's. Multiplying zeros takes less power, so that a GPU that throttles would
// seem faster than it is.
std::vector<uint16_t> RandomBf16(int64_t count) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> values(count);
  for (uint16_t& value : values) value = BF16FromF32(normal(random));
  return values;
}

}  // namespace

RoofMeter::RoofMeter(Device& device, const GpuRoofSizes& sizes)
    : device_(device), sizes_(sizes), is_gpu_(device.Info().name.starts_with("cuda")) {
  if (!is_gpu_) return;
  const int64_t n = sizes.gemm;
  read_ = device.Alloc(sizes.read_bytes);
  a_ = device.Alloc(n * n * DTypeBytes(device.Info().activation));
  weight_ = device.Alloc(device.PackedBytes({n, n, device.Info().weights}));
  out_ = device.Alloc(n * n * DTypeBytes(device.Info().activation));
  for (const Buffer* buffer : {&read_, &a_, &weight_, &out_}) {
    Check(buffer->data() != nullptr, "the GPU has memory for its roofs");
  }
  Check(device.Info().activation == DType::kBF16, "a GPU multiplies bf16");
  const std::vector<uint16_t> rows = RandomBf16(std::min(kFillRows, n) * n);
  const int64_t bytes = static_cast<int64_t>(rows.size() * sizeof(uint16_t));
  for (int64_t row = 0; row < n; row += kFillRows) {
    const int64_t count = std::min(kFillRows, n - row);
    device.Upload(static_cast<uint16_t*>(a_.data()) + row * n, rows.data(), bytes);
    device.PackWeight({n, n, device.Info().weights}, {rows.data(), DType::kBF16, count}, row,
                      weight_.data());
  }
}

Roofs RoofMeter::Measure() {
  const DeviceInfo& info = device_.Info();
  if (!is_gpu_) return MeasureHostRoofs(info.workers, info.isa);
  const std::string n = std::to_string(sizes_.gemm);
  Check(device_.Wait(device_.Record()), "the device is there");
  Roofs roofs{ReadBytesPerSecond(), GemmFlopsPerSecond(), ""};
  roofs.flops_unit = "gemm " + n + " x " + n + " x " + n + ", " + device_.KernelOf(Product());
  return roofs;
}

double RoofMeter::ReadBytesPerSecond() {
  const double seconds = MedianSecondsOfLaunch(kSamples, kReads, [&](int64_t reads) {
    const double taken = kReadGpuMemory(read_.data(), sizes_.read_bytes, static_cast<int>(reads));
    Check(taken > 0, "the GPU reads its memory");
    return taken;
  });
  return static_cast<double>(sizes_.read_bytes) / seconds;
}

GemmArgs RoofMeter::Product() const {
  const int64_t n = sizes_.gemm;
  const DType type = device_.Info().activation;
  return {.a = DenseTensor(a_.data(), type, n, n),
          .weight = {weight_.data(), {n, n, device_.Info().weights}},
          .out = DenseTensor(out_.data(), type, n, n)};
}

double RoofMeter::GemmFlopsPerSecond() {
  const auto n = static_cast<double>(sizes_.gemm);
  const GemmArgs args = Product();
  const double seconds = MedianSecondsOfLaunch(kSamples, kProducts, [&](int64_t products) {
    const auto begin = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < products; ++i) device_.Gemm(args);
    Check(device_.Wait(device_.Record()), "the GPU multiplies");
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  });
  return 2.0 * n * n * n / seconds;
}

Roofs Larger(const Roofs& a, const Roofs& b) {
  return {std::max(a.read_bytes_per_s, b.read_bytes_per_s), std::max(a.flops_per_s, b.flops_per_s),
          a.flops_unit};
}

}  // namespace baram::bench
