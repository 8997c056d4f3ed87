// The log's two forms: sentences for people, and JSON objects whose facts are fields.
#include "server/log.h"

#include <gmock/gmock.h>
#include <spdlog/spdlog.h>

#include <string>

namespace baram::server {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

// What `write` logs in that form.
template <typename Write>
std::string Logged(const std::string& format, Write write) {
  ::testing::internal::CaptureStderr();
  SetUpLog(format, "info");
  write();
  SetUpLog("text", "info");
  return ::testing::internal::GetCapturedStderr();
}

void LogCall() { LogFacts("call Generate OK id=7 ms=1.5", "call", {{"id", "7"}, {"ms", 1.5}}); }

TEST(LogTest, FactsAreFieldsOfJson) {
  const Json line = Json::parse(Logged("json", LogCall));
  EXPECT_EQ(line["level"], "info");
  EXPECT_EQ(line["message"], "call");
  EXPECT_EQ(line["id"], "7");
  EXPECT_EQ(line["ms"], 1.5);
  EXPECT_THAT(std::string(line["time"]), EndsWith("Z"));
}

TEST(LogTest, PeopleReadTheSentence) {
  EXPECT_THAT(Logged("text", LogCall), EndsWith(" call Generate OK id=7 ms=1.5\n"));
}

TEST(LogTest, AnySentenceIsOneLineOfJson) {
  const std::string logged = Logged("json", [] { spdlog::warn("a \"b\"\n\\ {} \xff", "한"); });
  EXPECT_EQ(logged.find('\n'), logged.size() - 1);
  EXPECT_THAT(std::string(Json::parse(logged)["message"]), HasSubstr("a \"b\"\n\\ 한"));
}

}  // namespace
}  // namespace baram::server
