// CpuDevice: opening it, what it supports, its memory and its steps.
#include "kernels/cpu/cpu_device.h"

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <optional>
#include <utility>
#include <variant>

#include "kernels/check.h"
#include "kernels/cpu/cpu_facts.h"
#include "kernels/cpu/gemm_select.h"
#include "kernels/cpu/host_advice.h"
#include "kernels/cpu/kv_layout.h"
#include "kernels/host_facts.h"
#include "kernels/rounding.h"
#include "kernels/shape_check.h"
#include "kernels/warn.h"

namespace baram::cpu {
namespace {

constexpr int64_t kHugePageBytes = int64_t{2} << 20;

const KernelTable& KernelsOf(Isa isa) {
  switch (isa) {
    case Isa::kAmx:
      return kAmxKernels;
    case Isa::kAvx512Bf16:
      return kAvx512Bf16Kernels;
    case Isa::kAvx512:
      return kAvx512Kernels;
    default:
      return kAvx2Kernels;
  }
}

// What the CPU's kernels require beyond consistent shapes.
std::string Limit(const EmbedArgs& args) {
  return args.table.shape.format.dtype != DType::kBF16 ? "Embed: the table is not bf16" : "";
}
std::string Limit(const NormArgs& args) {
  return IsStored(args.x.dtype) && IsStored(args.out.dtype)
             ? ""
             : "Norm: x or out is neither bf16 nor f32";
}
std::string Limit(const AddNormArgs& args) {
  if (args.residual.dtype != DType::kF32) return "AddNorm: the residual is not f32";
  return IsStored(args.branch.dtype) && IsStored(args.out.dtype)
             ? ""
             : "AddNorm: branch or out is neither bf16 nor f32";
}
std::string Limit(const GemmArgs& args) {
  if (args.a.dtype != DType::kBF16) return "Gemm: a is not bf16";
  if (args.weight.shape.format.dtype != DType::kBF16) return "Gemm: the weight is not bf16";
  if (args.weight.shape.k > kMaxGemmK) {
    return "Gemm: k is larger than " + std::to_string(kMaxGemmK);
  }
  return IsStored(args.out.dtype) ? "" : "Gemm: out is neither bf16 nor f32";
}
std::string Limit(const StoreKvArgs& args) {
  if (args.qkv.dtype != DType::kBF16) return "StoreKv: qkv is not bf16";
  return UnsupportedKv("StoreKv", args.pool.shape);
}
std::string Limit(const AttendArgs& args) {
  if (args.q.dtype != DType::kBF16 || args.out.dtype != DType::kBF16) {
    return "Attend: q or out is not bf16";
  }
  if (!(args.scale > 0)) return "Attend: the scale of the scores is not positive";
  return UnsupportedKv("Attend", args.pool.shape);
}
std::string Limit(const ActArgs& args) {
  return IsStored(args.gate_up.dtype) && IsStored(args.out.dtype)
             ? ""
             : "Act: gate_up or out is neither bf16 nor f32";
}
std::string Limit(const GatherRowsArgs&) { return ""; }
std::string Limit(const SampleArgs&) { return ""; }

// How long a waiting worker spins before it sleeps. Few workers share their processors with the
// front-end threads and sleep soon. Many workers cost the caller a microsecond each to wake, so
// they stay awake within a step and from one step to the next, even with one on every processor:
// the front-end threads are few and mostly idle, and preempt a worker that spins. But workers sleep
// soon if they would preempt each other or if spinning would use up a CPU quota.
std::chrono::nanoseconds SpinOf(int32_t workers, const HostFacts& host) {
  constexpr int32_t kManyWorkers = 8;
  const bool one_each =
      workers <= static_cast<int64_t>(host.processors.size()) && host.cpu_quota == 0;
  return workers >= kManyWorkers && one_each ? std::chrono::milliseconds(2)
                                             : std::chrono::microseconds(20);
}

struct Unmap {
  int64_t bytes;
  void operator()(void* memory) const { munmap(memory, bytes); }
};

}  // namespace

WorkerPool::Options PoolOptionsOf(const DeviceOptions& options, const HostFacts& host) {
  WorkerPool::Options pool;
  pool.workers = options.threads > 0 ? options.threads
                                     : std::min(host.default_threads, WorkerPool::kMaxWorkers);
  if (options.pin_threads && PinningProblem(host).empty()) pool.processors = host.processors;
  pool.spin = SpinOf(pool.workers, host);
  return pool;
}

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

std::string CpuDevice::Unsupported(const OpArgs& args) const {
  const std::string misfit = CheckShapes(args);
  if (!misfit.empty()) return misfit;
  return std::visit([](const auto& op) { return Limit(op); }, args);
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

namespace baram {

std::unique_ptr<Device> OpenCpuDevice(const DeviceOptions& options, std::string* error) {
  const Warn warn = OrStderr(options.warn);
  const cpu::CpuFacts facts = cpu::ReadCpuFacts();
  const HostFacts host = ReadHostFacts();
  const std::optional<cpu::Isa> isa = cpu::ChooseIsa(facts, options.isa, error);
  if (!isa) return nullptr;
  // AMX would multiply in its place.
  if (facts.best_isa < cpu::Isa::kAmx && !facts.bf16_problem.empty()) warn(facts.bf16_problem);
  if (options.threads < 0 || options.threads > cpu::WorkerPool::kMaxWorkers) {
    *error = "the cpu device takes 1 to " + std::to_string(cpu::WorkerPool::kMaxWorkers) +
             " threads, or 0 for its own choice";
    return nullptr;
  }
  const cpu::KernelTable& kernels = cpu::KernelsOf(*isa);
  cpu::WorkerPool::Options pool = cpu::PoolOptionsOf(options, host);
  pool.enter_thread = kernels.enter_thread;

  DeviceInfo info;
  info.name = "cpu";
  info.isa = kernels.isa;
  info.processor = facts.model + ", " + info.isa + ", " + std::to_string(pool.workers) +
                   (pool.workers == 1 ? " thread" : " threads");
  info.memory_bytes = host.memory_bytes;
  info.workers = pool.workers;
  info.matrix_units = kernels.gemm_form.tiles;
  info.processors = host.processors_at_once;
  info.activation = DType::kBF16;
  info.residual = DType::kF32;
  info.weights = Format{DType::kBF16};
  info.planning_depth = 1;
  info.exact = true;
  auto device = std::make_unique<cpu::CpuDevice>(std::move(info), kernels, pool);
  *error = device->Missing();
  if (!error->empty()) return nullptr;
  if (const std::string problem = cpu::PinningProblem(host);
      options.pin_threads && !problem.empty()) {
    warn(problem);
  }
  for (const std::string& sentence : cpu::HostAdvice(host)) warn(sentence);
  return device;
}

}  // namespace baram
