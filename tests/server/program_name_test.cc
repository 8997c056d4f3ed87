// The program's name in example commands.
#include "server/program_name.h"

#include <gtest/gtest.h>

namespace baram::server {
namespace {

TEST(ProgramNameTest, IsOneWordOfACommandLine) {
  EXPECT_EQ(ProgramName("baram"), "baram");
  EXPECT_EQ(ProgramName("build/release/baram-0.1_x"), "build/release/baram-0.1_x");
  EXPECT_EQ(ProgramName("/opt/my tools/baram"), "'/opt/my tools/baram'");
  EXPECT_EQ(ProgramName("it's/$HOME/baram"), "'it'\\''s/$HOME/baram'");
  EXPECT_EQ(ProgramName(""), "baram");
  EXPECT_EQ(ProgramName(nullptr), "baram");
}

TEST(ProgramNameTest, StandsInExamples) {
  EXPECT_EQ(WithProgram("$0 ask, or: $0 serve\n", "./baram"), "./baram ask, or: ./baram serve\n");
}

}  // namespace
}  // namespace baram::server
