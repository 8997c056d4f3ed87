// Device: the narrow waist between the engine and the hardware. The forward pass is written once,
// above it; everything that differs between machines is below it.
//
// Threads: PackWeight, PackedBytes and the facts may be called from any thread at any time.
// Everything else is called by one thread at a time, the opener's and then the executor's, and runs
// in the order of the calls. A synchronous device has finished when a call returns; its Record and
// Wait do nothing.
#ifndef BARAM_KERNELS_DEVICE_H_
#define BARAM_KERNELS_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/ops.h"
#include "kernels/rounding.h"
#include "kernels/step.h"
#include "kernels/tensor.h"
#include "kernels/warn.h"

namespace baram {

struct DeviceInfo {
  std::string name;       // "cpu", "ref", "cuda:0"
  std::string processor;  // for people: "Intel Xeon, amx, 2 threads"
  std::string isa;        // "amx", "avx512_bf16", "avx512", "avx2", "sm_90a", "scalar"
  // The device's memory; on the host, what this process may use.
  int64_t memory_bytes = 0;
  // True: the memory is the device's alone, and other processes may hold some of it.
  bool own_memory = false;
  int64_t free_bytes = 0;  // of that, when the device was opened; 0: unknown
  // Measured when the device was opened, for benchmarks: memory in use by any process once its
  // context existed, and what loading cuBLASLt took.
  int64_t context_bytes = 0;
  int64_t library_bytes = 0;
  int64_t alloc_multiple = 1;  // Alloc takes memory in multiples of it
  int32_t workers = 1;         // host threads that compute or, for a GPU, convert weights
  // Whether each worker multiplies tiles in one instruction, as with AMX: prefill is then several
  // times faster. Host devices only.
  bool matrix_units = false;
  int32_t processors = 0;  // that workers may use at once, by affinity and quota; 0: unknown
  DType activation = DType::kF32;  // inputs of Gemm and Attend, cache elements
  DType residual = DType::kF32;    // the residual stream and what is added to it
  Format weights{DType::kF32};     // what checkpoints are packed into
  int32_t page_tokens = 32;        // tokens a KV page should hold; a power of two
  int32_t planning_depth = 1;      // steps in flight: 1 when synchronous, 2 when not
  bool graphs = false;             // BeginCapture, EndCapture and Replay work; steps may be padded
  bool exact = false;              // I10 holds: bits do not depend on batch, chunking or threads

  // Ops have been computed when they return.
  bool synchronous() const { return planning_depth == 1; }
};

// Device memory, freed with the last copy. The device must outlive it.
class Buffer {
 public:
  Buffer() = default;
  Buffer(void* data, int64_t bytes, std::shared_ptr<void> owner)
      : data_(data), bytes_(bytes), owner_(std::move(owner)) {}
  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
  std::shared_ptr<void> owner_;
};

// The memory Alloc takes for a buffer of `bytes`.
inline int64_t TakenBytes(const DeviceInfo& info, int64_t bytes) {
  return RoundUp(bytes, info.alloc_multiple);
}

// Memory that a device uses in addition to what Alloc returns: its own, or else the process's.
struct DeviceUse {
  int64_t state_bytes = 0;    // the slots, attention plans, GEMM workspace
  int64_t runtime_bytes = 0;  // the driver's context, code and libraries: an estimate
};

// A tensor as the checkpoint stores it, in host memory: rows of WeightShape::k elements.
struct HostRows {
  const void* data = nullptr;
  DType dtype = DType::kBF16;
  int64_t rows = 0;
};

// How long a step took on the device, by the device's own clock. Seconds.
struct StepTime {
  // From the first op of the step, after its uploads, to the mark that ends it.
  double busy_s = 0;
  // The gap before it: from the previous mark to the first op. It includes the uploads of the step,
  // so it is at least as long as the device was idle between the two steps. It does not include
  // idle time inside a step, between ops or while the host has yet to issue one.
  double gap_s = 0;
};

class Device {
 public:
  virtual ~Device() = default;

  // --- facts
  virtual const DeviceInfo& Info() const = 0;
  // Empty if the op can run with these shapes, types and options (data pointers are not read);
  // otherwise a sentence that names what is not supported.
  virtual std::string Unsupported(const OpArgs& args) const = 0;
  virtual int64_t KvBytesPerPage(const KvShape& shape) const = 0;
  virtual int64_t AttendScratchBytes(const KvShape& shape, const SlotShape& slots) const = 0;
  // Memory that the device uses itself, Alloc aside.
  virtual DeviceUse OwnUse(const SlotShape& slots) const {
    (void)slots;
    return {};
  }
  // Own memory that is free now; 0 without own memory.
  virtual int64_t FreeBytes() const { return 0; }
  // Bytes PackWeight fills for a weight of this shape.
  virtual int64_t PackedBytes(const WeightShape& shape) const = 0;
  // Writes rows [row_begin, row_begin + source.rows) of a weight into `packed` (PackedBytes bytes
  // of this device's memory, zeroed by Alloc). Calls for different rows may run concurrently.
  virtual void PackWeight(const WeightShape& shape, const HostRows& source, int64_t row_begin,
                          void* packed) = 0;

