// How gRPC, as this server configures it, treats hostile clients.
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/server/http2_frames.h"
#include "tests/server/http_client.h"
#include "tests/server/peak_memory.h"
#include "tests/server/server_fixture.h"

namespace baram::testing {
namespace {

using ::testing::HasSubstr;

class GrpcHostileTest : public ServerFixture {};

// A call from its headers to the end of its message.
std::string WholeCall(uint32_t stream, const std::string& method, const std::string& message) {
  std::string body = MessagePrefix(message.size()) + message;
  std::string frames = CallHeaders(stream, method);
  for (; body.size() > kMaxFrameBytes; body.erase(0, kMaxFrameBytes)) {
    frames += Frame(kDataFrame, 0, stream, body.substr(0, kMaxFrameBytes));
  }
  return frames + Frame(kDataFrame, kEndStream, stream, body);
}

// A client that starts calls and never ends them.
class HalfSender {
 public:
  explicit HalfSender(const std::string& address) : client_(address) { client_.Send(Preface()); }

  // Sends the first `bytes` bytes, less than a stream's initial window, of a call with a message of
  // `message` bytes. False if the server does not accept them: it has ended a call, or its window
  // stays closed.
  bool Send(size_t bytes, size_t message) {
    const uint32_t stream = std::exchange(next_stream_, next_stream_ + 2);
    if (!client_.Send(CallHeaders(stream, "Generate"))) return false;
    std::string rest = MessagePrefix(message) + std::string(bytes, '\0');
    while (!rest.empty()) {
      const size_t part = std::min(rest.size(), kMaxFrameBytes);
      if (!Opens(part)) return false;
      if (!client_.Send(Frame(kDataFrame, 0, stream, rest.substr(0, part)))) return false;
      window_ -= part;
      rest.erase(0, part);
    }
    return true;
  }

 private:
  // Whether the connection's window admits `bytes`. The acknowledgment of settings shows that the
  // server has seen everything.
  bool Opens(size_t bytes) {
    constexpr int kRounds = 20;
    for (int round = 0; window_ < bytes || round == 0; ++round) {
      if (round == kRounds) return false;
      client_.Send(Frame(kSettingsFrame, 0, 0, ""));
      while (true) {
        const std::string head = Read(9);
        if (head.size() < 9) return false;
        const std::string payload = Read(Number(head.substr(0, 3)));
        const char type = head[3];
        const bool ack = (head[4] & kAck) != 0;
        if (type == kResetFrame) return false;
        if (type == kSettingsFrame && ack) break;
        if (type == kSettingsFrame) client_.Send(Frame(type, kAck, 0, ""));
        if (type == kPingFrame && !ack) client_.Send(Frame(type, kAck, 0, payload));
        if (type == kWindowFrame && Number(head.substr(5, 4)) == 0) window_ += Number(payload);
      }
    }
    return true;
  }
  std::string Read(size_t count) {
    while (received_.size() < count && client_.ReadSome(1 << 16, &received_) > 0) {
    }
    std::string bytes = received_.substr(0, count);
    received_.erase(0, count);
    return bytes;
  }
  static size_t Number(const std::string& bytes) {
    size_t value = 0;
    for (const char byte : bytes) value = value << 8 | static_cast<unsigned char>(byte);
    return value;
  }

