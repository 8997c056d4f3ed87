// The process's log: see the header.
#include "server/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baram::server {
namespace {

std::atomic<bool> json_lines = false;

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
  auto logger = spdlog::get("baram");
  if (!logger) logger = spdlog::stderr_color_mt("baram");
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
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
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
