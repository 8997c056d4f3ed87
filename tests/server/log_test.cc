// The log's two formats: sentences for people, and JSON objects with structured fields.
#include "server/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <regex>
#include <string>
#include <thread>

#include "server/call_log.h"
#include "server/errors.h"
#include "server/text_pool.h"

namespace baram::server {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

// What `write` logs in that format.
template <typename Write>
std::string Logged(const std::string& format, Write write) {
  ::testing::internal::CaptureStderr();
  SetUpLog(format, "info");
  write();
  EXPECT_TRUE(FlushLog());
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
  EXPECT_THAT(Logged("text", LogCall),
              MatchesRegex("[0-9]+-[0-9]+-[0-9]+T[0-9]+:[0-9]+:[0-9.]+[-+][0-9]+:[0-9]+ info "
                           "call Generate OK id=7 ms=1.5\n"));
}

TEST(LogTest, AnySentenceIsOneLineOfJson) {
  const std::string logged = Logged("json", [] { spdlog::warn("a \"b\"\n\\ {} \xff", "한"); });
  EXPECT_EQ(logged.find('\n'), logged.size() - 1);
  EXPECT_THAT(std::string(Json::parse(logged)["message"]), HasSubstr("a \"b\"\n\\ 한"));
}

// The format that every reader of the log knows, without its thread.
TEST(LogTest, ALinePastTheLogLooksLikeOneOfIt) {
  const auto past = [] { LogUnqueued("stopped at once by a signal"); };
  const auto usual = [] { spdlog::warn("stopped at once by a signal"); };
  const auto without_time = [](const std::string& line) {
    return std::regex_replace(line, std::regex("[0-9-]+T[0-9:.]+"), "...");
  };
  for (const char* format : {"text", "json"}) {
    const std::string line = Logged(format, past);
    EXPECT_EQ(without_time(line), without_time(Logged(format, usual)));
    EXPECT_THAT(line,
                MatchesRegex(".*[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]"
                             "\\.[0-9]{3}.*\n"));
  }
}

TEST(LogTest, WhatAFullDiskDoesNotTakeIsCounted) {
  const int kept = dup(STDERR_FILENO);
  const int full = open("/dev/full", O_WRONLY);
  ASSERT_GE(full, 0);
  const auto lost_of = [](int to) {
    dup2(to, STDERR_FILENO);
    SetUpLog("text", "info");
    const uint64_t before = LostLogLines();
    for (int i = 0; i < 3; ++i) spdlog::info("a line");
    EXPECT_TRUE(FlushLog());
    return LostLogLines() - before;
  };
  EXPECT_EQ(lost_of(full), 3u);
  EXPECT_EQ(lost_of(kept), 0u);
  close(full);
  close(kept);
}

TEST(LogTest, NobodyWaitsForAReaderThatStandsStill) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const int kept = dup(STDERR_FILENO);
  dup2(ends[1], STDERR_FILENO);
  SetUpLog("text", "info");
  const uint64_t before = LostLogLines();
  for (int i = 0; i < 20000; ++i) spdlog::info("a line that nobody reads, number {}", i);
  EXPECT_GT(LostLogLines(), before);
  EXPECT_FALSE(FlushLog());
  std::thread reader([&] {
    char bytes[4096];
    while (read(ends[0], bytes, sizeof(bytes)) > 0) continue;
  });
  EXPECT_TRUE(FlushLog());
  dup2(kept, STDERR_FILENO);
  close(kept);
  close(ends[1]);
  reader.join();
  close(ends[0]);
}

class CallLogTest : public ::testing::Test {
 protected:
  const EngineInfo info_;
  const Stats stats_{1, 1};
  const TextPool texts_{/*threads=*/1, /*max_queued=*/1};
  Metrics metrics_{info_, stats_, texts_, "tiny"};
  CallLog log_{metrics_};
};

