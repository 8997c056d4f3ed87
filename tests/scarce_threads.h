// ScarceThreads: makes the creation of threads fail, as under a limit of the system's.
#ifndef BARAM_TESTS_SCARCE_THREADS_H_
#define BARAM_TESTS_SCARCE_THREADS_H_

namespace baram::testing {

// While it lives only `left` more threads can be created. One at a time.
class ScarceThreads {
 public:
  explicit ScarceThreads(int left);
  ~ScarceThreads();
  ScarceThreads(const ScarceThreads&) = delete;
};

// How many threads this process has.
int ThreadCount();
// Waits until it has so many, for a while: one that was joined is counted for a moment yet.
bool ThreadsBecome(int count);

}  // namespace baram::testing

#endif  // BARAM_TESTS_SCARCE_THREADS_H_
