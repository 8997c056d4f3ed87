// CudaDevice: memory, order and steps.
#include "kernels/cuda/cuda_device.h"

#include <algorithm>
#include <utility>

#include "kernels/check.h"
#include "kernels/cuda/open_cuda.h"
#include "kernels/cuda/pack.h"

namespace baram::cuda {

CudaDevice::CudaDevice(int ordinal, const GpuFacts& facts, DeviceInfo info,
                       const DeviceOptions& options)
    : ordinal_(ordinal),
      facts_(facts),
      info_(std::move(info)),
      warn_(OrStderr(options.warn)),
      lost_(OrStderr(options.lost)),
      carveout_(options.shared_carveout),
      captures_(info_.name, options.overlap_kernels, warn_) {}

Error CudaDevice::Open() {
  Error error = UseGpu(ordinal_);
  if (error == nullptr) error = MakeOwned(&stream_, CreateStream);
  for (OwnedEvent& mark : marks_) {
    if (error == nullptr) error = MakeOwned(&mark, CreateTimedEvent);
  }
  for (Beginning& beginning : beginnings_) {
    if (error == nullptr) error = MakeOwned(&beginning.event, CreateTimedEvent);
  }
  if (error == nullptr) error = downloads_.Reserve();
  if (error == nullptr) error = weights_.Reserve();
  if (error == nullptr) error = OpenGemm();
  return error;
}

int64_t CudaDevice::BytesBelow(const SlotShape& slots) const {
  return StepUpload::BytesBelow(slots) + StepAttendPlans::BytesBelow(slots, AttendFacts());
}
int64_t CudaDevice::BytesAbove(const SlotShape& slots) const {
  return StepAttendPlans::BytesAbove(slots, AttendFacts());
}

DeviceUse CudaDevice::OwnUse(const SlotShape& slots) const {
  DeviceUse use;
  for (const int64_t bytes :
       {GemmBytes(), StepUpload::DeviceBytes(slots), BytesBelow(slots) + BytesAbove(slots)}) {
    use.state_bytes += TakenBytes(info_, bytes);
  }
  use.runtime_bytes = kContextBytes + kCodeBytes;
  return use;
}

int64_t CudaDevice::FreeBytes() const {
  int64_t bytes = 0;
  const bool known = UseGpu(ordinal_) == nullptr && FreeMemory(&bytes) == nullptr;
  return known ? bytes : 0;
}

void CudaDevice::Note(Error error) {
  if (error == nullptr) return;
  Error none = nullptr;
  if (!error_.compare_exchange_strong(none, error)) return;
  lost_(info_.name + " is lost: " + error);
}

int64_t CudaDevice::PackedBytes(const WeightShape& shape) const { return PackedWeightBytes(shape); }

void CudaDevice::PackWeight(const WeightShape& shape, const HostRows& source, int64_t row_begin,
                            void* packed) {
  Note(UseGpu(ordinal_));
  Note(weights_.Write(shape, source, row_begin, packed));
}

Buffer CudaDevice::Alloc(int64_t bytes) {
  Note(UseGpu(ordinal_));
  void* memory = nullptr;
  if (Allocate(bytes > 0 ? bytes : 1, &memory) != nullptr) {
    LastError();  // out of memory is an answer, not the loss of the device
    return {};
  }
  Buffer buffer(memory, bytes, std::shared_ptr<void>(memory, FreeDevice()));
  Note(Fill(memory, 0, bytes, stream_.get()));
  Note(Synchronize(stream_.get()));  // weights are copied on another stream
  return buffer;
}

void CudaDevice::Upload(void* device, const void* host, int64_t bytes) {
  if (bytes == 0) return;
  Note(UseGpu(ordinal_));
  Note(CopyToDevice(device, host, bytes, stream_.get()));
  // `host` is not pinned and may be overwritten at once.
  Note(Synchronize(stream_.get()));
}

void CudaDevice::Download(void* host, const void* device, int64_t bytes) {
  if (bytes == 0) return;
  Check(!captures_.capturing(), "nothing but ops is called while they are captured");
  Note(UseGpu(ordinal_));
  Note(downloads_.Add(host, device, bytes, next_mark_, stream_.get()));
}

uint64_t CudaDevice::Record() {
  Check(!captures_.capturing(), "nothing but ops is called while they are captured");
  Note(UseGpu(ordinal_));
  Note(LastError());
  Note(RecordEvent(marks_[next_mark_ % kMarks].get(), stream_.get()));
  return next_mark_++;
}

bool CudaDevice::Wait(uint64_t mark) {
  Check(mark < next_mark_ && mark + kMarks >= next_mark_, "a mark is waited for soon");
  Note(UseGpu(ordinal_));
  Note(WaitEvent(marks_[mark % kMarks].get()));
  if (error_ != nullptr) return false;
  downloads_.Deliver(mark);
  return true;
}

StepTime CudaDevice::TimeOf(uint64_t mark) {
  Check(mark < next_mark_ && mark + kMarks > next_mark_, "a step's time is asked for soon");
  const Beginning& beginning = beginnings_[mark % kMarks];
  StepTime time;
  if (mark == 0 || beginning.mark != mark) return time;
  Note(UseGpu(ordinal_));
  Note(SecondsBetween(beginning.event.get(), marks_[mark % kMarks].get(), &time.busy_s));
  if (mark == 1) return time;
  Note(SecondsBetween(marks_[(mark - 1) % kMarks].get(), beginning.event.get(), &time.gap_s));
  return time;
}

bool CudaDevice::ReserveSlots(const SlotShape& shape) {
  Note(UseGpu(ordinal_));
  Error error = step_block_.Reserve(BytesBelow(shape), BytesAbove(shape), stream_.get());
  if (error == nullptr) {
    error = steps_.Reserve(shape, Launches(), &step_block_, &attend_plans_);
  }
  if (error != nullptr) {
    LastError();  // as in Alloc
    return false;
  }
  attend_plans_.Reserve(shape, AttendFacts(), &step_block_);
  if (cublaslt_ != nullptr) {
    cublaslt_->SetMostRows(std::max(shape.max_step_tokens, shape.max_step_outputs));
  }
  return true;
}

StepView CudaDevice::BeginStep(const StepInput& input) {
  Check(!captures_.capturing(), "nothing but ops is called while they are captured");
  Note(UseGpu(ordinal_));
  const StepView view = steps_.BeginStep(input);
  Note(step_block_.error());
  Beginning& beginning = beginnings_[next_mark_ % kMarks];
  beginning.mark = next_mark_;
  Note(RecordEvent(beginning.event.get(), stream_.get()));
  return view;
}

bool CudaDevice::BeginCapture() {
  Note(UseGpu(ordinal_));
  Note(LastError());  // of earlier launches
  return captures_.Begin(stream_.get());
}

uint64_t CudaDevice::EndCapture() { return captures_.End(stream_.get()); }

void CudaDevice::Replay(uint64_t graph) {
  Note(UseGpu(ordinal_));
  Note(captures_.Replay(graph, stream_.get()));
}

}  // namespace baram::cuda
