// ScarceThreads: makes thread creation fail, as a system limit would.
#ifndef BARAM_TESTS_SCARCE_THREADS_H_
#define BARAM_TESTS_SCARCE_THREADS_H_

namespace baram::testing {

// While it lives only `left` more threads can be created. One instance at a time.
class ScarceThreads {
 public:
  explicit ScarceThreads(int left);
  ~ScarceThreads();
  ScarceThreads(const ScarceThreads&) = delete;
};

// The number of threads of this process.
int ThreadCount();
// Waits, for a while, until the process has `count` threads: a joined one is still counted briefly.
bool ThreadsBecome(int count);

}  // namespace baram::testing

#endif  // BARAM_TESTS_SCARCE_THREADS_H_
