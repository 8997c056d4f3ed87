// What gRPC messages may cost before anything in them is looked at.
#include "server/grpc_wire.h"

#include <gmock/gmock.h>
#include <malloc.h>

#include <chrono>
#include <future>
#include <string>

#include "baram/v1/inference.pb.h"
#include "server/errors.h"
#include "tests/server/grpc_detail.h"
#include "tests/server/peak_memory.h"
#include "tests/server/server_fixture.h"

namespace baram::testing {
namespace {

using server::kMaxParts;
using server::ParseMessage;
using server::Serialized;
using ::testing::HasSubstr;

grpc::ByteBuffer Bytes(const std::string& text) {
  const grpc::Slice slice(text);
  return {&slice, 1};
}

absl::Status Parse(grpc::ByteBuffer bytes, v1::GenerateRequest* request) {
  return ParseMessage(&bytes, 8 << 20, request);
}

TEST(GrpcWireTest, ParsesWhatWasSerialized) {
  v1::GenerateRequest request;
  request.set_text("바람");
  request.set_request_id("id");
  (*request.mutable_metadata())["key"] = "value";
  grpc::ByteBuffer bytes = Serialized(request);
  v1::GenerateRequest parsed;
  EXPECT_TRUE(ParseMessage(&bytes, 8 << 20, &parsed).ok());
  EXPECT_EQ(parsed.SerializeAsString(), request.SerializeAsString());
  EXPECT_EQ(bytes.Length(), 0u) << "nothing is kept";
  v1::GenerateRequest empty;
  EXPECT_TRUE(Parse(Serialized(empty), &parsed).ok());
  EXPECT_EQ(parsed.ByteSizeLong(), 0u);
}

TEST(GrpcWireTest, RefusesWhatIsNoMessage) {
  v1::GenerateRequest request;
  for (const std::string& text : {std::string("\xff\xff\xff"), std::string("\x0a\x05hi"),
                                  std::string("\x12\x01\xff"), std::string(200, '\x7b')}) {
    const absl::Status status = Parse(Bytes(text), &request);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr("not a baram.v1.GenerateRequest"));
    EXPECT_EQ(server::FactsOf(status).reason, "INVALID_BODY");
    EXPECT_EQ(request.ByteSizeLong(), 0u);
  }
  grpc::ByteBuffer long_one = Bytes(std::string(11, '\0'));
  const absl::Status too_long = ParseMessage(&long_one, 10, &request);
  EXPECT_EQ(too_long.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(too_long.message(), HasSubstr("has 11 bytes, but this method takes at most 10"));
}

// A field counts with all that it contains; what is stored as one value is one.
TEST(GrpcWireTest, BoundsTheFieldsOfAMessage) {
  const auto bounded = [](int most, const auto& add) {
    v1::GenerateRequest request, parsed;
    for (int i = 0; i < most; ++i) add(request, i);
    EXPECT_TRUE(Parse(Serialized(request), &parsed).ok());
    for (int i = 0; i < 3; ++i) add(request, most + i);
    const absl::Status status = Parse(Serialized(request), &parsed);
    EXPECT_THAT(status.message(), HasSubstr("more than 262144 fields"));
    return !status.ok();
  };
  using Request = v1::GenerateRequest;
  EXPECT_TRUE(bounded(kMaxParts - 1, [](Request& r, int) { r.mutable_chat()->add_messages(); }));
  EXPECT_TRUE(
      bounded(kMaxParts - 1, [](Request& r, int) { r.mutable_stopping()->add_stop("stop"); }));
  EXPECT_TRUE(bounded(kMaxParts / 3, [](Request& r, int i) {
    (*r.mutable_metadata())[std::to_string(i)] = "v";
  })) << "an entry, its key and its value";
  EXPECT_TRUE(bounded(kMaxParts, [](Request& r, int) {
    r.GetReflection()->MutableUnknownFields(&r)->AddLengthDelimited(999, "");
  }));
  EXPECT_TRUE(bounded(kMaxParts / 2, [](Request& r, int) {
    r.GetReflection()->MutableUnknownFields(&r)->AddGroup(999);
  })) << "its start and its end";
  v1::GenerateRequest ids, parsed;
  for (int i = 0; i < 4 * kMaxParts; ++i) ids.mutable_token_ids()->add_ids(i);
  EXPECT_TRUE(Parse(Serialized(ids), &parsed).ok()) << "packed";
  EXPECT_EQ(parsed.token_ids().ids_size(), 4 * kMaxParts);
}

TEST(GrpcWireTest, FindsAStringBeforeParsing) {
  v1::GenerateRequest request;
  request.set_text(std::string(1000, 'x'));
  request.set_request_id("an id");
  const auto id = [](const grpc::ByteBuffer& bytes) {
    return server::StringField(bytes, v1::GenerateRequest::kRequestIdFieldNumber);
  };
  EXPECT_EQ(id(Serialized(request)), "an id");
  EXPECT_EQ(id(Bytes(request.SerializeAsString() + "\x0a\x04last")), "last");
  EXPECT_EQ(id(Bytes("\x0a\x7fshort")), "");
  EXPECT_EQ(id(Bytes("")), "");
}

class GrpcMessagesTest : public ServerFixture {
 protected:
  grpc::Status Once(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::GenerateOnceResponse response;
    return inference().GenerateOnce(&context, request, &response);
  }
};

// Millions of empty messages, which would take hundreds of megabytes.
TEST_F(GrpcMessagesTest, MillionsOfPartsAreRefusedUnread) {
  StartServer();
  v1::Chat one;
  one.add_messages();
  std::string chat;
  while (chat.size() < 8'000'000) chat += one.SerializeAsString();
  v1::GenerateRequest request;
  request.GetReflection()->MutableUnknownFields(&request)->AddLengthDelimited(
      v1::GenerateRequest::kChatFieldNumber, chat);
  malloc_trim(0);
  ASSERT_TRUE(ForgetPeak());
  const int64_t before = PeakBytes();
  const grpc::Status status = Once(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("more than 262144 fields"));
  EXPECT_LT(PeakBytes() - before, 64 << 20);
}

TEST_F(GrpcMessagesTest, CallsWithoutATextTakeSmallMessages) {
  StartServer();
  v1::AbortRequest request;
  request.set_request_id(std::string(100'000, 'a'));
  grpc::ClientContext context;
  v1::AbortResponse response;
  const grpc::Status status = inference().Abort(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("this method takes at most 65536"));
}

// Large messages are parsed where texts are read, not by the threads that all connections share;
// those that wait for it count as they arrived, and can be aborted.
TEST_F(GrpcMessagesTest, LargeMessagesWaitForTheTextPool) {
  StartServer([](server::Config& config) { config.text_threads = 1; });
  std::promise<void> held;
  HoldTextPool(held.get_future());
  v1::GenerateRequest large = TextRequest("a", 1);
  large.set_request_id("large");
  for (int i = 0; i < 2000; ++i) large.mutable_stopping()->add_stop("stop and more");
  auto waiting = std::async(std::launch::async, [&] { return Once(large); });
  EXPECT_TRUE(Comes([&] { return server().text_pool().waiting() == 1; }));
  ASSERT_TRUE(server().text_pool().Run(server::TextPool::kMaxQueuedBytes - 40'000,
                                       SteadyTime::max(), [] {}));
  large.set_request_id("another");
  EXPECT_THAT(Once(large).error_message(), HasSubstr("wait to be read"));
  grpc::ClientContext context;
  v1::AbortRequest abort;
  abort.set_request_id("large");
  v1::AbortResponse aborted;
  EXPECT_TRUE(inference().Abort(&context, abort, &aborted).ok());
  EXPECT_TRUE(aborted.found());
  held.set_value();
  EXPECT_EQ(waiting.get().error_code(), grpc::StatusCode::CANCELLED);
  large.set_request_id("last");
  EXPECT_THAT(Once(large).error_message(), HasSubstr("stopping.stop has 2000 strings"));
}

}  // namespace
}  // namespace baram::testing
