// baram serve: loads, reports when ready, and runs until a signal or a fault ends it.
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/steady_time.h"
#include "server/commands.h"
#include "server/exit_codes.h"
#include "server/log.h"
#include "server/program_name.h"
#include "server/server.h"
#include "server/settings.h"
#include "server/supervise.h"
#include "server/version.h"
#include "server/watchdog.h"

namespace baram::server {
namespace {

using std::chrono::steady_clock;

constexpr char kHelp[] =
    R"($0 serve --model DIR [settings]

Loads a model folder and serves it until SIGTERM, Ctrl-C or the end of its terminal, which let
running calls finish. While the model loads they end it at once, and of its ports only that of
--metrics-listen answers.

  $0 serve --model ./SmolLM2-135M-Instruct
  curl http://127.0.0.1:8000/v1/models

Each setting is a flag, a variable and a line of a file:

)";

// SIGTERM, SIGINT and SIGHUP (sent when the terminal closes), handled on their own thread. The
// first requests a stop, together with all that arrive within kSameRequest; the next ends the
// process at once, and so does the first while the model still loads. A signal that is ignored from
// the start stays ignored: SIGHUP under nohup, SIGINT in a script's background job, at which Ctrl-C
// is not aimed.
class StopSignals {
 public:
  StopSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    for (const int signal : {SIGINT, SIGHUP}) {
      struct sigaction inherited {};
      sigaction(signal, nullptr, &inherited);
      if (inherited.sa_handler != SIG_IGN) sigaddset(&set_, signal);
    }
    // Before any other thread starts: threads inherit the signal mask.
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    thread_ = std::jthread([this](std::stop_token stop) { Listen(stop); });
  }

  // From now on the first signal is only recorded.
  void Arm() { armed_ = true; }
  // The first signal, if it has arrived or arrives within `patience`.
  std::optional<int> Wait(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, patience, [this] { return signal_.has_value(); });
    return signal_;
  }

 private:
  // One stop request may send several signals: a closing terminal sends SIGHUP after its shell has
  // done so, `timeout` signals its child and then the group, systemd may send SIGHUP after SIGTERM.
  static constexpr auto kSameRequest = std::chrono::seconds(1);

  void Listen(std::stop_token stop) {
    pthread_setname_np(pthread_self(), "baram-signals");
    constexpr timespec kLook{.tv_sec = 0, .tv_nsec = 100'000'000};
    while (!stop.stop_requested()) {
      const int signal = sigtimedwait(&set_, nullptr, &kLook);
      if (signal < 0) continue;
      const SteadyTime now = steady_clock::now();
      std::lock_guard lock(mutex_);
      if (signal_ && now - asked_ < kSameRequest) continue;
      if (!armed_ || signal_) {
        // The hanging thread that made a second signal necessary may hold the log.
        LogUnqueued("stopped at once by a signal");
        _exit(128 + signal);  // the exit code shells report for a signal
      }
      signal_ = signal;
      asked_ = now;
      changed_.notify_all();
    }
  }

  sigset_t set_;
  std::atomic<bool> armed_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<int> signal_;  // the first
  SteadyTime asked_{};         // when it came
  std::jthread thread_;
};

// Shows loading progress: one changing line on a terminal, otherwise a log line per quarter.
class ProgressLine {
 public:
  void operator()(int64_t done, int64_t all) {
    const int percent = all > 0 ? static_cast<int>(done * 100 / all) : 100;
    if (percent <= shown_) return;
    if (terminal_) {
      std::fprintf(stderr, "\rLoading %3d%% of %.0f MB%s", percent, static_cast<double>(all) / 1e6,
                   percent == 100 ? "\n" : "");
      shown_ = percent;
    } else if (percent / 25 > shown_ / 25) {
      spdlog::info("loading {}% of {:.0f} MB", percent, static_cast<double>(all) / 1e6);
      shown_ = percent;
    }
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) == 1;
  int shown_ = 0;
};

void ShowConfiguration(const Config& config) {
  if (!spdlog::should_log(spdlog::level::info)) return;
  if (config.log_format == "text") {
    std::fputs(DescribeSettings(config).c_str(), stderr);
    return;
  }
  Json facts = Json::object();
  for (const ShownSetting& setting : ShowSettings(config)) facts[setting.name] = setting.value;
  LogFacts("configuration", "configuration", facts);
}

