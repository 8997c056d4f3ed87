// A process that gets no thread says so; one that ends otherwise is not mistaken for it.
#include "server/thread_limit.h"

#include <csignal>
#include <stdexcept>
#include <thread>

#include "gtest/gtest.h"
#include "server/exit_codes.h"
#include "tests/scarce_threads.h"

namespace baram::server {
namespace {

void StartThread() {
  const baram::testing::ScarceThreads none(0);
  std::thread([] {}).join();
}
void ThrowAnother() { throw std::runtime_error("another"); }

// GoogleTest would catch what is thrown; nobody in `baram` does.
void EndBy(void (*body)()) noexcept {
  TellOfThreadLimit();
  body();
}

TEST(ThreadLimitDeathTest, EndsInASentence) {
  EXPECT_EXIT(EndBy(StartThread), ::testing::ExitedWithCode(kExitOs),
              "no further thread: raise the limit");
}

TEST(ThreadLimitDeathTest, OtherEndsStayWhatTheyAre) {
  EXPECT_EXIT(EndBy(ThrowAnother), ::testing::KilledBySignal(SIGABRT), "another");
}

}  // namespace
}  // namespace baram::server
