// CudaDevice: the ops on NVIDIA GPUs, in bf16 with fp32 accumulation.
#ifndef BARAM_KERNELS_CUDA_CUDA_DEVICE_H_
#define BARAM_KERNELS_CUDA_CUDA_DEVICE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/algorithm_table.h"
#include "kernels/cuda/captures.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/gemm_select.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/step_attend_plans.h"
#include "kernels/cuda/step_block.h"
#include "kernels/cuda/step_upload.h"
#include "kernels/cuda/transfers.h"
#include "kernels/device.h"
#include "kernels/warn.h"

namespace baram::cuda {

// Asynchronous: everything runs on one stream in the order of the calls, which come from the
// executor thread. GPU errors are sticky: the first is reported, and every Wait from then on
// returns that the device is lost. Facts, memory and steps are in cuda_device.cc, Attend and the
// sizes of the cache in cuda_attend.cc, Gemm in cuda_gemm.cc, the other ops in cuda_ops.cc.
class CudaDevice final : public Device {
 public:
  // Reads overlap_kernels, shared_carveout, `warn` and `lost` of `options`.
  CudaDevice(int ordinal, const GpuFacts& facts, DeviceInfo info, const DeviceOptions& options);
  // Creates what the device needs before its first call. After an error it must not be used.
  Error Open();

  const DeviceInfo& Info() const override { return info_; }
  std::string Unsupported(const OpArgs& args) const override;
  int64_t KvBytesPerPage(const KvShape& shape) const override;
  int64_t AttendScratchBytes(const KvShape& shape, const SlotShape& slots) const override;
  DeviceUse OwnUse(const SlotShape& slots) const override;
  int64_t FreeBytes() const override;
  std::string KernelOf(const OpArgs& args) const override;
  int64_t PackedBytes(const WeightShape& shape) const override;
  void PackWeight(const WeightShape& shape, const HostRows& source, int64_t row_begin,
                  void* packed) override;

  Buffer Alloc(int64_t bytes) override;
  void Upload(void* device, const void* host, int64_t bytes) override;
  void Download(void* host, const void* device, int64_t bytes) override;
  uint64_t Record() override;
  [[nodiscard]] bool Wait(uint64_t mark) override;
  StepTime TimeOf(uint64_t mark) override;

  [[nodiscard]] bool ReserveSlots(const SlotShape& shape) override;
  StepView BeginStep(const StepInput& input) override;

  [[nodiscard]] bool BeginCapture() override;
  [[nodiscard]] uint64_t EndCapture() override;
  void Replay(uint64_t graph) override;
  bool GraphsOverlap() const override { return captures_.overlap_captured(); }

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
  // Marks that may be waited for at any time: the steps in flight and a few more.
  static constexpr uint64_t kMarks = 16;

  // Where ops are launched.
  LaunchStream Launches() const { return {stream_.get(), captures_.overlap(), carveout_}; }
  // What attention plans depend on.
  AttendDevice AttendFacts() const;
  // The sizes of step_block_'s two parts, see StepBlock::Reserve.
  int64_t BytesBelow(const SlotShape& slots) const;
  int64_t BytesAbove(const SlotShape& slots) const;

  Error OpenGemm();
  // Has the library compute a small product of known factors. Sets `problem` if the library is
  // unusable here.
  Error ProbeCublasLt(std::string* problem);
  static int64_t GemmBytes();  // of gemm_memory_
  // For blocks that share a tile, in gemm_memory_. Gemm, Attend and Sample use it in turn.
  SplitMemory SharedTiles() const;
  // If cuBLASLt is known to reject the product, sets `refusal` to the reason and plans for our own
  // kernels.
  GemmPlan PlanGemm(const GemmArgs& args, Error* refusal) const;
  // The part of a product that the library computes in one call, from row `begin` on.
  GemmArgs LibraryPart(const GemmArgs& args, const GemmPlan& plan, int64_t begin) const;
  // Not null: why the library rejected a part of it; the whole product must be computed again.
  Error GemmByLibrary(const GemmArgs& args, const GemmPlan& plan);

  // Remembers the first error.
  void Note(Error error);
  // Reports, once per kind of product, why the library does not compute it.
  void NoteRefusedProduct(const GemmArgs& args, Error refusal);

  const int ordinal_;
  const GpuFacts facts_;
  DeviceInfo info_;
  const Warn warn_, lost_;
  const bool carveout_;
  std::atomic<Error> error_ = nullptr;
  OwnedStream stream_;
  std::array<OwnedEvent, kMarks> marks_;
  // Where the ops of a step begin, and the mark that ends the step; 0: none.
  struct Beginning {
    OwnedEvent event;
    uint64_t mark = 0;
  };
  std::array<Beginning, kMarks> beginnings_;
  uint64_t next_mark_ = 1;
  Downloads downloads_;
  WeightStaging weights_;
  DeviceMemory gemm_memory_;
  std::unique_ptr<CublasLt> cublaslt_;  // null: this machine has none
  std::vector<ProductKind> told_refusals_;
  StepBlock step_block_;
  StepAttendPlans attend_plans_;
  StepUpload steps_;
  Captures captures_;
};

}  // namespace baram::cuda

namespace baram {

// What this binary's kernels are compiled for: "sm_90a, sm_100a".
std::string CudaArchitectures();

// See OpenDevice. `options.which` is an index or a UUID as nvidia-smi prints it; empty: the first
// GPU.
std::unique_ptr<Device> OpenCudaDevice(const DeviceOptions& options, std::string* error);

}  // namespace baram

#endif  // BARAM_KERNELS_CUDA_CUDA_DEVICE_H_
