// What may be shown on a terminal.
#include "server/terminal_text.h"

#include <gtest/gtest.h>

#include <string>

namespace baram::server {
namespace {

using namespace std::string_literals;

TEST(TerminalTextTest, ShowsWhatWouldSteer) {
  // Clipboard, title, and clearing the screen, in both forms of CSI.
  EXPECT_EQ(ForTerminal("a\x1b]52;c;aGk=\ab"), "a\\u001b]52;c;aGk=\\u0007b");
  EXPECT_EQ(ForTerminal("\x1b]0;title\x1b\\"), "\\u001b]0;title\\u001b\\");
  EXPECT_EQ(ForTerminal("\u009b2J\x1b[2J"), "\\u009b2J\\u001b[2J");
  EXPECT_EQ(ForTerminal("\u0080\u009f\x7f\0"s), "\\u0080\\u009f\\u007f\\u0000");
  // By itself it allows a line to be overwritten.
  EXPECT_EQ(ForTerminal("rm -rf ~\rls"), "rm -rf ~\\u000dls");
}

TEST(TerminalTextTest, LeavesTheRestAsItIs) {
  for (const char* text :
       {"", "one\n\ttwo\n", "바람이 분다 🙂", "\u00a0 \\u001b", "\xc2\xa9"}) {
    EXPECT_EQ(ForTerminal(text), text);
  }
}

// Even if two texts together would form one: neither byte reaches the terminal.
TEST(TerminalTextTest, ShowsBytesThatAreNoCharacter) {
  EXPECT_EQ(ForTerminal("\x9bz"), "\\x9bz");
  EXPECT_EQ(ForTerminal("\xc2") + ForTerminal("\x9b"), "\\xc2\\x9b");
  EXPECT_EQ(ForTerminal("\xed\x95\n\xc2\x1b"), "\\xed\\x95\n\\xc2\\u001b");
  EXPECT_EQ(ForTerminal("\xc0\x9b"), "\\xc0\\x9b");  // overlong
}

}  // namespace
}  // namespace baram::server
