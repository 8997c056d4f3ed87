// Interrupts: see the header.
#include "server/interrupts.h"

#include <pthread.h>
#include <unistd.h>

#include <utility>

namespace baram::server {

Interrupts::Interrupts() {
  sigemptyset(&set_);
  sigaddset(&set_, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  thread_ = std::thread([this] { Listen(); });
}

Interrupts::~Interrupts() {
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
    (void)!write(STDOUT_FILENO, "\n", 1);
    _exit(kExitInterrupted);
  }
}

}  // namespace baram::server
