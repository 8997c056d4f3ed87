// TraceDevice: runs the forward pass without computing. Records every op and asks the device that
// is to run it whether it can (I12), before any weight is loaded.
#ifndef BARAM_KERNELS_TRACE_TRACE_DEVICE_H_
#define BARAM_KERNELS_TRACE_TRACE_DEVICE_H_

#include <string>
#include <vector>

#include "kernels/device.h"

namespace baram {

// Reports the info, sizes and support of `target`, which must outlive it. One thread.
//
// Alloc gives addresses that are aligned, distinct and not null, so that code which tells "present"
// from "absent" by a pointer takes its usual path; they must not be dereferenced. Upload and
// PackWeight ignore their data, Download writes zeros. BeginStep returns the step's counts and null
// arrays.
class TraceDevice final : public Device {
 public:
  // The ops of one description, which share one answer.
  struct Entry {
    std::string description;  // OpDescription
    std::string unsupported;  // the target's sentence; empty: supported
    bool is_product = false;  // a Gemm
    int64_t count = 0;
    OpCost cost;  // of one call; Attend without its context
  };

  explicit TraceDevice(const Device& target) : target_(target) {}

  // In the order of their first call.
  const std::vector<Entry>& Entries() const { return entries_; }
  // What the target can't run, one sentence per line; empty if it can run everything.
  std::string UnsupportedSentences() const;

  const DeviceInfo& Info() const override { return target_.Info(); }
  std::string Unsupported(const OpArgs& args) const override { return target_.Unsupported(args); }
  int64_t KvBytesPerPage(const KvShape& shape) const override {
    return target_.KvBytesPerPage(shape);
  }
  int64_t AttendScratchBytes(const KvShape& shape, const SlotShape& slots) const override {
    return target_.AttendScratchBytes(shape, slots);
  }
  int64_t PackedBytes(const WeightShape& shape) const override {
    return target_.PackedBytes(shape);
  }
  void PackWeight(const WeightShape&, const HostRows&, int64_t, void*) override {}

  Buffer Alloc(int64_t bytes) override;
  void Upload(void*, const void*, int64_t) override {}
  void Download(void* host, const void* device, int64_t bytes) override;

  [[nodiscard]] bool ReserveSlots(const SlotShape& shape) override {
    slots_ = shape;
    return true;
  }
  StepView BeginStep(const StepInput& input) override;

  void Embed(const EmbedArgs& args) override { Record(args); }
  void Norm(const NormArgs& args) override { Record(args); }
  void AddNorm(const AddNormArgs& args) override { Record(args); }
  void Gemm(const GemmArgs& args) override { Record(args); }
  void StoreKv(const StoreKvArgs& args) override { Record(args); }
  void Attend(const AttendArgs& args) override { Record(args); }
  void Act(const ActArgs& args) override { Record(args); }
  void GatherRows(const GatherRowsArgs& args) override { Record(args); }
  void Sample(const SampleArgs& args) override { Record(args); }

 private:
  using Device::Record;
  void Record(const OpArgs& args);

  const Device& target_;
  SlotShape slots_;
  uintptr_t next_address_ = uintptr_t{1} << 20;
  std::vector<Entry> entries_;
};

}  // namespace baram

#endif  // BARAM_KERNELS_TRACE_TRACE_DEVICE_H_
