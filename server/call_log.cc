// CallLog and the forms of log lines.
#include "server/call_log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace baram::server {
namespace {

// The message with what JSON does not allow in a string escaped.
class JsonMessage : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& out) override {
    for (const char c : message.payload) {
      const unsigned char byte = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\') {
        out.push_back('\\');
        out.push_back(c);
      } else if (byte < 0x20) {
        const std::string escaped = absl::StrFormat("\\u%04x", byte);
        out.append(escaped.data(), escaped.data() + escaped.size());
      } else {
        out.push_back(c);
      }
    }
  }
  std::unique_ptr<spdlog::custom_flag_formatter> clone() const override {
    return std::make_unique<JsonMessage>();
  }
};

}  // namespace

void CallLog::Record(const CallRecord& record) {
  metrics_.CountCall(record.method, record.code, record.reason);
  std::string line = absl::StrCat("call ", record.method, " ", record.code);
  if (!record.reason.empty()) absl::StrAppend(&line, " ", record.reason);
  if (!record.request_id.empty()) absl::StrAppend(&line, " id=", record.request_id);
  if (record.usage.prompt_tokens > 0) {
    absl::StrAppend(&line, " prompt=", record.usage.prompt_tokens,
                    " cached=", record.usage.cached_tokens,
                    " completion=", record.usage.completion_tokens);
  }
  if (record.usage.first_token_s > 0) {
    absl::StrAppendFormat(&line, " first_ms=%.1f", record.usage.first_token_s * 1e3);
  }
  absl::StrAppendFormat(&line, " ms=%.1f", record.total_s * 1e3);
  spdlog::info(line);
}

void SetUpLog(const std::string& format, const std::string& level) {
  auto logger = spdlog::get("baram");
  if (!logger) logger = spdlog::stderr_color_mt("baram");
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  if (format == "json") {
    formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
    formatter->add_flag<JsonMessage>('*');
    formatter->set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l","message":"%*"})");
  } else {
    formatter->set_pattern("%H:%M:%S.%e %^%l%$ %v");
  }
  logger->set_formatter(std::move(formatter));
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace baram::server
