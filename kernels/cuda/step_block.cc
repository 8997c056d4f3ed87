// StepBlock: its memory, and copies from two stagings in turn.
#include "kernels/cuda/step_block.h"

#include "kernels/check.h"

namespace baram::cuda {

Error StepBlock::Reserve(int64_t below, int64_t above, Stream stream) {
  stream_ = stream;
  below_ = below;
  above_ = above;
  const int64_t bytes = below + above;
  Error error = MakeOwned(&memory_, [bytes](void** made) { return Allocate(bytes, made); });
  for (Staging& staging : stagings_) {
    if (error != nullptr) return error;
    error =
        MakeOwned(&staging.memory, [bytes](void** made) { return AllocatePinned(bytes, made); });
    if (error == nullptr) error = MakeOwned(&staging.copied, CreateEvent);
  }
  return error;
}

void StepBlock::Begin() {
  now_ = 1 - now_;
  Note(WaitEvent(stagings_[now_].copied.get()));
}

void StepBlock::Copy(int64_t begin, int64_t end) {
  Check(-below_ <= begin && begin <= end && end <= above_, "what is copied lies in the block");
  if (begin < end) Note(CopyToDevice(device() + begin, host() + begin, end - begin, stream_));
  Note(RecordEvent(stagings_[now_].copied.get(), stream_));
}

}  // namespace baram::cuda
