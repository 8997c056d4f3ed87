// Log lines of gRPC and Protobuf, and the last ones before an abort.
#include "server/library_log.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "server/log.h"

namespace baram::server {
namespace {

// The message size that LogUnqueued has room for.
constexpr size_t kKeptBytes = 160;

struct KeptLine {
  std::array<char, kKeptBytes> bytes{};
  size_t size = 0;
};

// Oldest first: gRPC logs what failed, then the assertion that aborts. If other code aborts, these
// lines may be old and harmless; but they are this thread's.
constinit thread_local std::array<KeptLine, 2> kept_lines;

// LogUnqueued does not escape for JSON.
char Plain(char c) {
  if (c == '"') return '\'';
  if (c == '\\') return '/';
  return c < ' ' || c > '~' ? ' ' : c;
}

void Keep(std::string_view text) {
  kept_lines[0] = kept_lines[1];
  kept_lines[1].size = std::min(text.size(), kKeptBytes);
  std::transform(text.begin(), text.begin() + kept_lines[1].size, kept_lines[1].bytes.begin(),
                 Plain);
}

// Returns to abort(), which ends the process.
void TellWhy(int) {
  for (const KeptLine& line : kept_lines) {
    if (line.size > 0) LogUnqueued({line.bytes.data(), line.size}, "critical");
  }
}

void Log(const std::string& text, bool error) {
  if (error) Keep(text);
  spdlog::debug("{}", text);
}

}  // namespace

void RedirectLibraryLogs() {
  gpr_set_log_function([](gpr_log_func_args* line) {
    Log(absl::StrCat("gRPC: ", line->message), line->severity == GPR_LOG_SEVERITY_ERROR);
  });
  google::protobuf::SetLogHandler(
      [](google::protobuf::LogLevel level, const char*, int, const std::string& text) {
        Log(absl::StrCat("protobuf: ", text), level == google::protobuf::LOGLEVEL_FATAL);
      });
  struct sigaction action {};
  action.sa_handler = TellWhy;
  sigaction(SIGABRT, &action, nullptr);
}

}  // namespace baram::server
