// The emulation's streams, events, graphs and copies.
#include "kernels/cuda/emulation/streams.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/check.h"
#include "kernels/cuda/emulation/emulator.h"

namespace baram::cuda::emulation {
namespace {

using Work = std::function<void()>;

// Shared by a stream and the events recorded on it, which may outlive it.
struct Queue {
  std::deque<Work> waiting;
  uint64_t added = 0;  // work items ever put on it
  uint64_t begun = 0;  // and ever taken off it
};

// What is put on a stream while it is captured.
struct Capture {
  std::vector<Work> nodes;
  bool overlaps = false;  // a kernel of it does
  bool lost = false;
};

}  // namespace
}  // namespace baram::cuda::emulation

struct CUstream_st {
  std::shared_ptr<baram::cuda::emulation::Queue> queue =
      std::make_shared<baram::cuda::emulation::Queue>();
  std::unique_ptr<baram::cuda::emulation::Capture> capture;  // null: it is not captured
};

// A position in a queue. Null: never recorded.
struct CUevent_st {
  std::shared_ptr<baram::cuda::emulation::Queue> queue;
  uint64_t position = 0;
  // When the queue reached it; null unless the event is timed. Written by work on the queue, which
  // may outlive the event.
  std::shared_ptr<std::chrono::steady_clock::time_point> time;
};

struct CUgraphExec_st {
  std::shared_ptr<const std::vector<baram::cuda::emulation::Work>> nodes;
};

namespace baram::cuda::emulation {
namespace {

// Guards everything here, and work while it runs.
std::mutex mutex;
std::set<Stream>& Streams() {
  static auto& streams = *new std::set<Stream>;
  return streams;
}
// The stream that this thread captures.
thread_local Stream capturing = nullptr;
thread_local LaunchStream last_launch;
std::atomic<bool> refuse_captures = false;
std::atomic<Error> refuse_overlapping_captures = nullptr;
std::atomic<Error> fail_launch = nullptr;

void CarryOut(Queue& queue, uint64_t position) {
  while (queue.begun < position) {
    const Work work = std::move(queue.waiting.front());
    queue.waiting.pop_front();
    ++queue.begun;
    work();
  }
}

}  // namespace

void RefuseCaptures(bool refuse) { refuse_captures = refuse; }
void RefuseOverlappingCaptures(Error error) { refuse_overlapping_captures = error; }
void FailLaunch(Error error) { fail_launch = error; }

Error Enqueue(Stream stream, Work work) {
  std::lock_guard lock(mutex);
  if (stream == nullptr) {
    work();
  } else if (stream->capture != nullptr) {
    if (stream->capture->lost) return Failed(kLostCapture);
    stream->capture->nodes.push_back(std::move(work));
  } else {
    stream->queue->waiting.push_back(std::move(work));
    ++stream->queue->added;
  }
  return nullptr;
}

LaunchStream LastLaunch() { return last_launch; }

void EnqueueLaunch(LaunchStream stream, Work work) {
  last_launch = stream;
  if (const Error error = fail_launch.exchange(nullptr)) {
    if (stream.stream != nullptr && stream.stream == capturing) capturing->capture->lost = true;
    Failed(error);
    return;
  }
  if (stream.overlap && stream.stream != nullptr && stream.stream == capturing) {
    capturing->capture->overlaps = true;
  }
  Enqueue(stream.stream, std::move(work));
}

void CarryOutAll() {
  std::lock_guard lock(mutex);
  for (Stream stream : Streams()) CarryOut(*stream->queue, stream->queue->added);
}

bool AllowedNow() {
  if (capturing == nullptr) return true;
  capturing->capture->lost = true;
  return false;
}

}  // namespace baram::cuda::emulation