// In both formats; for a call that never ran, only what is known.
TEST_F(CallLogTest, ACallsLineTellsWhatItUsed) {
  CallRecord ran, refused;
  ran.method = "Generate";
  ran.request_id = "7";
  ran.peer = "[::1]:9";
  ran.code = "OK";
  ran.reason = "stop";
  ran.usage.prompt_tokens = 20;
  ran.usage.cached_tokens = 16;
  ran.usage.completion_tokens = 3;
  ran.usage.first_token_s = 1.25;
  ran.total_s = 2.25;
  refused.method = "/v1/models";
  refused.code = "404";
  const auto record = [&] {
    log_.Record(ran);
    log_.RecordHttp(ran, 200, HttpEnd::kSent);
    log_.RecordHttp(ran, 200, HttpEnd::kGone);
    log_.RecordHttp(ran, 200, HttpEnd::kSlow);
    log_.Record(refused);
  };
  const std::string used =
      " id=7 peer=[::1]:9 prompt=20 cached=16 completion=3 first_ms=1250.0 ms=2250.0\n";
  const std::string text = Logged("text", record);
  for (const std::string call : {"OK stop", "200 stop", "499", "408 SLOW_READER"}) {
    EXPECT_THAT(text, HasSubstr("call Generate " + call + used));
  }
  EXPECT_THAT(text, HasSubstr("call /v1/models 404 ms=0.0\n"));
  std::string json = Logged("json", record);
  json.resize(json.find('\n'));
  Json facts = Json::parse(json);
  facts.erase("time");
  EXPECT_EQ(facts,
            Json::parse(R"({"level":"info","message":"call","method":"Generate",)"
                        R"("code":"OK","reason":"stop","id":"7","peer":"[::1]:9","prompt":20,)"
                        R"("cached":16,"completion":3,"first_ms":1250.0,"ms":2250.0})"));
}

TEST_F(CallLogTest, ARefusedCallTellsItsFieldInTheLogAlone) {
  CallRecord record;
  record.method = "Generate";
  record.code = "INVALID_ARGUMENT";
  record.SetError(InvalidField("sampling.top_p", "No prompt is told."));
  const auto call = [&] { log_.Record(record); };
  EXPECT_THAT(Logged("text", call),
              HasSubstr(" call Generate INVALID_ARGUMENT INVALID_FIELD field=sampling.top_p ms="));
  const Json line = Json::parse(Logged("json", call));
  EXPECT_EQ(line["reason"], "INVALID_FIELD");
  EXPECT_EQ(line["field"], "sampling.top_p");
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("code=\"INVALID_ARGUMENT\",reason=\"INVALID_FIELD\"} 2\n"));
}

TEST_F(CallLogTest, AnOverloadTellsItsLimitToTheOperator) {
  CallRecord record;
  record.method = "Generate";
  record.code = "RESOURCE_EXHAUSTED";
  record.SetError(TooManyTexts());
  const auto call = [&] { log_.Record(record); };
  EXPECT_THAT(Logged("text", call),
              HasSubstr("RESOURCE_EXHAUSTED SERVER_OVERLOADED limit=text-queue ms="));
  EXPECT_EQ(Json::parse(Logged("json", call))["limit"], "text-queue");
  EXPECT_THAT(metrics_.Text(), HasSubstr("limit=\"max-queued-tokens\"} 0\n"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("limit=\"text-queue\"} 2\n"));
}

TEST_F(CallLogTest, AFloodOfRefusedConnectionsIsALineASecond) {
  const SteadyTime start = std::chrono::steady_clock::now();
  const auto refuse = [&](int count, std::chrono::milliseconds at) {
    for (int i = 0; i < count; ++i) log_.RecordRefused("grpc", "UNAVAILABLE", "WHY", start + at);
  };
  using std::chrono::milliseconds;
  const std::string logged = Logged("text", [&] {
    refuse(1000, milliseconds(0));
    refuse(500, milliseconds(999));
    refuse(1, milliseconds(1000));
    log_.RecordRefused("http", "503", "WHY", start);
  });
  EXPECT_EQ(std::count(logged.begin(), logged.end(), '\n'), 3) << logged;
  EXPECT_THAT(logged, HasSubstr("refused grpc UNAVAILABLE WHY connections=1\n"));
  EXPECT_THAT(logged, HasSubstr("refused grpc UNAVAILABLE WHY connections=1500\n"));
  EXPECT_THAT(logged, HasSubstr("refused http 503 WHY connections=1\n"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("code=\"UNAVAILABLE\",reason=\"WHY\"} 1501\n"));
}

}  // namespace
}  // namespace baram::server
