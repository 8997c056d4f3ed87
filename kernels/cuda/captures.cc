// Captures: begins and ends them, and finds the cause of a failure.
#include "kernels/cuda/captures.h"

#include <utility>

#include "kernels/check.h"

namespace baram::cuda {

void Captures::NoteRefusal(Error error, bool overlapped) {
  if (overlapped && of_overlap_ == OfOverlap::kUntried && !IsLackOfMemory(error)) {
    of_overlap_ = OfOverlap::kRefused;
    warn_(device_ +
          ": a step whose launches have programmatic stream serialization and a preferred shared "
          "memory carveout can't be captured as a graph: " +
          error + "; the next is captured without them");
    return;
  }
  if (std::exchange(told_, true)) return;
  warn_(device_ + ": a step can't be captured as a graph: " + error + "; it will be slower");
}

bool Captures::Begin(Stream stream) {
  Check(!capturing_, "one graph is captured at a time");
  const Error error = BeginCapture(stream);
  if (error != nullptr) {
    LastError();  // a rejection is an answer, not the loss of the device
    NoteRefusal(error, false);
  }
  capturing_ = error == nullptr;
  return capturing_;
}

void Captures::KeepRefusal(Error refusal) {
  Check(capturing_, "a refusal is kept of a capture");
  const Error before = LastError();
  KeepError(before);  // asked, not taken
  if (before == nullptr && refusal_ == nullptr) refusal_ = refusal;
}

uint64_t Captures::End(Stream stream) {
  Check(capturing_, "a capture ends that was begun");
  const bool overlapped = overlap();
  capturing_ = false;
  const Error refusal = std::exchange(refusal_, nullptr);
  // Errors of captured launches are not the device's: none of them ran. An error of the device will
  // come up again in whatever runs next. A launch that fails invalidates the capture, so its error
  // is the cause.
  Error error = LastError();
  OwnedGraph graph;
  const Error ended = MakeOwned(&graph, [stream](Graph* made) { return EndCapture(stream, made); });
  if (error == nullptr) error = ended;
  if (error != nullptr) {
    LastError();  // as in Begin
    const bool lacks_memory = IsLackOfMemory(error);
    // What fails without overlap as well was not its fault.
    if (of_overlap_ == OfOverlap::kRefused && !captured_without_ && !lacks_memory) {
      of_overlap_ = OfOverlap::kCleared;
    }
    NoteRefusal(refusal != nullptr && !lacks_memory ? refusal : error, overlapped);
    return 0;
  }
  if (refusal != nullptr && !std::exchange(told_refusal_, true)) {
    warn_(device_ +
          ": cuBLASLt does not compute a product of a step that is captured as a graph: " +
          refusal + "; it will be slower");
  }
  if (overlapped) {
    of_overlap_ = OfOverlap::kCaptured;
  } else {
    captured_without_ = true;
  }
  graphs_.push_back(std::move(graph));
  return graphs_.size();
}

Error Captures::Replay(uint64_t graph, Stream stream) {
  Check(!capturing_ && graph > 0 && graph <= graphs_.size(), "a graph that was captured is run");
  return LaunchGraph(graphs_[graph - 1].get(), stream);
}

}  // namespace baram::cuda
