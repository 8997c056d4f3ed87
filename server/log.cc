// The process's log: see the header.
#include "server/log.h"

#include <pthread.h>
#include <spdlog/async.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baram::server {
namespace {

// A burst of calls that end at once, as at a drain; some MiB at most.
constexpr size_t kQueuedLines = 8192;
constexpr auto kFlushPatience = std::chrono::seconds(1);

std::atomic<bool> json_lines = false;
std::atomic<uint64_t> flushes = 0;  // of the sink, which flushes when it is asked to and not before

// On the log's thread.
class Sink final : public spdlog::sinks::ansicolor_stderr_sink_mt {
 public:
  void flush() override {
    ansicolor_stderr_sink::flush();
    flushes.fetch_add(1);
  }
};

// Signals are for the threads that wait for them.
void EnterLogThread() {
  pthread_setname_np(pthread_self(), "baram-log");
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

// Begins a payload that is fields already.
constexpr char kFields = '\x1f';

// What a JSON line holds beside time and level.
class JsonFieldsOfLine : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& out) override {
    const std::string_view payload(message.payload.data(), message.payload.size());
    const std::string fields = payload.starts_with(kFields)
                                   ? std::string(payload.substr(1))
                                   : absl::StrCat("\"message\":", Dump(std::string(payload)));
    out.append(fields.data(), fields.data() + fields.size());
  }
  std::unique_ptr<spdlog::custom_flag_formatter> clone() const override {
    return std::make_unique<JsonFieldsOfLine>();
  }
};

}  // namespace

void SetUpLog(const std::string& format, const std::string& level) {
  if (!spdlog::thread_pool()) spdlog::init_thread_pool(kQueuedLines, 1, EnterLogThread);
  auto logger = spdlog::get("baram");
  if (!logger) logger = spdlog::create_async_nb<Sink>("baram");
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  json_lines = format == "json";
  if (json_lines) {
    formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
    formatter->add_flag<JsonFieldsOfLine>('*');
    formatter->set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%*})");
  } else {
    formatter->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %^%l%$ %v");
  }
  logger->set_formatter(std::move(formatter));
  logger->set_level(spdlog::level::from_str(level));
  spdlog::set_default_logger(std::move(logger));
}

uint64_t LostLogLines() {
  const auto pool = spdlog::thread_pool();
  return pool ? pool->overrun_counter() : 0;
}

bool FlushLog() {
  const auto logger = spdlog::get("baram");
  if (!logger) return true;
  const uint64_t before = flushes.load();
  logger->flush();
  const auto end = std::chrono::steady_clock::now() + kFlushPatience;
  while (flushes.load() == before) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

void LogFacts(const std::string& text, const std::string& event, const Json& facts) {
  if (!json_lines) {
    spdlog::info(spdlog::string_view_t(text.data(), text.size()));
    return;
  }
  Json line = {{"message", event}};
  line.update(facts);
  const std::string object = Dump(line);
  const std::string fields = kFields + object.substr(1, object.size() - 2);
  spdlog::info(spdlog::string_view_t(fields.data(), fields.size()));
}

}  // namespace baram::server
