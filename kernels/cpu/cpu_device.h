// CpuDevice: the ops on x86-64 processors with AVX2, AVX-512 or AMX, in bf16 with fp32
// accumulation.
#ifndef BARAM_KERNELS_CPU_CPU_DEVICE_H_
#define BARAM_KERNELS_CPU_CPU_DEVICE_H_

#include <cstdint>
#include <string>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/sampler.h"
#include "kernels/cpu/worker_pool.h"
#include "kernels/device.h"
#include "kernels/slots.h"

namespace baram::cpu {

// Synchronous: an op is done when its call returns. Calls come from the executor thread, which is
// worker 0. Memory and steps are in cpu_device.cc; packing and Gemm in cpu_gemm.cc; StoreKv, Attend
// and the sizes of the cache in cpu_attend.cc; what is supported and the other ops in cpu_ops.cc.
class CpuDevice final : public Device {
 public:
  // May get fewer threads or less memory than it needs: check Missing before using the device.
  CpuDevice(DeviceInfo info, const KernelTable& kernels, const WorkerPool::Options& pool);

  // What the system did not provide, and what to change; empty if nothing is missing.
  std::string Missing() const;

  const DeviceInfo& Info() const override { return info_; }
  std::string Unsupported(const OpArgs& args) const override;
  int64_t KvBytesPerPage(const KvShape& shape) const override;
  int64_t AttendScratchBytes(const KvShape& shape, const SlotShape& slots) const override;
  int64_t PackedBytes(const WeightShape& shape) const override;
  void PackWeight(const WeightShape& shape, const HostRows& source, int64_t row_begin,
                  void* packed) override;

  Buffer Alloc(int64_t bytes) override;
  void Upload(void* device, const void* host, int64_t bytes) override;
  void Download(void* host, const void* device, int64_t bytes) override;

  DeviceUse OwnUse(const SlotShape& slots) const override;
  [[nodiscard]] bool ReserveSlots(const SlotShape& shape) override;
  StepView BeginStep(const StepInput& input) override;

  void Embed(const EmbedArgs& args) override;
  void Norm(const NormArgs& args) override;
  void AddNorm(const AddNormArgs& args) override;
  void Gemm(const GemmArgs& args) override;
  void StoreKv(const StoreKvArgs& args) override;
  void Attend(const AttendArgs& args) override;
  void Act(const ActArgs& args) override;
  void GatherRows(const GatherRowsArgs& args) override;
  void Sample(const SampleArgs& args) override;

 private:
  // Runs body(begin, end, worker) over [0, units) on all workers, in tasks of `grain` units.
  template <typename Body>
  void Run(int64_t units, int64_t grain, const Body& body) {
    const FlushDenormals scope(*kernels_);
    pool_.ParallelFor(units, grain, body);
  }
  // Likewise for a kernel of the table.
  template <typename Job>
  void Run(Kernel<Job> kernel, const Job& job, int64_t units, int64_t grain) {
    Run(units, grain,
        [&](int64_t begin, int64_t end, const Worker& worker) { kernel(job, begin, end, worker); });
  }

  // Sets the workers' floating-point mode on the executor thread for the duration of an op.
  class FlushDenormals {
   public:
    explicit FlushDenormals(const KernelTable& kernels);
    ~FlushDenormals();

   private:
    uint32_t saved_;
  };

  DeviceInfo info_;
  const KernelTable* kernels_;
  Buffer gemm_scratch_;  // kGemmScratchBytes: the packed rows of `a`
  SlotTable slots_;
  Sampler sampler_;
  WorkerPool pool_;  // last: its threads end before anything they use
};

}  // namespace baram::cpu

#endif  // BARAM_KERNELS_CPU_CPU_DEVICE_H_
