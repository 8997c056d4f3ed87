// Explains the end of a process that can't create threads.
#include "server/thread_limit.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <system_error>

#include "server/exit_codes.h"
#include "server/log.h"

namespace baram::server {
namespace {

std::terminate_handler others = nullptr;

// Threads are started in many places, none of which can do without. The exception of a failed start
// is never caught, so the stack is not unwound and no half-built server has to be torn down.
[[noreturn]] void Terminate() {
  try {
    if (std::current_exception() != nullptr) throw;
  } catch (const std::system_error& error) {
    if (error.code() == std::errc::resource_unavailable_try_again) {
      (void)FlushLog();
      std::fputs(
          "baram: the system gives this process no further thread: raise the limit on threads "
          "(ulimit -u, a pod's pids) or on memory (ulimit -v), or lower --threads.\n",
          stderr);
      _exit(kExitOs);
    }
  } catch (...) {
    // Not a failure to create a thread.
  }
  others();
  std::abort();
}

}  // namespace

void ExplainThreadLimit() { others = std::set_terminate(Terminate); }

}  // namespace baram::server
