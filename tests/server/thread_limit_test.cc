// A process that gets no thread says so; one that ends otherwise is not mistaken for it.
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

// GoogleTest would catch what is thrown; nobody in `baram` does.
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

// gRPC ends the process by itself where it gets no thread: its words are all there is.
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
