// Engine: one model on one device, serving many requests at once.
//
//   auto engine = Engine::Open(config);
//   auto outbox = (*engine)->Submit(std::move(request), reader);
//   ... engine->touched().Take(&list, deadline) on the delivery thread, outbox->Pop(...)
//
// Open starts two threads: the engine's, which owns every sequence, page and statistic, and the
// executor's, which owns the device. All methods may be called from any thread.
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

// What `baram inspect` prints: read from the folder and the machine, nothing is loaded.
struct Inspection {
  EngineInfo info;               // as Open would report it, load_s excepted
  int64_t memory_bytes = 0;      // of the machine, for this process
  int64_t checkpoint_bytes = 0;  // of the files that would be loaded; 0: they can't be read
  std::string attention;         // "30 layers, full" or "48 of window 4096, 16 full without RoPE"
  absl::Status servable;         // why it can't be served, if it can't
};

class Engine {
 public:
  // Opens the device, checks support (I12), sizes the KV cache, loads the weights, runs the warm-up
  // steps. Errors are for the operator and name what to change.
  static absl::StatusOr<std::unique_ptr<Engine>> Open(const EngineConfig& config);
  // The devices this binary has, for people: "cpu, ref, cuda (sm_90a)".
  static std::string Devices();
  static absl::StatusOr<Inspection> Inspect(const EngineConfig& config);
  // Serves a model that is already on its device: for benchmarks and tests without a checkpoint.
  static std::unique_ptr<Engine> Start(std::unique_ptr<LoadedModel> model,
                                       const EngineConfig& config);
  // Ends what is left with kDrained and joins the threads.
  ~Engine();

  // Accepts a request or refuses it now: InvalidArgument (never retry: a bad id, empty, too long,
  // can never fit), ResourceExhausted (the queue is full, by the limit that BlamedSetting names:
  // retry later), Unavailable (draining, device lost), AlreadyExists (the id is live, and one of
  // the two wants it alone). `reader` is stored in the outbox before the engine sees it.
  absl::StatusOr<std::shared_ptr<Outbox>> Submit(Request request, void* reader);
  // Cancels the live requests with this id, all parts of all calls; false if there is none.
  bool Abort(const std::string& id);

  // Stops accepting; returns at once. Running and queued requests go on until `limit`, then end
  // with kDrained. Of several limits the earliest holds.
  void Drain(SteadyTime limit);
  bool draining() const;
  // Requests that were accepted and have not ended.
  int64_t unfinished() const;
  // True once there are none.
  bool idle() const;

  // False once the device is lost: every request was failed and none is accepted.
  bool alive() const;
  // 0 while there is nothing to do, or nothing until a reader makes room. Otherwise seconds since
  // the work came, a step finished or a part of a layer began, whichever was last.
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
