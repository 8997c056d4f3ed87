// A process that can't create a thread says so; one that ends for another reason is not mistaken
// for it.
#include "server/thread_limit.h"

#include <grpc/support/log.h>

#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "gtest/gtest.h"
#include "server/exit_codes.h"
#include "server/library_log.h"
#include "tests/scarce_threads.h"

namespace baram::server {
namespace {

void StartThread() {
  const baram::testing::ScarceThreads none(0);
  std::thread([] {}).join();
}
void ThrowAnother() { throw std::runtime_error("another"); }

// GoogleTest would catch the exception; `baram` does not.
void EndBy(void (*body)()) noexcept {
  ExplainThreadLimit();
  body();
}

TEST(ThreadLimitDeathTest, EndsInASentence) {
  EXPECT_EXIT(EndBy(StartThread), ::testing::ExitedWithCode(kExitOs),
              "no further thread: raise the limit");
}

TEST(ThreadLimitDeathTest, OtherEndsStayWhatTheyAre) {
  EXPECT_EXIT(EndBy(ThrowAnother), ::testing::KilledBySignal(SIGABRT), "another");
}

// gRPC aborts the process itself if it can't create a thread: its log lines are all there is.
TEST(ThreadLimitDeathTest, WhereALibraryAbortsItsErrorsAreTold) {
  const auto abort_as_grpc = [] {
    RedirectLibraryLogs();
    gpr_set_log_verbosity(GPR_LOG_SEVERITY_INFO);  // gRPC sets it when it starts
    gpr_log(GPR_ERROR, "no worker-thread");
    gpr_log(GPR_INFO, "beside the point");
    gpr_log(GPR_ERROR, "assertion failed: \"it\"");
    std::abort();
  };
  EXPECT_EXIT(abort_as_grpc(), ::testing::KilledBySignal(SIGABRT),
              " critical gRPC: no worker-thread\n"
              ".* critical gRPC: assertion failed: 'it'\n");
}

}  // namespace
}  // namespace baram::server