// Of settings that the engine could not grant, that do harm, or that have no effect on this device.
void WarnOfSettings(const Config& config, const EngineInfo& info) {
  const int32_t wished = config.max_model_len > 0 ? config.max_model_len : info.model_context_len;
  if (info.max_model_len < wished) {
    spdlog::warn(
        "context {} instead of {}: the KV cache holds no more; --kv-cache-bytes enlarges it",
        info.max_model_len, wished);
  }
  const int32_t tokens = config.max_num_batched_tokens;
  if (tokens > 0 && info.max_num_batched_tokens > tokens) {
    spdlog::warn("max-num-batched-tokens {} instead of {}: every sequence that runs takes one",
                 info.max_num_batched_tokens, tokens);
  }
  // Eight times the default of two workers. A worker computes 2048 of them per part of a layer;
  // more workers take 64 each by default, and may take as many as these.
  constexpr int64_t kManyTokens = 4096, kManyTokensEach = 2048;
  const int64_t many = std::max(kManyTokens, kManyTokensEach * info.workers);
  if (info.planning_depth == 1 && tokens > many) {
    spdlog::warn(
        "max-num-batched-tokens {} on device {}: a part of a layer that takes {:.0f} s is taken "
        "for a hang; leave it out, or give at most {}",
        tokens, info.device, Lifecycle::kStalledS, many);
  }
  const int32_t mixed = config.mixed_step_tokens;
  if (mixed > info.mixed_step_tokens) {
    spdlog::warn("mixed-step-tokens {} instead of {}: a step has no more tokens",
                 info.mixed_step_tokens, mixed);
  }
  if (info.processors > 0 && info.workers > info.processors) {
    spdlog::warn(
        "threads {} on {} CPUs: they wait for each other; leave --threads out, or give at most {}",
        info.workers, info.processors, info.processors);
  }
  const double share = config.gpu_memory_utilization;
  if (share != Config().gpu_memory_utilization && !info.memory.own_memory) {
    spdlog::warn("gpu-memory-utilization {} has no effect on device {}", share, info.device);
  }
}

void ShowReady(Server& server, SteadyTime started) {
  const EngineInfo& info = server.engine().info();
  spdlog::info(
      "{} on {}: {} layers, {} parameters, {} sequences, {} tokens a step, {} of prompts beside "
      "decodes",
      info.architecture, info.processor, info.layers, info.parameters, info.max_num_seqs,
      info.max_num_batched_tokens, info.mixed_step_tokens);
  const auto address = [](const std::string& text) { return text.empty() ? "off" : text; };
  const std::string& name = server.config().served_model_names.front();
  const std::string http = address(server.http_address());
  const std::string metrics = address(server.metrics_address());
  const double seconds = SecondsSince(started);
  LogFacts(absl::StrFormat(
               "ready: %s, context %d, KV %d tokens, gRPC %s, HTTP %s, metrics %s, %.1f s", name,
               info.max_model_len, info.kv_tokens, server.grpc_address(), http, metrics, seconds),
           "ready",
           {{"model", name},
            {"context", info.max_model_len},
            {"kv_tokens", info.kv_tokens},
            {"grpc", server.grpc_address()},
            {"http", http},
            {"metrics", metrics},
            {"seconds", seconds}});
}

// Joins no threads, as they may hang.
[[noreturn]] void ExitNow(int code, const Engine& engine) {
  if (code == kExitOs) {
    spdlog::critical("the device is lost: every request was failed; exiting");
  } else {
    spdlog::critical("the engine has made no progress for {:.0f} s; exiting", engine.stalled_s());
  }
  FlushLog();
  _exit(code);
}

}  // namespace

int Serve(const std::string& program, const std::vector<std::string>& args, SteadyTime started) {
  if (WantsHelp(args)) {
    std::fputs(absl::StrCat(WithProgram(kHelp, program), SettingsHelp(Command::kServe)).c_str(),
               stdout);
    return 0;
  }
  auto config = ParseSettings(args);
  if (!config.ok()) {
    std::fprintf(stderr, "baram serve: %s\n", std::string(config.status().message()).c_str());
    return ExitCode(config.status());
  }
  SetUpLog(config->log_format, config->log_level);
  spdlog::info("baram {}", kVersion);
  for (const std::string& warning : UnknownVariables(ProcessVariables(), program)) {
    spdlog::warn(warning);
  }

  StopSignals signals;
  ProgressLine progress;
  bool shown = false;
  auto server = Server::Start(*config, [&](int64_t done, int64_t all) {
    // Not earlier: it would only clutter an error.
    if (!std::exchange(shown, true)) ShowConfiguration(*config);
    progress(done, all);
  });
  if (!server.ok()) {
    spdlog::error(std::string(server.status().message()));
    return ExitCode(server.status());
  }
  Watchdog watchdog((*server)->engine());
  signals.Arm();
  WarnOfSettings((*server)->config(), (*server)->engine().info());
  ShowReady(**server, started);
  const int code =
      Supervise(**server, watchdog, [&](auto patience) { return signals.Wait(patience); });
  if (code != 0) ExitNow(code, (*server)->engine());
  server->reset();
  spdlog::info("stopped");
  return 0;
}

}  // namespace baram::server
