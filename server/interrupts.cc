// Interrupts: see the header.
#include "server/interrupts.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <utility>

namespace baram::server {
namespace {

// Never blocks: output that can't be written now, e.g. to a stopped pager, is dropped.
void EndLine() {
  pollfd out{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
  if (poll(&out, 1, 0) == 1 && out.revents == POLLOUT) (void)!write(STDOUT_FILENO, "\n", 1);
}

}  // namespace

Interrupts::Interrupts() {
  // Leave SIGINT ignored, e.g. in a script's background job, at which Ctrl-C is not aimed.
  struct sigaction inherited {};
  if (sigaction(SIGINT, nullptr, &inherited) == 0 && inherited.sa_handler == SIG_IGN) return;
  sigemptyset(&set_);
  sigaddset(&set_, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  thread_ = std::thread([this] { Listen(); });
  pthread_setname_np(thread_.native_handle(), "baram-signals");
}

Interrupts::~Interrupts() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  pthread_kill(thread_.native_handle(), SIGINT);
  thread_.join();
}

void Interrupts::Guard(std::function<void()> end) {
  std::lock_guard lock(mutex_);
  end_ = std::move(end);
  guarding_ = true;
  interrupted_ = false;
}

bool Interrupts::Release() {
  std::lock_guard lock(mutex_);
  guarding_ = false;
  end_ = nullptr;
  return interrupted_;
}

void Interrupts::Listen() {
  while (true) {
    int signal = 0;
    if (sigwait(&set_, &signal) != 0) return;
    std::lock_guard lock(mutex_);
    if (closing_) return;
    if (guarding_ && !std::exchange(interrupted_, true)) {
      end_();
      continue;
    }
    EndLine();
    _exit(kExitInterrupted);
  }
}

}  // namespace baram::server
