// Interrupts: Ctrl-C in a terminal client, handled on its own thread.
#ifndef BARAM_SERVER_INTERRUPTS_H_
#define BARAM_SERVER_INTERRUPTS_H_

#include <csignal>
#include <functional>
#include <mutex>
#include <thread>

namespace baram::server {

// While something is guarded, the first Ctrl-C ends that. Any other ends the process with 130, even
// if its output is stuck, and leaves the cursor on a new line. A process that was started with
// Ctrl-C ignored keeps ignoring it.
class Interrupts {
 public:
  static constexpr int kExitInterrupted = 128 + SIGINT;

  // Construct before any other thread starts: threads inherit the signal mask.
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // From now on a Ctrl-C calls `end`, once, on another thread.
  void Guard(std::function<void()> end);
  // Ends the guard; once this returns, `end` is not running. Returns whether there was a Ctrl-C.
  bool Release();

 private:
  void Listen();

  sigset_t set_;
  std::mutex mutex_;  // guards what follows
  std::function<void()> end_;
  bool guarding_ = false, interrupted_ = false, closing_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace baram::server

#endif  // BARAM_SERVER_INTERRUPTS_H_
