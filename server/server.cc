// Server: wires everything up in one direction and stops it in the other.
#include "server/server.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/blame.h"
#include "server/listener_limits.h"
#include "server/listening_sockets.h"
#include "server/model_text.h"
#include "server/openai.h"
#include "server/probes.h"

namespace baram::server {
namespace {

using std::chrono::steady_clock;

// Reduces max_connections to what the process can hold.
Config Fitting(Config config) {
  const int64_t may_open = DescriptorLimit();
  const int32_t calls = ShareDescriptors(may_open, config.max_connections).calls;
  if (calls < config.max_connections) {
    spdlog::warn(
        "limiting HTTP and gRPC to {} connections each instead of {} (--max-connections): {} open "
        "files would be needed and this process may open {}; raise that limit (ulimit -n)",
        calls, config.max_connections, DescriptorsFor(config.max_connections), may_open);
    config.max_connections = calls;
  }
  return config;
}

// `setting` names the listener's address.
absl::StatusOr<ListeningSockets> Bind(const char* setting, const std::string& address) {
  auto sockets = ListeningSockets::Bind(address);
  if (!sockets.ok()) return BlameSetting(sockets.status(), setting);
  return sockets;
}

}  // namespace

Server::Server(Config config)
    : config_(Fitting(std::move(config))),
      shares_(ShareDescriptors(DescriptorLimit(), config_.max_connections)) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Config config, LoadProgress load_progress,
                                                      const OpenEngine& open) {
  std::unique_ptr<Server> server(new Server(std::move(config)));
  // Loading can take minutes: report problems with the addresses first.
  absl::Status status = server->ListenForProbes();
  if (status.ok()) status = server->CheckAddresses();
  if (status.ok()) status = server->Open(std::move(load_progress), open);
  if (status.ok()) status = server->Listen();
  if (!status.ok()) return WithSource(status, server->config_);
  server->lifecycle_.SetReady();
  return server;
}

absl::Status Server::CheckAddresses() const {
  // The sockets are closed again before loading: clients should be refused meanwhile, not wait.
  // Both are open at once here, to detect equal addresses.
  const auto grpc = Bind("grpc-listen", config_.grpc_listen);
  if (!grpc.ok() || config_.http_listen == "off") return grpc.status();
  return Bind("http-listen", config_.http_listen).status();
}

absl::Status Server::ListenForProbes() {
  if (config_.metrics_listen == "off") return absl::OkStatus();
  auto sockets = Bind("metrics-listen", config_.metrics_listen);
  if (!sockets.ok()) return sockets.status();
  const auto on_error = [this](const HttpError& error) {
    CallLog* const log = loaded_log_.load();
    if (error.status != 503 || log == nullptr) return;
    log->RecordRefused("metrics", "503", error.reason, steady_clock::now());
  };
  auto probes =
      HttpServer::Listen(*std::move(sockets), {.routes = ProbeRoutes(lifecycle_, loaded_metrics_),
                                               .error_body = ListenerErrorBody,
                                               .on_error = on_error,
                                               .limits = ProbeLimits(config_, shares_)});
  if (!probes.ok()) return probes.status();
  probes_ = *std::move(probes);
  return absl::OkStatus();
}

absl::Status Server::Open(LoadProgress load_progress, const OpenEngine& open) {
  // On a thread of its own if the system provides one: opening a GPU takes as long as reading a
  // large tokenizer.
  absl::StatusOr<ModelText> text;
  std::future<void> text_loaded = std::async([&] { text = LoadModelText(config_); });

  EngineConfig engine_config = ToEngineConfig(config_);
  engine_config.vocabulary = [&]() -> absl::StatusOr<Vocabulary> {
    text_loaded.get();
    if (!text.ok()) return text.status();
    if (!text->chat_template) spdlog::warn("chat template {}", kNoChatTemplate);
    if (!text->chat_problem.empty()) spdlog::warn("chat template {}", text->chat_problem);
    return text->vocabulary();
  };
  engine_config.load_progress = std::move(load_progress);
  engine_config.warn = [](const std::string& sentence) { spdlog::warn(sentence); };
  engine_config.lost = [](const std::string& sentence) { spdlog::error(sentence); };
  auto engine = open(engine_config);
  if (text_loaded.valid()) text_loaded.get();
  // Its errors first: they show whether the folder is a model's.
  if (!text.ok()) return text.status();
  tokenizer_ = std::move(text->tokenizer);
  chat_template_ = std::move(text->chat_template);
  if (!engine.ok()) return engine.status();
  engine_ = *std::move(engine);
  if (const int32_t ids = engine_->info().vocab_size; tokenizer_->vocab_size() > ids) {
    spdlog::warn(
        "tokenizer {} tokens, vocabulary {}: prompts that hold one of the rest are refused",
        tokenizer_->vocab_size(), ids);
  }
  if (EosIds(engine_->info(), *tokenizer_).empty()) spdlog::warn("EOS ids {}", kNoEosIds);
  lifecycle_.SetEngine(*engine_);

  pool_ = std::make_unique<TextPool>(config_.text_threads, config_.text_queue);
  metrics_ = std::make_unique<Metrics>(engine_->info(), engine_->stats(), *pool_,
                                       config_.served_model_names.front());
  loaded_metrics_.store(metrics_.get());
  log_ = std::make_unique<CallLog>(*metrics_);
  loaded_log_.store(log_.get());
  delivery_ = std::make_unique<Delivery>(engine_->touched(), *tokenizer_,
                                         ReplyLimits{.pending_bytes = config_.stream_bytes,
                                                     .pending_tokens = config_.stream_tokens,
                                                     .slow_reader_s = config_.slow_reader_s});
  prompts_ =
      std::make_unique<PromptReader>(*tokenizer_, chat_template_.get(), engine_->info(), config_);
  serving_ =
      std::make_unique<Serving>(*engine_, *prompts_, *delivery_, *pool_, lifecycle_, config_);
  return absl::OkStatus();
}

