// The process's log: see the header.
#include "server/log.h"

#include <poll.h>
#include <pthread.h>
#include <spdlog/async.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baram::server {
namespace {

// For a burst of calls that end at once, as in a drain; a few MiB at most.
constexpr size_t kQueuedLines = 8192;
constexpr auto kFlushPatience = std::chrono::seconds(1);

std::atomic<bool> json_lines = false;
std::atomic<uint64_t> flushes = 0;  // of the sink, which flushes only on request

std::atomic<uint64_t> unwritten = 0;  // lines that standard error did not accept

// Runs on the log's thread.
class Sink final : public spdlog::sinks::ansicolor_stderr_sink_mt {
 public:
  void log(const spdlog::details::log_msg& message) override {
    std::clearerr(stderr);
    ansicolor_stderr_sink::log(message);
    if (std::ferror(stderr) != 0) unwritten.fetch_add(1);
  }
  void flush() override {
    ansicolor_stderr_sink::flush();
    flushes.fetch_add(1);
  }
};

// Signals are left to the threads that wait for them.
void EnterLogThread() {
  pthread_setname_np(pthread_self(), "baram-log");
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

// Local time's offset from UTC when the log was set up: looking it up later takes a lock.
std::atomic<int64_t> local_offset_s = 0;

// A line in a fixed buffer; what does not fit is dropped.
class PlainLine {
 public:
  void Add(std::string_view text) {
    const size_t count = std::min(text.size(), bytes_.size() - size_);
    std::copy_n(text.data(), count, bytes_.data() + size_);
    size_ += count;
  }
  // With exactly `digits` digits.
  void Add(int64_t value, size_t digits) {
    std::array<char, 4> text{};
    for (size_t i = digits; i-- > 0; value /= 10) text[i] = static_cast<char>('0' + value % 10);
    Add({text.data(), digits});
  }
  // The current time, as in 2026-01-31T23:59:59.123, in a zone that is `offset` ahead of UTC.
  void AddTime(std::chrono::seconds offset) {
    namespace chrono = std::chrono;
    const auto now = chrono::floor<chrono::milliseconds>(chrono::system_clock::now() + offset);
    const auto day = chrono::floor<chrono::days>(now);
    const chrono::year_month_day date(day);
    const chrono::hh_mm_ss time(now - day);
    Add(int{date.year()}, 4), Add("-"), Add(unsigned{date.month()}, 2), Add("-");
    Add(unsigned{date.day()}, 2), Add("T"), Add(time.hours().count(), 2), Add(":");
    Add(time.minutes().count(), 2), Add(":"), Add(time.seconds().count(), 2), Add(".");
    Add(time.subseconds().count(), 3);
  }
  std::string_view text() const { return {bytes_.data(), size_}; }

 private:
  std::array<char, 256> bytes_;
  size_t size_ = 0;
};

// Starts a payload that already is a list of fields.
constexpr char kFields = '\x1f';

// The fields of a JSON line other than time and level.
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
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  if (localtime_r(&now, &local) != nullptr) local_offset_s = local.tm_gmtoff;
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
  return unwritten.load() + (pool ? pool->overrun_counter() : 0);
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

void LogUnqueued(std::string_view message, std::string_view level) {
  PlainLine line;
  if (json_lines) {
    line.Add(R"({"time":")");
    line.AddTime(std::chrono::seconds(0));
    line.Add(R"(Z","level":")");
    line.Add(level);
    line.Add(R"(","message":")");
    line.Add(message);
    line.Add("\"}\n");
  } else {
    const int64_t offset_s = local_offset_s;
    const int64_t ahead_min = std::abs(offset_s) / 60;
    line.AddTime(std::chrono::seconds(offset_s));
    line.Add(offset_s < 0 ? "-" : "+");
    line.Add(ahead_min / 60, 2), line.Add(":"), line.Add(ahead_min % 60, 2);
    line.Add(" ");
    line.Add(level);
    line.Add(" ");
    line.Add(message);
    line.Add("\n");
  }
  pollfd out{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (poll(&out, 1, 0) == 1) (void)!write(STDERR_FILENO, line.text().data(), line.text().size());
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

void LogFacts(const std::string& event, const Json& facts) {
  std::string text = event;
  for (const auto& [key, value] : facts.items()) {
    const bool bare = key == "method" || key == "code" || key == "reason";
    absl::StrAppend(&text, " ", bare ? "" : absl::StrCat(key, "="),
                    value.is_string() ? value.get_ref<const std::string&>() : Dump(value));
  }
  LogFacts(text, event, facts);
}

}  // namespace baram::server
