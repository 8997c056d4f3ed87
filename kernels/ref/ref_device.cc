// The device "ref": memory, weights and slots around the plain ops.
#include "kernels/ref/ref_device.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <new>
#include <string>
#include <variant>

#include "kernels/float_types.h"
#include "kernels/host_facts.h"
#include "kernels/ref/ref_ops.h"
#include "kernels/shape_check.h"
#include "kernels/slots.h"

namespace baram {
namespace {

constexpr std::align_val_t kAlignment{64};

bool AreF32(std::initializer_list<DType> types) {
  return std::ranges::all_of(types, [](DType type) { return type == DType::kF32; });
}

// Whether every tensor and weight of the op is fp32.
bool IsAllF32(const EmbedArgs& args) {
  return AreF32({args.table.shape.format.dtype, args.out.dtype});
}
bool IsAllF32(const NormArgs& args) { return AreF32({args.x.dtype, args.out.dtype}); }
bool IsAllF32(const AddNormArgs& args) {
  return AreF32({args.branch.dtype, args.residual.dtype, args.out.dtype});
}
bool IsAllF32(const GemmArgs& args) {
  return AreF32({args.a.dtype, args.weight.shape.format.dtype, args.out.dtype});
}
bool IsAllF32(const StoreKvArgs& args) { return AreF32({args.qkv.dtype}); }
bool IsAllF32(const AttendArgs& args) { return AreF32({args.q.dtype, args.out.dtype}); }
bool IsAllF32(const ActArgs& args) { return AreF32({args.gate_up.dtype, args.out.dtype}); }
bool IsAllF32(const GatherRowsArgs& args) { return AreF32({args.x.dtype, args.out.dtype}); }
bool IsAllF32(const SampleArgs& args) { return AreF32({args.logits.dtype}); }

class RefDevice final : public Device {
 public:
  RefDevice() {
    info_.name = "ref";
    info_.processor = "plain fp32 loops, 1 thread";
    info_.isa = "scalar";
    const HostFacts host = ReadHostFacts();
    info_.memory_bytes = host.memory_bytes;
    info_.free_bytes = host.free_bytes;
    info_.exact = true;
  }

  const DeviceInfo& Info() const override { return info_; }

  std::string Unsupported(const OpArgs& args) const override {
    const std::string sentence = CheckShapes(args);
    if (!sentence.empty()) return sentence;
    const bool is_f32 = std::visit([](const auto& op) { return IsAllF32(op); }, args);
    return is_f32 ? "" : std::string(OpName(args)) + ": ref computes in f32 only";
  }

  int64_t KvBytesPerPage(const KvShape& shape) const override { return RefKvBytesPerPage(shape); }
  int64_t AttendScratchBytes(const KvShape& shape, const SlotShape& slots) const override {
    return RefAttendScratchBytes(shape, slots);
  }
  int64_t PackedBytes(const WeightShape& shape) const override {
    return shape.n * shape.k * static_cast<int64_t>(sizeof(float));
  }
  void PackWeight(const WeightShape& shape, const HostRows& source, int64_t row_begin,
                  void* packed) override {
    float* out = static_cast<float*>(packed) + row_begin * shape.k;
    for (int64_t i = 0; i < source.rows * shape.k; ++i) {
      out[i] = LoadElement(source.data, source.dtype, i);
    }
  }

  Buffer Alloc(int64_t bytes) override {
    void* data = ::operator new(bytes, kAlignment, std::nothrow);
    if (data == nullptr) return {};
    std::memset(data, 0, bytes);
    return {data, bytes,
            std::shared_ptr<void>(data, [](void* p) { ::operator delete(p, kAlignment); })};
  }
  void Upload(void* device, const void* host, int64_t bytes) override {
    if (bytes > 0) std::memcpy(device, host, bytes);
  }
  void Download(void* host, const void* device, int64_t bytes) override {
    if (bytes > 0) std::memcpy(host, device, bytes);
  }

  DeviceUse OwnUse(const SlotShape& slots) const override {
    return {.state_bytes = SlotTable::Bytes(slots)};
  }
  [[nodiscard]] bool ReserveSlots(const SlotShape& shape) override {
    try {
      slots_.Reserve(shape);
    } catch (const std::bad_alloc&) {
      return false;
    }
    return true;
  }
  StepView BeginStep(const StepInput& input) override { return slots_.BeginStep(input); }

  void Embed(const EmbedArgs& args) override { DCheckShapes(args), RefEmbed(args); }
  void Norm(const NormArgs& args) override { DCheckShapes(args), RefNorm(args); }
  void AddNorm(const AddNormArgs& args) override { DCheckShapes(args), RefAddNorm(args); }
  void Gemm(const GemmArgs& args) override { DCheckShapes(args), RefGemm(args); }
  void StoreKv(const StoreKvArgs& args) override { DCheckShapes(args), RefStoreKv(args); }
  void Attend(const AttendArgs& args) override { DCheckShapes(args), RefAttend(args); }
  void Act(const ActArgs& args) override { DCheckShapes(args), RefAct(args); }
  void GatherRows(const GatherRowsArgs& args) override { DCheckShapes(args), RefGatherRows(args); }
  void Sample(const SampleArgs& args) override { DCheckShapes(args), RefSample(args, slots_); }

 private:
  DeviceInfo info_;
  SlotTable slots_;
};

}  // namespace

std::unique_ptr<Device> OpenRefDevice(const DeviceOptions& options, std::string* error) {
  if (!options.isa.empty() && options.isa != "scalar") {
    *error = "device ref has no isa \"" + options.isa + "\": leave it empty";
    return nullptr;
  }
  return std::make_unique<RefDevice>();
}

}  // namespace baram
