// baram serve, the program: how it refuses what it can't serve, and how it ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "server/json_fields.h"
#include "tests/model/scratch_folder.h"
#include "tests/server/program.h"
#include "tests/server/tiny_folder.h"

namespace baram::testing {
namespace {

using server::Json;

class ServeTest : public ::testing::Test {
 protected:
  // The command, on free ports.
  std::string Serve(const std::string& more = "") const {
    return "$BARAM serve --grpc-listen 127.0.0.1:0 --http-listen off --metrics-listen off "
           "--model " +
           model_.path() + more;
  }
  // Waits until the file `log` holds `word`.
  std::string Await(const std::string& word, const std::string& log) const {
    return "; for i in $(seq 200); do grep -q " + word + " " + log + " && break; sleep 0.1; done";
  }

  TinyFolder model_;
  ScratchFolder scratch_;
};

TEST_F(ServeTest, ASecondSignalLeavesALineOfTheLog) {
  const std::string log = scratch_.Write("log", "");
  const Ran ran =
      RunShell(Serve(" --log-format json --drain-delay 30 2> " + log) + " & serve=$!" +
               Await("ready", log) + "; kill $serve" + Await("stopping", log) +
               "; kill $serve; wait $serve; code=$?; tail -n 1 " + log + "; exit $code");
  EXPECT_EQ(ran.code, 143) << ran.output;
  const Json line = Json::parse(ran.output, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(line.is_object()) << ran.output;
  EXPECT_EQ(line["level"], "warning");
  EXPECT_EQ(line["message"], "stopped at once by a signal");
}

}  // namespace
}  // namespace baram::testing
