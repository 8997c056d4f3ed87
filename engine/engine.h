// Engine: one model on one device, serving many requests at once.
//
//   auto engine = Engine::Open(config);
//   auto outbox = (*engine)->Submit(std::move(request));
//   ... engine->touched().Take(&list, deadline) on the delivery thread, outbox->Pop(...)
//
// Open starts two threads: the engine thread, which owns every sequence, page and statistic, and
// the executor thread, which owns the device. All methods may be called from any thread.
#ifndef BARAM_ENGINE_ENGINE_H_
#define BARAM_ENGINE_ENGINE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/config.h"
#include "engine/outbox.h"
#include "engine/request.h"
#include "engine/stats.h"
#include "engine/touched_list.h"

namespace baram {

struct LoadedModel;

// What `baram inspect` prints, read from the folder and the machine; nothing is loaded.
struct Inspection {
  EngineInfo info;               // as Open would report it, load_s excepted
  int64_t memory_bytes = 0;      // see DeviceInfo::memory_bytes
  int64_t checkpoint_bytes = 0;  // of the files to be loaded; 0: they can't be read
  std::string attention;         // "30 layers, full" or "48 of window 4096, 16 full without RoPE"
  absl::Status servable;         // OK, or why the model cannot be served
};

class Engine {
 public:
  // Opens the device, checks support (I12), sizes the KV cache, loads the weights, runs the warm-up
  // steps. Errors are for the operator and say what to change.
  static absl::StatusOr<std::unique_ptr<Engine>> Open(const EngineConfig& config);
  // The devices built into this binary, human-readable: "cpu, ref, cuda (sm_90a)".
  static std::string Devices();
  static absl::StatusOr<Inspection> Inspect(const EngineConfig& config);
  // Serves a model that is already loaded on its device: for benchmarks and tests without a
  // checkpoint.
  static std::unique_ptr<Engine> Start(std::unique_ptr<LoadedModel> model,
                                       const EngineConfig& config);
  // Ends what is left with kDrained, and joins the threads. touched(), stats() and info() die with
  // the engine: stop their readers first. Outboxes may outlive it.
  ~Engine();

  // Accepts a request or refuses it at once: InvalidArgument (never retry: the prompt is empty or
  // too long, or a field is out of range), ResourceExhausted (the queue is full, BlamedSetting
  // names the limit: retry later), Unavailable (draining, or the device is lost), AlreadyExists
  // (the id is live, and one of the two calls requires it for itself).
  absl::StatusOr<std::shared_ptr<Outbox>> Submit(Request request);
  // Cancels the live requests with this id, all parts of all calls; false if there is none.
  bool Abort(const std::string& id);

  // Stops accepting, and returns at once. Running and queued requests continue until `limit`, then
  // end with kDrained. The earliest of several limits applies.
  void Drain(SteadyTime limit);
  bool draining() const;
  // Requests that were accepted and have not ended.
  int64_t unfinished() const;
  // True if there are none.
  bool idle() const;

  // False once the device is lost: every request has failed, and none is accepted.
  bool alive() const;
  // Seconds without progress: since work arrived, the last step finished, or the last part of a
  // layer began, whichever is latest. 0 when idle, or when all work waits for readers.
  double stalled_s() const;

  const EngineInfo& info() const;
  const Stats& stats() const;
  TouchedList& touched();

 private:
  class Threads;
  explicit Engine(std::unique_ptr<Threads> threads);
  std::unique_ptr<Threads> threads_;
};

}  // namespace baram

#endif  // BARAM_ENGINE_ENGINE_H_
