// Opening the CPU device: its kernels, its threads, and what is wrong with the host.
#include "kernels/cpu/open_cpu.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/cpu_facts.h"
#include "kernels/cpu/host_advice.h"
#include "kernels/cpu/kernel_table.h"

namespace baram::cpu {
namespace {

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

DeviceInfo InfoOf(const CpuFacts& facts, const HostFacts& host, const KernelTable& kernels,
                  int32_t workers) {
  DeviceInfo info;
  info.name = "cpu";
  info.isa = kernels.isa;
  info.processor = facts.model + ", " + info.isa + ", " + std::to_string(workers) +
                   (workers == 1 ? " thread" : " threads");
  info.memory_bytes = host.memory_bytes;
  info.free_bytes = host.free_bytes;
  info.workers = workers;
  info.matrix_units = kernels.gemm_form.tiles;
  info.processors = host.processors_at_once;
  info.activation = DType::kBF16;
  info.residual = DType::kF32;
  info.weights = Format{DType::kBF16};
  info.planning_depth = 1;
  info.exact = true;
  return info;
}

// Tells the operator what is slower than it could be.
void Advise(const CpuFacts& facts, const HostFacts& host, bool pin_threads, const Warn& warn) {
  // AMX would multiply in its place.
  if (facts.best_isa < Isa::kAmx && !facts.bf16_problem.empty()) warn(facts.bf16_problem);
  const std::string problem = pin_threads ? PinningProblem(host) : "";
  if (!problem.empty()) warn(problem);
  for (const std::string& sentence : HostAdvice(host)) warn(sentence);
}

}  // namespace

WorkerPool::Options PoolOptionsOf(const DeviceOptions& options, const HostFacts& host) {
  WorkerPool::Options pool;
  pool.workers = options.threads > 0 ? options.threads
                                     : std::min(host.default_threads, WorkerPool::kMaxWorkers);
  if (options.pin_threads && PinningProblem(host).empty()) pool.processors = host.processors;
  pool.spin = SpinOf(pool.workers, host);
  return pool;
}

}  // namespace baram::cpu

namespace baram {

std::unique_ptr<Device> OpenCpuDevice(const DeviceOptions& options, std::string* error) {
  const cpu::CpuFacts facts = cpu::ReadCpuFacts();
  const HostFacts host = ReadHostFacts();
  const std::optional<cpu::Isa> isa = cpu::ChooseIsa(facts, options.isa, error);
  if (!isa) return nullptr;
  if (options.threads < 0 || options.threads > cpu::WorkerPool::kMaxWorkers) {
    *error = "the cpu device takes 1 to " + std::to_string(cpu::WorkerPool::kMaxWorkers) +
             " threads, or 0 for its own choice";
    return nullptr;
  }
  const cpu::KernelTable& kernels = cpu::KernelsOf(*isa);
  cpu::WorkerPool::Options pool = cpu::PoolOptionsOf(options, host);
  pool.enter_thread = kernels.enter_thread;
  auto device = std::make_unique<cpu::CpuDevice>(cpu::InfoOf(facts, host, kernels, pool.workers),
                                                 kernels, pool);
  *error = device->Missing();
  if (!error->empty()) return nullptr;
  cpu::Advise(facts, host, options.pin_threads, OrStderr(options.warn));
  return device;
}

}  // namespace baram