namespace baram::cuda {

using emulation::AllowedNow;
using emulation::Enqueue;
using emulation::Failed;
using emulation::kCapturing;

Error CreateStream(Stream* stream) {
  if (!AllowedNow()) return Failed(kCapturing);
  *stream = new CUstream_st;
  std::lock_guard lock(emulation::mutex);
  emulation::Streams().insert(*stream);
  return nullptr;
}
void DestroyStream(Stream stream) {
  {
    std::lock_guard lock(emulation::mutex);
    CarryOut(*stream->queue, stream->queue->added);
    emulation::Streams().erase(stream);
  }
  delete stream;
}
Error Synchronize(Stream stream) {
  if (!AllowedNow()) return Failed(kCapturing);
  if (stream == nullptr) return nullptr;
  std::lock_guard lock(emulation::mutex);
  CarryOut(*stream->queue, stream->queue->added);
  return nullptr;
}

Error CopyToDevice(void* device, const void* host, int64_t bytes, Stream stream) {
  if (bytes == 0) return nullptr;
  const bool captured = stream != nullptr && emulation::capturing == stream;
  if (captured || emulation::IsPinned(host)) {
    return Enqueue(stream, [=] { std::memcpy(device, host, bytes); });
  }
  const auto* begin = static_cast<const std::byte*>(host);
  return Enqueue(stream, [device, copy = std::vector<std::byte>(begin, begin + bytes)] {
    std::memcpy(device, copy.data(), copy.size());
  });
}
Error CopyToHost(void* host, const void* device, int64_t bytes, Stream stream) {
  if (bytes == 0) return nullptr;
  return Enqueue(stream, [=] { std::memcpy(host, device, bytes); });
}
Error Fill(void* device, uint8_t byte, int64_t bytes, Stream stream) {
  if (bytes == 0) return nullptr;
  return Enqueue(stream, [=] { std::memset(device, byte, bytes); });
}

Error CreateEvent(Event* event) {
  *event = new CUevent_st;
  return nullptr;
}
Error CreateTimedEvent(Event* event) {
  *event = new CUevent_st{.queue = nullptr,
                          .time = std::make_shared<std::chrono::steady_clock::time_point>()};
  return nullptr;
}
void DestroyEvent(Event event) { delete event; }
Error RecordEvent(Event event, Stream stream) {
  if (!AllowedNow()) return Failed(kCapturing);
  if (stream == nullptr) return nullptr;
  std::lock_guard lock(emulation::mutex);
  if (event->time != nullptr) {
    stream->queue->waiting.push_back(
        [time = event->time] { *time = std::chrono::steady_clock::now(); });
    ++stream->queue->added;
  }
  event->queue = stream->queue;
  event->position = stream->queue->added;
  return nullptr;
}
Error WaitEvent(Event event) {
  if (!AllowedNow()) return Failed(kCapturing);
  std::lock_guard lock(emulation::mutex);
  if (event->queue != nullptr) CarryOut(*event->queue, event->position);
  return nullptr;
}
Error SecondsBetween(Event from, Event to, double* seconds) {
  std::lock_guard lock(emulation::mutex);
  for (Event event : {from, to}) {
    if (event->time == nullptr || event->queue == nullptr) return Failed("invalid resource handle");
    if (event->queue->begun < event->position) return Failed("device not ready");
  }
  *seconds = std::chrono::duration<double>(*to->time - *from->time).count();
  return nullptr;
}

Error BeginCapture(Stream stream) {
  if (!AllowedNow()) return Failed(kCapturing);
  Check(stream != nullptr, "the null stream is never captured");
  if (emulation::refuse_captures) return Failed(emulation::kNotSupported);
  std::lock_guard lock(emulation::mutex);
  stream->capture = std::make_unique<emulation::Capture>();
  emulation::capturing = stream;
  return nullptr;
}
Error EndCapture(Stream stream, Graph* graph) {
  Check(emulation::capturing == stream, "the thread that began a capture ends it");
  std::lock_guard lock(emulation::mutex);
  const auto capture = std::exchange(stream->capture, nullptr);
  emulation::capturing = nullptr;
  if (capture->lost) return Failed(emulation::kLostCapture);
  const Error refusal = emulation::refuse_overlapping_captures;
  if (refusal != nullptr && capture->overlaps) return Failed(refusal);
  *graph = new CUgraphExec_st{
      std::make_shared<const std::vector<emulation::Work>>(std::move(capture->nodes))};
  return nullptr;
}
Error LaunchGraph(Graph graph, Stream stream) {
  if (!AllowedNow()) return Failed(kCapturing);
  return Enqueue(stream, [nodes = graph->nodes] {
    for (const emulation::Work& node : *nodes) node();
  });
}
void DestroyGraph(Graph graph) { delete graph; }

bool IsLackOfMemory(Error error) {
  return error != nullptr && error == std::string_view(emulation::kNoMemory);
}

}  // namespace baram::cuda
