// FakeDevice: a device whose tokens prove that the engine did its work, without computing a model.
//
// StoreKv writes (token id, position) into the pages; Attend hashes what the page tables reach
// within the window; Sample's token is a pure function of that hash, the seed, the output index,
// the penalty counts and the biased ids. So a token is a pure function of (prompt, outputs so far,
// seed) when every page is right, and a different one as soon as a page is wrong, stale or freed
// too early. All other ops do nothing. A graph is the list of these ops with the arguments they
// were captured with.
//
// Aborts if a step violates a rule of step.h that other devices do not check: two inits of a slot,
// two deltas of an entry.
#ifndef BARAM_KERNELS_FAKE_FAKE_DEVICE_H_
#define BARAM_KERNELS_FAKE_FAKE_DEVICE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "kernels/device.h"
#include "kernels/slots.h"

namespace baram {

struct FakeOptions {
  // 2: results become visible only at Wait; until then their memory holds garbage.
  int32_t planning_depth = 1;
  bool graphs = false;        // see DeviceInfo
  int32_t fail_captures = 0;  // how many of the first captures fail; -1: all
  int32_t page_tokens = 4;
  int32_t workers = 1;        // see DeviceInfo; the device has none
  bool matrix_units = false;  // see DeviceInfo
  int64_t memory_bytes = int64_t{1} << 34;
  // Whether it has memory of its own, how much of it is free, and how much the device itself uses.
  bool own_memory = false;
  int64_t free_bytes = 0;
  DeviceUse own_use = {};
  int64_t alloc_multiple = 1;
  // Rows whose hash mod this is 1 are non-finite; the warm-up's, of hash 0, never are. 0: none.
  uint64_t nonfinite_divisor = 0;
  // Wait fails from this mark on, counted from 1; 0: never. The warm-up step is the first.
  uint64_t lost_at = 0;
  // Called by every Attend, if set, so that a test can hold a step inside a layer.
  std::function<void()> in_attend = {};
  // Likewise for Gemm, Sample and Wait.
  std::function<void()> in_gemm = {};
  std::function<void()> in_sample = {};
  std::function<void()> in_wait = {};
};

// Mixes a value into a hash: here, and in tests that model this device.
inline uint64_t FakeMix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 29);
}

class FakeDevice final : public Device {
 public:
  explicit FakeDevice(const FakeOptions& options);

  const DeviceInfo& Info() const override { return info_; }
  std::string Unsupported(const OpArgs&) const override { return ""; }
  int64_t KvBytesPerPage(const KvShape& shape) const override;
  int64_t AttendScratchBytes(const KvShape&, const SlotShape&) const override { return 0; }
  DeviceUse OwnUse(const SlotShape&) const override { return options_.own_use; }
  int64_t PackedBytes(const WeightShape&) const override { return 64; }
  void PackWeight(const WeightShape&, const HostRows&, int64_t, void*) override {}

  Buffer Alloc(int64_t bytes) override;
  void Upload(void* device, const void* host, int64_t bytes) override;
  void Download(void* host, const void* device, int64_t bytes) override;
  uint64_t Record() override { return ++marks_; }
  bool Wait(uint64_t mark) override;
  // What TimeOf returns for every step.
  static constexpr StepTime kStepTime{.busy_s = 0.25, .gap_s = 0.125};
  StepTime TimeOf(uint64_t) override { return kStepTime; }

  [[nodiscard]] bool ReserveSlots(const SlotShape& shape) override;
  StepView BeginStep(const StepInput& input) override;
  [[nodiscard]] bool BeginCapture() override;
  [[nodiscard]] uint64_t EndCapture() override;
  void Replay(uint64_t graph) override;

  void Embed(const EmbedArgs&) override {}
  void Norm(const NormArgs&) override {}
  void AddNorm(const AddNormArgs&) override {}
  void Gemm(const GemmArgs&) override {
    if (options_.in_gemm) options_.in_gemm();
  }
  void StoreKv(const StoreKvArgs& args) override;
  void Attend(const AttendArgs& args) override;
  void Act(const ActArgs&) override {}
  void GatherRows(const GatherRowsArgs&) override {}
  void Sample(const SampleArgs& args) override;

 private:
  // A download waiting for its mark.
  struct PendingDownload {
    uint64_t mark;
    void* host;
    std::vector<std::byte> bytes;
  };

  void CheckDeltas(const StepInput& input);

  const FakeOptions options_;
  int32_t failed_captures_ = 0;
  DeviceInfo info_;
  SlotTable slots_;
  std::vector<uint64_t> hashes_;  // [step tokens]
  uint64_t steps_ = 0;
  std::vector<uint64_t> bound_in_step_;    // [slots], the last step that did
  std::vector<uint64_t> changed_in_step_;  // [groups, slots, max_pages_per_slot], likewise
  StepView step_;                          // the current one
  struct Graph {
    int32_t tokens = 0, outputs = 0;  // of the step
    std::vector<OpArgs> ops;
  };
  std::vector<Graph> graphs_;  // graph n is graphs_[n - 1]
  bool capturing_ = false;     // into the last of graphs_
  uint64_t marks_ = 0;
  std::deque<PendingDownload> downloads_;
};

}  // namespace baram

#endif  // BARAM_KERNELS_FAKE_FAKE_DEVICE_H_
