// Texts that wait to be read while their client disconnects, their time runs out or the server
// stops.
#include <future>

#include "absl/strings/str_cat.h"
#include "tests/server/openai_flow_fixture.h"

namespace baram::testing {
namespace {

using server::Json;
using server::RawRequest;
using server::RawResponse;
using server::TextPool;

// Of the text pool's two threads, long texts use one.
class TextQueueTest : public OpenAiFlowFixture {
 protected:
  void SetUp() override {
    StartServer([](server::Config& config) {
      config.text_threads = 2;
      config.http_threads = 1;
    });
    Hold(TextPool::kLongBytes + 1);
  }
  void Hold(size_t bytes) { HoldTextPool(go_, bytes); }
  void Release() { held_.set_value(); }
  void AwaitWaiting(int64_t texts) {
    while (server().text_pool().waiting() < texts) std::this_thread::yield();
  }
  uint64_t accepted() { return server().engine().stats().accepted.value(); }
  // A call with few tokens, whose body is larger than what the listener's threads parse.
  static std::string LongPost(const std::string& headers = "") {
    const std::string user(TextPool::kLongBytes, 'u');
    return Post(absl::StrCat(R"({"prompt":"b","max_tokens":1,"user":")", user, "\"}"), headers);
  }

 private:
  std::promise<void> held_;
  const std::shared_future<void> go_ = held_.get_future().share();
};

TEST_F(TextQueueTest, NothingIsReadForWhoHasGone) {
  Hold(0);
  const auto post = Send(Post(R"({"prompt":"b","max_tokens":1})"));
  const auto long_post = Send(LongPost());
  AwaitWaiting(2);
  post->Reset();
  long_post->Reset();
  // What has reached the listener by now is processed before what comes two requests later.
  for (int i = 0; i < 2; ++i) EXPECT_EQ(Ask(RawRequest("GET", "/load", "", "")).status, 200);
  Release();
  AwaitIdle();
  EXPECT_EQ(accepted(), 0u);
  // They are counted once sending their answers has failed.
  EXPECT_TRUE(Comes([&] {
    return server().metrics().Text().find(R"("/v1/completions",code="499",reason=""} 2)") !=
           std::string::npos;
  }));
}

// gRPC delivers a cancellation in its own time: sometimes before the text's turn.
TEST_F(TextQueueTest, NothingIsReadForAStreamThatIsCancelled) {
  EXPECT_TRUE(Comes([&] {
    std::promise<void> held;
    HoldTextPool(held.get_future().share());
    grpc::ClientContext context;
    const auto stream = inference().Generate(&context, TextRequest("b", 1));
    AwaitWaiting(1);
    const uint64_t before = accepted();
    context.TryCancel();
    EXPECT_FALSE(stream->Finish().ok());
    Load();  // a round trip, so that the server may have noticed
    held.set_value();
    // One thread is left, so what waited is done once another text has had its turn.
    std::promise<void> go;
    go.set_value();
    HoldTextPool(go.get_future().share());
    AwaitIdle();
    return accepted() == before;
  }));
  Release();
}

// It is short, but takes long to parse: the listener's threads do not look into it.
TEST_F(TextQueueTest, ABodyOfManyPartsWaitsToo) {
  Hold(0);
  std::string parts = "{}";
  for (int i = 0; i < 5000; ++i) parts += ",{}";
  const auto post = Send(Post(absl::StrCat(R"({"max_tokens":1,"prompt":[)", parts, "]}")));
  EXPECT_TRUE(Comes([&] { return server().text_pool().waiting() == 1; }));
  Release();
  EXPECT_EQ(post->Read().status, 400);
}

TEST_F(TextQueueTest, ADeadlineEndsWhatWaits) {
  const std::string deadline = "X-Request-Timeout: 0.2\r\n";
  const auto post = Send(LongPost(deadline));
  const auto tokenize = Send(RawRequest(
      "POST", "/tokenize", R"({"prompt":")" + std::string(TextPool::kLongBytes, 'u') + "\"}",
      "Content-Type: application/json\r\n" + deadline));
  for (const auto& client : {post.get(), tokenize.get()}) {
    const RawResponse response = client->Read();  // while the thread for long texts is busy
    EXPECT_EQ(response.status, 504);
    EXPECT_EQ(Json::parse(response.body)["error"]["type"], "TimeoutError");
  }
  EXPECT_EQ(accepted(), 0u);
  Release();
}

TEST_F(TextQueueTest, AStopRefusesWhatWaits) {
  Hold(0);
  const auto post = Send(Post(R"({"prompt":"b","max_tokens":1})"));
  const auto long_post = Send(LongPost());
  const auto tokenize = Send(
      RawRequest("POST", "/tokenize", R"({"prompt":"b"})", "Content-Type: application/json\r\n"));
  AwaitWaiting(3);
  std::thread stop(
      [&] { server().Stop(std::chrono::steady_clock::now() + std::chrono::hours(1)); });
  while (server().lifecycle().accepting()) std::this_thread::yield();
  Release();
  for (const auto& client : {post.get(), long_post.get(), tokenize.get()}) {
    const RawResponse response = client->Read();
    EXPECT_EQ(response.status, 503);
    EXPECT_EQ(response.headers.count("retry-after"), 1u);
  }
  stop.join();
  EXPECT_EQ(accepted(), 0u);
}

TEST_F(TextQueueTest, WhatIsReadOrWaitsForItCountsAsLoad) {
  Hold(0);
  const int64_t held = server().text_pool().unfinished();
  EXPECT_GT(held, 0);
  const auto post = Send(Post(R"({"prompt":"b","max_tokens":1})"));
  AwaitWaiting(1);
  EXPECT_EQ(Json::parse(Ask(RawRequest("GET", "/load", "", "")).body)["server_load"], held + 1);
  Release();
  EXPECT_EQ(post->Read().status, 200);
  EXPECT_TRUE(Comes([&] {
    return Json::parse(Ask(RawRequest("GET", "/load", "", "")).body)["server_load"] == 0;
  }));
}

}  // namespace
}  // namespace baram::testing