  server::RawClient client_;
  std::string received_;
  size_t window_ = kFirstWindow;
  uint32_t next_stream_ = 1;
};

// They have no deadline, as no call has started; what they hold is bounded, whoever else sends
// some. Past its own limit gRPC would end calls of any client.
TEST_F(GrpcHostileTest, HalfSentRequestsOfOneClientCostNoOther) {
  constexpr size_t kHalf = 60'000, kLimit = 128 << 20;
  StartServer([](server::Config& config) {
    config.max_body_bytes = 64 << 10;
    config.max_streams = 4096;
  });
  HalfSender modest(server().grpc_address()), greedy(server().grpc_address());
  EXPECT_TRUE(modest.Send(kHalf, kHalf + 1));
  size_t taken = 0;
  while (taken < 2 * kLimit && greedy.Send(kHalf, kHalf + 1)) taken += kHalf;
  EXPECT_GT(taken, kLimit / 2);
  EXPECT_LT(taken, kLimit);
  EXPECT_TRUE(Comes([&] {
    return server().metrics().Text().find("reason=\"TOO_MANY_HALF_SENT\"} 1\n") !=
           std::string::npos;
  }));
  EXPECT_TRUE(modest.Send(kHalf, kHalf + 1));
  EXPECT_TRUE(Stream(TextRequest("hello", 4)).status.ok());
}

// What RELIABILITY.md tells clients about keepalive.
TEST_F(GrpcHostileTest, PingsWithoutEndEndTheConnection) {
  StartServer();
  server::RawClient client(server().grpc_address());
  AcknowledgeSettings(client);
  // The first may come at any time; two that come too early are tolerated.
  for (int ping = 0; ping < 4; ++ping) client.Send(Frame(kPingFrame, 0, 0, BigEndian(ping, 8)));
  const auto answer = [](int ping) { return Frame(kPingFrame, kAck, 0, BigEndian(ping, 8)); };
  std::string received;
  while (received.find(answer(3)) == std::string::npos && client.ReadSome(1 << 16, &received) > 0) {
  }
  EXPECT_THAT(received, HasSubstr(answer(2)));
  EXPECT_THAT(received, HasSubstr("too_many_pings"));
}

// gRPC 1.51 accumulates them until the process runs out of memory.
TEST_F(GrpcHostileTest, HeadersWithoutEndEndTheirConnection) {
  StartServer();
  const std::string entry =
      BigEndian(0, 1) + BigEndian(1, 1) + "a" + BigEndian(100, 1) + std::string(100, 'b');
  std::string entries;
  for (int i = 0; i < 100; ++i) entries += entry;
  server::RawClient client(server().grpc_address());
  client.Send(Preface() + Frame(kHeadersFrame, 0, 1, ""));
  size_t sent = 0;
  while (sent < size_t{64} << 20 && client.Send(Frame(kContinuationFrame, 0, 1, entries))) {
    sent += entries.size();
  }
  EXPECT_LT(sent, size_t{64} << 20);
  EXPECT_TRUE(Comes([&] {
    return server().metrics().Text().find("reason=\"HEADERS_TOO_LARGE\"") != std::string::npos;
  }));
  EXPECT_TRUE(Stream(TextRequest("hello", 4)).status.ok());
}

TEST_F(GrpcHostileTest, MetadataMayBeAsLargeAsTheSettingSays) {
  StartServer([](server::Config& config) { config.max_header_bytes = 60 << 10; });
  grpc::ClientContext context;
  context.AddMetadata("x-much", std::string(56 << 10, 'm'));
  const grpc::Status status = Stream(TextRequest("hello", 4), context).status;
  EXPECT_TRUE(status.ok()) << status.error_message();
}

// A client may cancel what it runs; one that starts calls only to reset them is disconnected. gRPC
// 1.51 keeps accepting them while earlier ones wait to be cleaned up.
TEST_F(GrpcHostileTest, CallsBegunToBeResetEndTheirConnection) {
  StartServer();
  server::RawClient client(server().grpc_address());
  AcknowledgeSettings(client);
  uint32_t stream = 1;
  const auto begin_and_reset = [&] {
    const bool sent = client.Send(CallHeaders(stream, "Generate") +
                                  Frame(kResetFrame, 0, stream, BigEndian(8, 4)));
    stream += 2;
    return sent;
  };
  for (int i = 0; i < 3 * 256; ++i) EXPECT_TRUE(begin_and_reset());
  client.Send(Frame(kPingFrame, 0, 0, BigEndian(5, 8)));
  std::string received;
  while (received.find(BigEndian(5, 8)) == std::string::npos &&
         client.ReadSome(1 << 16, &received)) {
  }
  EXPECT_THAT(received, HasSubstr(BigEndian(5, 8)));
  for (int i = 0; i < 10'000 && begin_and_reset(); ++i) {
  }
  EXPECT_TRUE(Comes([&] {
    return server().metrics().Text().find("reason=\"TOO_MANY_RESETS\"") != std::string::npos;
  }));
  EXPECT_TRUE(Stream(TextRequest("hello", 4)).status.ok());
}

// gRPC 1.51 limits calls by its SETTINGS only once the client has acknowledged them: here it never
// does.
TEST_F(GrpcHostileTest, CallsOfWhoAcknowledgesNothingEndTheirConnection) {
  StartServer();
  server::RawClient client(server().grpc_address());
  client.Send(Preface());
  // All of it may fit into the sockets' buffers before the server reads.
  for (int call = 0; call < 20'000; ++call) {
    if (!client.Send(CallHeaders(2 * call + 1, "GenerateOnce"))) break;
  }
  EXPECT_TRUE(Comes([&] {
    return server().metrics().Text().find("reason=\"TOO_MANY_STREAMS\"") != std::string::npos;
  }));
  EXPECT_TRUE(Comes([&] { return server().grpc().connections() == 0; }));
  EXPECT_TRUE(Stream(TextRequest("hello", 4)).status.ok());
}

// After the acknowledgment gRPC does so itself.
TEST_F(GrpcHostileTest, CallsAboveTheLimitEndTheirConnection) {
  StartServer([](server::Config& config) { config.max_streams = 8; });
  server::RawClient client(server().grpc_address());
  AcknowledgeSettings(client);
  for (uint32_t call = 0; call < 8; ++call) {
    EXPECT_TRUE(client.Send(CallHeaders(2 * call + 1, "GenerateOnce")));
  }
  client.Send(Frame(kPingFrame, 0, 0, BigEndian(5, 8)));
  std::string received;
  while (received.find(BigEndian(5, 8)) == std::string::npos &&
         client.ReadSome(1 << 16, &received) > 0) {
  }
  EXPECT_THAT(received, HasSubstr(BigEndian(5, 8)));
  client.Send(CallHeaders(2 * 8 + 1, "GenerateOnce"));
  while (client.ReadSome(1 << 16, &received) > 0) {
  }
  EXPECT_THAT(received, HasSubstr("Failed parsing HTTP/2"));
  EXPECT_TRUE(Stream(TextRequest("hello", 4)).status.ok());
}

// Each is within its own limits; together they are too many, and cost no other client a call.
TEST_F(GrpcHostileTest, HalfSentCallsOfAllConnectionsAreBounded) {
  StartServer();
  std::vector<std::unique_ptr<server::RawClient>> clients;
  for (int i = 0; i < 50; ++i) {
    clients.push_back(std::make_unique<server::RawClient>(server().grpc_address()));
    AcknowledgeSettings(*clients.back());
    std::string calls;
    for (uint32_t call = 0; call < 250; ++call) calls += CallHeaders(2 * call + 1, "GenerateOnce");
    clients.back()->Send(calls);
  }
  EXPECT_TRUE(Comes([&] {
    return server().metrics().Text().find("reason=\"TOO_MANY_HALF_SENT\"") != std::string::npos;
  }));
  EXPECT_GE(server().grpc().connections(), 16);  // 4000 calls
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(Stream(TextRequest("hello", 4)).status.ok());
}

// A sender can turn two bytes into about 60 of memory each.
TEST_F(GrpcHostileTest, UnknownFieldsAreNotKeptWhileACallRuns) {
  StartServer();
  constexpr int kFields = 200'000;
  v1::GenerateRequest request = TextRequest("hello", 400);
  auto* unknown = request.GetReflection()->MutableUnknownFields(&request);
  for (int i = 0; i < kFields; ++i) unknown->AddLengthDelimited(15, "");
  const int64_t before = LiveBytes();
  grpc::ClientContext context;
  const auto stream = inference().Generate(&context, request);
  v1::GenerateResponse first;
  ASSERT_TRUE(stream->Read(&first));
  EXPECT_LT(LiveBytes() - before, 20 * kFields);
  context.TryCancel();
  while (stream->Read(&first)) {
  }
  (void)stream->Finish();
}

// Nor while its answer waits to be read.
TEST_F(GrpcHostileTest, UnknownFieldsAreNotKeptWithAnAnswer) {
  StartServer();
  constexpr int kFields = 30'000;
  v1::ListModelsRequest request;
  auto* unknown = request.GetReflection()->MutableUnknownFields(&request);
  for (int i = 0; i < kFields; ++i) unknown->AddLengthDelimited(15, "");
  server::RawClient client(server().grpc_address());
  AcknowledgeSettings(client);
  const int64_t before = LiveBytes();
  client.Send(Frame(kSettingsFrame, 0, 0, BigEndian(4, 2) + BigEndian(0, 4)) +
              WholeCall(1, "ListModels", request.SerializeAsString()));
  std::string received;
  while (received.find("application/grpc") == std::string::npos &&
         client.ReadSome(1 << 16, &received) > 0) {
  }
  EXPECT_LT(LiveBytes() - before, 20 * kFields);
  EXPECT_EQ(Counted("method=\"ListModels\"").calls, 0) << "it has not ended";
}

// A few KiB of gzip can expand without limit, and gRPC would inflate them before any check.
TEST_F(GrpcHostileTest, CompressedMessagesAreRefused) {
  StartServer();
  for (const auto algorithm : {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
    grpc::ChannelArguments arguments;
    arguments.SetCompressionAlgorithm(algorithm);
    const auto stub = v1::Inference::NewStub(NewChannel(arguments));
    grpc::ClientContext context;
    v1::GenerateOnceResponse response;
    const grpc::Status status =
        stub->GenerateOnce(&context, TextRequest(std::string(32 << 20, ' '), 1), &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr("is disabled"));
  }
  EXPECT_TRUE(Stream(TextRequest("hello", 4)).status.ok());
}

// Other errors are found only after copying: that they are not reported shows that no copy was
// made.
TEST_F(GrpcHostileTest, ListsAreMeasuredBeforeTheyAreCopied) {
  StartServer();
  struct Row {
    const char* told;
    std::function<void(v1::GenerateRequest&)> fill;
  };
  for (const Row& row :
       std::vector<Row>{{"metadata has 80000 entries",
                         [](auto& request) {
                           for (int i = 0; i < 80'000; ++i) {
                             (*request.mutable_metadata())[std::to_string(i)] = "";
                           }
                         }},
                        {"sampling.logit_bias has 80000 entries",
                         [](auto& request) {
                           auto& bias = *request.mutable_sampling()->mutable_logit_bias();
                           for (uint32_t id = 0; id < 80'000; ++id) bias[id] = 1;
                         }},
                        {"stopping.stop has 80000 strings",
                         [](auto& request) {
                           for (int i = 0; i < 80'000; ++i)
                             request.mutable_stopping()->add_stop("");
                         }},
                        {"stopping.stop_token_ids has 80000 ids", [](auto& request) {
                           for (int i = 0; i < 80'000; ++i)
                             request.mutable_stopping()->add_stop_token_ids(1);
                         }}}) {
    v1::GenerateRequest request = TextRequest("hello", 1);
    request.set_model("nobody's");
    row.fill(request);
    const grpc::Status refused = Stream(request).status;
    EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(refused.error_message(), HasSubstr(row.told));
  }
  EXPECT_TRUE(Stream(TextRequest("hello", 4)).status.ok());
}

TEST_F(GrpcHostileTest, IdsToReadAreCounted) {
  StartServer([](server::Config& config) { config.max_prompt_bytes = 100; });
  v1::DetokenizeRequest request;
  v1::DetokenizeResponse response;
  const auto detokenize = [&] {
    request.add_token_ids(5);
    grpc::ClientContext context;
    return inference().Detokenize(&context, request, &response);
  };
  while (request.token_ids_size() < 99) request.add_token_ids(5);
  EXPECT_TRUE(detokenize().ok());
  const grpc::Status refused = detokenize();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(refused.error_message(), "There are 101 token ids, but at most 100 are allowed.");
}

// A context of a few tokens has no use for more.
TEST_F(GrpcHostileTest, TextsAreBoundedByTheContext) {
  StartServer([](server::Config& config) { config.max_prompt_bytes = 0; });
  const auto refused = [&](int bytes) {
    return Stream(TextRequest(std::string(bytes, 'a'), 1)).status.error_message();
  };
  EXPECT_THAT(refused(256 << 10), HasSubstr("maximum context length"));
  EXPECT_THAT(refused((256 << 10) + 1),
              HasSubstr("at most 262144 are allowed (--max-prompt-bytes); "));
}

// No window admits them. Those that have waited longest are cut off, whatever their time.
TEST_F(GrpcHostileTest, UnreadAnswersAreBoundedTogether) {
  StartServer([](server::Config& config) {
    config.slow_reader_s = 600;
    config.max_reply_bytes = 64 << 10;
  });
  std::vector<std::unique_ptr<server::RawClient>> clients;
  const auto call = [&](const std::string& method, const google::protobuf::Message& request) {
    clients.push_back(std::make_unique<server::RawClient>(server().grpc_address()));
    clients.back()->Send(Preface() +
                         Frame(kSettingsFrame, 0, 0, BigEndian(4, 2) + BigEndian(0, 4)) +
                         WholeCall(1, method, request.SerializeAsString()));
  };
  const auto cut_off = [&](const std::string& method) {
    return Counted("method=\"" + method + "\",code=\"RESOURCE_EXHAUSTED\",reason=\"SLOW_READER\"")
        .calls;
  };
  call("GenerateOnce", TextRequest("hello", 4));
  v1::TokenizeRequest request;
  while (request.text().size() < 10'000) *request.mutable_text() += TinyFolder::kCycle;
  EXPECT_TRUE(Comes([&] {
    call("Tokenize", request);
    return cut_off("GenerateOnce") == 1;
  }));
  EXPECT_TRUE(Comes([&] {
    call("Tokenize", request);
    return cut_off("Tokenize") > 0;
  }));
  EXPECT_LT(cut_off("Tokenize"), static_cast<double>(clients.size()) - 4)
      << "some have not waited long";
  grpc::ClientContext context;
  v1::TokenizeResponse response;
  EXPECT_TRUE(inference().Tokenize(&context, request, &response).ok());
  EXPECT_LT(response.ByteSizeLong(), 64u << 10);
}

// However small they are: their calls' metadata may be large.
TEST_F(GrpcHostileTest, UnreadAnswersAreBoundedInNumber) {
  StartServer([](server::Config& config) { config.slow_reader_s = 600; });
  const std::string much(15 << 10, 'm');
  std::vector<std::unique_ptr<server::RawClient>> clients;
  for (const std::string method : {"Inference/ListModels", "Inference/Tokenize", "Operator/GetLoad",
                                   "Operator/GetServerInfo"}) {
    for (int i = 0; i < 5; ++i) {
      clients.push_back(std::make_unique<server::RawClient>(server().grpc_address()));
      AcknowledgeSettings(*clients.back());
      clients.back()->Send(Frame(kSettingsFrame, 0, 0, BigEndian(4, 2) + BigEndian(0, 4)));
      for (uint32_t call = 0; call < 250; ++call) {
        const uint32_t stream = 2 * call + 1;
        clients.back()->Send(PathHeaders(stream, "/baram.v1." + method, "", much) +
                             Frame(kDataFrame, kEndStream, stream, MessagePrefix(0)));
      }
    }
    const std::string name = method.substr(method.find('/') + 1);
    const std::string cut = "method=\"" + name + "\",code=\"RESOURCE_EXHAUSTED\"";
    EXPECT_TRUE(Comes([&] { return Counted(cut).calls >= 1250 - 1024; })) << name;
    clients.clear();
    EXPECT_TRUE(Comes([&] { return Counted("method=\"" + name + "\"").calls == 1250; })) << name;
    EXPECT_EQ(Counted(cut).calls, 1250 - 1024) << name;
  }
  EXPECT_TRUE(Stream(TextRequest("hello", 4)).status.ok());
}

// Before they wait for their readers, answers are collected.
TEST_F(GrpcHostileTest, WhatAnswersCollectIsBoundedTogether) {
  StartServer([](server::Config& config) {
    config.max_reply_bytes = 64 << 10;
    config.max_http_reply_bytes = 1 << 20;  // 16 MiB for all
  });
  server::KeptAnswers& kept = server().kept_answers();
  std::deque<server::KeptAnswers::One> others;  // each smaller than this one becomes
  while (kept.bytes() < (16 << 20) - (8 << 10)) others.emplace_back(kept).Add(8 << 10);
  v1::GenerateRequest request = TextRequest("hello", 100);
  request.mutable_output()->set_logprobs(20);
  grpc::ClientContext context;
  v1::GenerateOnceResponse response;
  const grpc::Status status = inference().GenerateOnce(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("use Generate, which streams"));
  EXPECT_EQ(std::ranges::count_if(others, &server::KeptAnswers::One::cut), 0);
  // A text counts as it is kept, whatever its tokens' messages took.
  v1::GenerateRequest text = TextRequest("hello", 400);
  grpc::ClientContext small;
  EXPECT_TRUE(inference().GenerateOnce(&small, text, &response).ok());
  others.clear();
  grpc::ClientContext again;
  EXPECT_TRUE(inference().GenerateOnce(&again, request, &response).ok());
  EXPECT_TRUE(Comes([&] { return kept.bytes() == 0; }));
}

// Each would be INVALID_ARGUMENT if its text were read.
TEST_F(GrpcHostileTest, TextsThatNobodyWaitsForAreNotRead) {
  StartServer([](server::Config& config) {
    config.text_threads = 1;
    config.max_prompt_bytes = 100;
  });
  std::promise<void> held;
  HoldTextPool(held.get_future());
  v1::TokenizeRequest request;
  request.set_text(std::string(200, 'a'));
  {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
    v1::TokenizeResponse response;
    EXPECT_EQ(inference().Tokenize(&context, request, &response).error_code(),
              grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  auto late = std::async(std::launch::async, [&] {
    grpc::ClientContext context;
    v1::TokenizeResponse response;
    return inference().Tokenize(&context, request, &response).error_code();
  });
  while (server().text_pool().waiting() < 2) std::this_thread::yield();
  grpc::ClientContext context;
  v1::DrainResponse drained;
  ASSERT_TRUE(operation().Drain(&context, {}, &drained).ok());
  held.set_value();
  EXPECT_EQ(late.get(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(Comes([&] {
    return server().metrics().Text().find("method=\"Tokenize\",code=\"DEADLINE_EXCEEDED\"") !=
           std::string::npos;
  }));
  EXPECT_THAT(server().metrics().Text(),
              ::testing::Not(HasSubstr("method=\"Tokenize\",code=\"INVALID_ARGUMENT\"")));
}

// Protobuf would write its own line for each, not in our format, and block on its reader.
TEST_F(GrpcHostileTest, TextThatIsNotUtf8WritesNothingToStderr) {
  StartServer();
  ::testing::internal::CaptureStderr();
  const grpc::Status refused = Stream(TextRequest("\xff", 4)).status;
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_FALSE(refused.ok());
  EXPECT_TRUE(Stream(TextRequest("hello", 4)).status.ok());
}

}  // namespace
}  // namespace baram::testing