  // --- memory and order
  // Zeroed, aligned to at least 64 bytes. Only before the first step. Returns an empty Buffer if
  // out of memory.
  virtual Buffer Alloc(int64_t bytes) = 0;
  // In device order. Upload has read `host` when it returns; what Download writes is there after
  // Wait() for a mark recorded after it. If `bytes` is 0, pointers may be null.
  virtual void Upload(void* device, const void* host, int64_t bytes) = 0;
  virtual void Download(void* host, const void* device, int64_t bytes) = 0;
  // Record returns a mark in device order. Wait blocks until everything before the mark is done; it
  // returns false if the device is lost, and every later call is then undefined.
  virtual uint64_t Record() { return 0; }
  [[nodiscard]] virtual bool Wait(uint64_t mark) {
    (void)mark;
    return true;
  }
  // Times the step between the previous mark and `mark`, which must have been waited for; zeros if
  // no step began in between. A synchronous device keeps no time: its step takes as long as its
  // calls.
  virtual StepTime TimeOf(uint64_t mark) {
    (void)mark;
    return {};
  }

  // --- steps
  // Reserves the state of the slots. Once, before the first step. Returns false if out of memory:
  // the device still works, but can't run a step.
  [[nodiscard]] virtual bool ReserveSlots(const SlotShape& shape) = 0;
  // Uploads a step's deltas, applies them to the slots and expands the rows. Advances
  // length[slot] by the row's count: positions of this step start at the previous length.
  // Only a device with graphs takes padded steps.
  virtual StepView BeginStep(const StepInput& input) = 0;

  // --- graphs: the ops of a step, recorded once and replayed with one call (DeviceInfo::graphs)
  // From now on ops are recorded, not run; only ops may be called. The same ops must have run
  // before, with the same shapes, in a step of their own. Returns false if it can't record: ops run
  // as usual.
  [[nodiscard]] virtual bool BeginCapture() { return false; }
  // Ends the recording and returns its graph, which lives as long as the device. 0: the recording
  // failed, and the device continues as before; the next one may succeed, since a device that has
  // two ways to record then tries the other.
  [[nodiscard]] virtual uint64_t EndCapture() { return 0; }
  // Runs the recorded ops on the current step's arrays. The step must have as many tokens and
  // outputs, padding included, as the captured one.
  virtual void Replay(uint64_t graph) { (void)graph; }

  // --- for people; not facts: what they return depends on the ops so far
  // Which kernel computes the op, such as "cublaslt" or "mma 128 x 128"; where a library has
  // rejected the op, the kernel that computes it instead. Empty if the device does not report it.
  virtual std::string KernelOf(const OpArgs& args) const {
    (void)args;
    return "";
  }
  // Whether kernels overlap in the graphs that were captured, as DeviceOptions::overlap_kernels
  // asks for. A device may have given up overlap in graphs only, which costs nothing but speed.
  // False without a graph.
  virtual bool GraphsOverlap() const { return false; }

  // --- ops, see ops.h
  virtual void Embed(const EmbedArgs& args) = 0;
  virtual void Norm(const NormArgs& args) = 0;
  virtual void AddNorm(const AddNormArgs& args) = 0;
  virtual void Gemm(const GemmArgs& args) = 0;
  virtual void StoreKv(const StoreKvArgs& args) = 0;
  virtual void Attend(const AttendArgs& args) = 0;
  virtual void Act(const ActArgs& args) = 0;
  virtual void GatherRows(const GatherRowsArgs& args) = 0;
  virtual void Sample(const SampleArgs& args) = 0;
};

struct DeviceOptions {
  int32_t threads = 0;   // workers of a CPU device; 0: one a core, as affinity and quota allow
  std::string isa = {};  // force "avx2", "avx512", "avx512_bf16" or "amx"; empty: the fastest
  // Pin workers to processors. Off when front-end threads share the cores.
  bool pin_threads = false;
  std::string which = {};  // of several GPUs: an index or a UUID; OpenDevice takes it from the name
  // On a GPU, whether a kernel's blocks may start before the previous kernel has ended. False is
  // slower; it shows whether a fault comes from the overlap.
  bool overlap_kernels = true;
  // In addition, whether all kernels request the same split of L1 cache and shared memory. False: a
  // baseline for benchmarks.
  bool shared_carveout = true;
  // Called from any thread with sentences for the operator: what is slower than it could be, and,
  // once, why the device was lost. Empty: standard error.
  Warn warn = {}, lost = {};
};

// Opens a device by name: "cpu", "ref", "cuda:0", "cuda:GPU-<uuid>". On failure returns null and
// sets `error` to a sentence for the operator. The only place besides CMake that knows which
// devices are built.
std::unique_ptr<Device> OpenDevice(const std::string& name, const DeviceOptions& options,
                                   std::string* error);

// The devices OpenDevice knows in this binary, for people: "cpu, ref, cuda (sm_90a)".
std::string BuiltDevices();

}  // namespace baram

#endif  // BARAM_KERNELS_DEVICE_H_
