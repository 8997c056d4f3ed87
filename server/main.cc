// baram: selects the subcommand.
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "server/commands.h"
#include "server/exit_codes.h"
#include "server/log.h"
#include "server/program_name.h"
#include "server/setting_values.h"
#include "server/thread_limit.h"
#include "server/version.h"

namespace {

struct Usage {
  std::string_view command, meaning;
};
constexpr Usage kUsages[] = {
    {"serve --model DIR", "load a model folder and serve it"},
    {"ask \"a question\"", "ask a running server, in this terminal"},
    {"inspect --model DIR", "what a model folder holds, and whether this machine can serve it"},
    {"--version", "the version, and the devices this binary has"},
};

std::string Help(const std::string& program) {
  constexpr size_t kColumn = 24;  // of the meanings, after the program's name
  std::string help = "baram serves large language models over gRPC and OpenAI-compatible HTTP.\n\n";
  for (const Usage& usage : kUsages) {
    std::string command(usage.command);
    command.resize(kColumn, ' ');
    help += "  " + program + " " + command;
    help += usage.meaning;
    help += "\n";
  }
  return help + "\nEach takes --help.\n";
}

int Run(const std::string& program, const std::vector<std::string>& all) {
  const auto started = std::chrono::steady_clock::now();
  if (all.empty()) {
    std::fputs(Help(program).c_str(), stderr);
    return baram::server::kExitUsage;
  }
  const std::string& command = all[0];
  const std::vector<std::string> args(all.begin() + 1, all.end());
  if (command == "serve") return baram::server::Serve(program, args, started);
  if (command == "ask") return baram::server::Ask(program, args);
  if (command == "inspect") return baram::server::Inspect(program, args);
  if (command == "--version" || command == "version") {
    std::printf("baram %s\ndevices: %s\n", baram::server::kVersion,
                baram::Engine::Devices().c_str());
    return 0;
  }
  if (command == "--help" || command == "-h" || command == "help") {
    std::fputs(Help(program).c_str(), stdout);
    return 0;
  }
  constexpr std::string_view kCommands[] = {"serve", "ask", "inspect", "--version", "--help"};
  const std::string nearest(baram::server::Nearest(command, kCommands));
  std::fprintf(stderr, "baram: there is no command \"%s\".%s%s%s\n\n%s", command.c_str(),
               nearest.empty() ? "" : " Did you mean ", nearest.c_str(), nearest.empty() ? "" : "?",
               Help(program).c_str());
  return baram::server::kExitUsage;
}

// Shells often limit a process to 1,024 descriptors but let it raise that. Every shard of a model
// and every connection needs one.
void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int main(int argc, char** argv) {
  baram::server::ExplainThreadLimit();
  RaiseDescriptorLimit();
  const int code = Run(baram::server::ProgramName(argv[0]), {argv + 1, argv + argc});
  if (!baram::server::FlushLog()) _exit(code);
  // Losing output is a failure.
  errno = 0;
  const bool lost = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
  if (!lost || code != 0) return code;
  // The errno of an earlier failed write is gone.
  std::fprintf(stderr, "baram: can't write the output: %s.\n",
               std::strerror(errno != 0 ? errno : EIO));
  return baram::server::kExitIo;
}