absl::Status Server::Listen() {
  auto sockets = Bind("grpc-listen", config_.grpc_listen);
  if (!sockets.ok()) return sockets.status();
  auto grpc = GrpcServer::Listen(*std::move(sockets), *serving_, lifecycle_, *log_, config_,
                                 shares_.refused);
  if (!grpc.ok()) return grpc.status();
  grpc_ = *std::move(grpc);

  if (config_.http_listen != "off") {
    sockets = Bind("http-listen", config_.http_listen);
    if (!sockets.ok()) return sockets.status();
    const int64_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
    const auto on_error = [this](const HttpError& error) {
      const std::string code = absl::StrCat(error.status);
      if (error.status == 503) {
        return log_->RecordRefused("http", code, error.reason, steady_clock::now());
      }
      CallRecord record;
      record.method = "http";
      record.code = code;
      record.reason = error.reason;
      record.peer = error.peer;
      record.request_id = error.request_id;
      record.total_s = error.total_s;
      log_->Record(record);
    };
    auto http =
        HttpServer::Listen(*std::move(sockets),
                           {.routes = OpenAiRoutes({*serving_, lifecycle_, *metrics_, *log_, now}),
                            .error_body = ListenerErrorBody,
                            .on_error = on_error,
                            .limits = CallLimits(config_, shares_),
                            .threads = config_.http_threads,
                            .allowed_origins = config_.http_allowed_origins});
    if (!http.ok()) return http.status();
    http_ = *std::move(http);
  }
  const auto add = [this](const char* name, int64_t most, auto* listener) {
    metrics_->AddListener(name, most, [listener] { return listener->connections(); });
  };
  add("grpc", shares_.calls, grpc_.get());
  if (http_) add("http", shares_.calls, http_.get());
  if (probes_) add("metrics", shares_.probes, probes_.get());

  lifecycle_.Watch([this](bool ready, bool live) {
    grpc_->SetHealth(ready, live);
    // Clients that keep their connection would never reach another server, whatever the load
    // balancer does.
    if (!lifecycle_.draining()) return;
    grpc_->SendAway();
    if (http_) http_->SendAway();
  });
  return absl::OkStatus();
}

void Server::Stop(SteadyTime limit) {
  stopped_ = true;
  if (!engine_) return;
  lifecycle_.Drain(limit);
  // One deadline for all: otherwise a client that reads nothing would be waited for three times.
  const SteadyTime last = std::max(limit, steady_clock::now()) + kLastWords;
  // Until then the listeners stay up, so that new calls are told to go elsewhere.
  constexpr auto kLook = std::chrono::milliseconds(10);
  while (!idle() && steady_clock::now() < last) std::this_thread::sleep_for(kLook);
  if (http_) http_->StopAccepting();
  // What is left of gRPC are health watches and streams of reflection, which it ends, and short
  // replies.
  if (grpc_) grpc_->Shutdown(std::min(steady_clock::now() + kLastWords, last));
  // A connection closes after its last bytes.
  while (http_ && http_->connections() > 0 && steady_clock::now() < last) {
    std::this_thread::sleep_for(kLook);
  }
}

Server::~Server() {
  if (!stopped_) Stop(steady_clock::now());
  lifecycle_.Watch({});
  if (metrics_) metrics_->ForgetListeners();
  probes_.reset();
  http_.reset();
  grpc_.reset();
  if (pool_) pool_->Close();  // runs what is queued, which uses serving_
  delivery_.reset();          // and so do the last chunks of unread streams
}

}  // namespace baram::server
