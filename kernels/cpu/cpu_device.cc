// CpuDevice: its memory and its steps.
#include "kernels/cpu/cpu_device.h"

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "kernels/check.h"
#include "kernels/cpu/gemm_select.h"
#include "kernels/rounding.h"

namespace baram::cpu {
namespace {

constexpr int64_t kHugePageBytes = int64_t{2} << 20;

struct Unmap {
  int64_t bytes;
  void operator()(void* memory) const { munmap(memory, bytes); }
};

}  // namespace

CpuDevice::FlushDenormals::FlushDenormals(const KernelTable& kernels) : saved_(_mm_getcsr()) {
  kernels.enter_thread();
}

CpuDevice::FlushDenormals::~FlushDenormals() { _mm_setcsr(saved_); }

CpuDevice::CpuDevice(DeviceInfo info, const KernelTable& kernels, const WorkerPool::Options& pool)
    : info_(std::move(info)), kernels_(&kernels), sampler_(kernels.sample), pool_(pool) {
  gemm_scratch_ = Alloc(kGemmScratchBytes);
}

std::string CpuDevice::Missing() const {
  if (pool_.workers() == 0 || gemm_scratch_.data() == nullptr) {
    return "the cpu device has no memory for the work space of " + std::to_string(info_.workers) +
           " threads: lower --threads, or raise the limit on memory (ulimit -v)";
  }
  if (pool_.workers() < info_.workers) {
    return "the cpu device could start only " + std::to_string(pool_.workers()) + " of " +
           std::to_string(info_.workers) +
           " threads: lower --threads below that, or raise the limit on threads (ulimit -u, a "
           "pod's pids) or on memory (ulimit -v)";
  }
  return "";
}

// Maps the memory, so that it is zeroed, and committed only when touched. Large allocations are
// aligned to huge pages and request them: streaming weights then takes one TLB entry per 2 MiB.
Buffer CpuDevice::Alloc(int64_t bytes) {
  const int64_t alignment = bytes >= kHugePageBytes ? kHugePageBytes : 0;
  const int64_t mapped = std::max<int64_t>(bytes, 1) + alignment;
  void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return {};
  std::shared_ptr<void> owner(memory, Unmap{mapped});
  if (alignment == 0) return {memory, bytes, std::move(owner)};
  void* aligned = reinterpret_cast<void*>(RoundUp(reinterpret_cast<int64_t>(memory), alignment));
  madvise(aligned, bytes, MADV_HUGEPAGE);  // best effort: without it, only slower
  return {aligned, bytes, std::move(owner)};
}

void CpuDevice::Upload(void* device, const void* host, int64_t bytes) {
  if (bytes > 0) std::memcpy(device, host, bytes);
}

void CpuDevice::Download(void* host, const void* device, int64_t bytes) {
  if (bytes > 0) std::memcpy(host, device, bytes);
}

DeviceUse CpuDevice::OwnUse(const SlotShape& slots) const {
  return {.state_bytes =
              SlotTable::Bytes(slots) + Sampler::Bytes(slots.vocab_size, pool_.workers())};
}

bool CpuDevice::ReserveSlots(const SlotShape& shape) {
  try {
    slots_.Reserve(shape);
    sampler_.Reserve(shape.vocab_size, pool_.workers());
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

StepView CpuDevice::BeginStep(const StepInput& input) {
  Check(input.padded_rows == 0, "steps are padded for devices with graphs only");
  return slots_.BeginStep(input);
}

}  // namespace baram::cpu
