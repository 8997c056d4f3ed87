// Server: the whole process below the command line: engine, text, delivery, listeners.
#ifndef BARAM_SERVER_SERVER_H_
#define BARAM_SERVER_SERVER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/steady_time.h"
#include "server/call_log.h"
#include "server/delivery.h"
#include "server/descriptors.h"
#include "server/grpc_server.h"
#include "server/http_server.h"
#include "server/lifecycle.h"
#include "server/metrics.h"
#include "server/prompt_reader.h"
#include "server/serving.h"
#include "server/settings.h"

namespace baram::server {

// Opens the engine of a server.
using OpenEngine = std::function<absl::StatusOr<std::unique_ptr<Engine>>(const EngineConfig&)>;

// Members are declared in dependency order. Thread-compatible, except that Stop may run
// concurrently with the accessors.
class Server {
 public:
  // Answers probes, loads the model, listens for calls, becomes ready. Errors are for the operator.
  // `load_progress` is as in EngineConfig. `open` is for tests.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Config config,
                                                       LoadProgress load_progress = {},
                                                       const OpenEngine& open = Engine::Open);
  // Stops at once, unless Stop was called.
  ~Server();

  // Refuses new calls, lets running ones finish until `limit`, closes the listeners. Returns when
  // every accepted call has ended, or two seconds after the limit: clients that have not read the
  // rest by then are cut off. The accessors remain valid until the destructor.
  void Stop(SteadyTime limit);

  const Config& config() const { return config_; }
  const ConnectionShares& shares() const { return shares_; }
  Engine& engine() { return *engine_; }
  Lifecycle& lifecycle() { return lifecycle_; }
  Metrics& metrics() { return *metrics_; }
  GrpcServer& grpc() { return *grpc_; }
  TextPool& text_pool() { return *pool_; }
  KeptAnswers& kept_answers() { return serving_->kept(); }
  // Whether nothing is running or being tokenized, and no answer of the model is on its way to a
  // client. The pool is checked twice: calls begin there, and delivery has long answers written
  // there.
  bool idle() const {
    return pool_->idle() && engine_->idle() && delivery_->idle() && pool_->idle();
  }

  const std::string& grpc_address() const { return grpc_->address(); }
  // Empty if switched off.
  std::string http_address() const { return http_ ? http_->address() : ""; }
  int64_t open_http_connections() const { return http_ ? http_->connections() : 0; }
  std::string metrics_address() const { return probes_ ? probes_->address() : ""; }

 private:
  // Reduces config.max_connections if the limit of open files has no room for them.
  explicit Server(Config config);
  absl::Status CheckAddresses() const;
  absl::Status Open(LoadProgress load_progress, const OpenEngine& open);
  absl::Status ListenForProbes();
  absl::Status Listen();

  const Config config_;
  bool stopped_ = false;  // or about to be
  const ConnectionShares shares_;
  Lifecycle lifecycle_;
  std::atomic<const Metrics*> loaded_metrics_{nullptr};
  std::atomic<CallLog*> loaded_log_{nullptr};
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::unique_ptr<text::ChatTemplate> chat_template_;  // null if the model has none
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<TextPool> pool_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<CallLog> log_;
  std::unique_ptr<Delivery> delivery_;  // its thread hands long work to the pool
  std::unique_ptr<PromptReader> prompts_;
  std::unique_ptr<Serving> serving_;
  std::unique_ptr<GrpcServer> grpc_;
  std::unique_ptr<HttpServer> http_, probes_;
};

}  // namespace baram::server

#endif  // BARAM_SERVER_SERVER_H_
