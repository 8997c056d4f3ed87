// grpc.reflection: what both versions answer, and what hostile clients can't do.
#include "server/grpc_reflection.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <chrono>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "tests/server/grpc_detail.h"
#include "tests/server/http2_frames.h"
#include "tests/server/http_client.h"
#include "tests/server/peak_memory.h"
#include "tests/server/server_fixture.h"

namespace baram::testing {
namespace {

namespace v1alpha = grpc::reflection::v1alpha;
using grpc::reflection::v1::ServerReflection;
using grpc::reflection::v1::ServerReflectionRequest;
using grpc::reflection::v1::ServerReflectionResponse;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A stream of either version: the messages are the same.
template <typename Rpc, typename Request, typename Response>
class Asking {
 public:
  explicit Asking(const std::shared_ptr<grpc::Channel>& channel)
      : stub_(Rpc::NewStub(channel)), stream_(stub_->ServerReflectionInfo(&context_)) {}
  ~Asking() {
    context_.TryCancel();
    End();
  }

  bool Send(const ServerReflectionRequest& request) {
    Request sent;
    sent.ParseFromString(request.SerializeAsString());
    return stream_->Write(sent);
  }
  bool Read(ServerReflectionResponse* response) {
    Response read;
    return stream_->Read(&read) && response->ParseFromString(read.SerializeAsString());
  }
  ServerReflectionResponse Ask(const ServerReflectionRequest& request) {
    ServerReflectionResponse response;
    EXPECT_TRUE(Send(request) && Read(&response)) << End().error_message();
    return response;
  }
  void SendNoMore() { stream_->WritesDone(); }
  void Cancel() { context_.TryCancel(); }
  // What it ends with.
  const grpc::Status& End() {
    if (!ended_) {
      Response response;
      while (stream_->Read(&response)) {
      }
      status_ = stream_->Finish();
      ended_ = true;
    }
    return status_;
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<typename Rpc::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<Request, Response>> stream_;
  bool ended_ = false;
  grpc::Status status_;
};
using AskingV1 = Asking<ServerReflection, ServerReflectionRequest, ServerReflectionResponse>;
using AskingV1Alpha = Asking<v1alpha::ServerReflection, v1alpha::ServerReflectionRequest,
                             v1alpha::ServerReflectionResponse>;

ServerReflectionRequest ForServices() {
  ServerReflectionRequest request;
  request.set_list_services("");
  return request;
}
ServerReflectionRequest ForSymbol(const std::string& symbol) {
  ServerReflectionRequest request;
  request.set_file_containing_symbol(symbol);
  return request;
}

// Of `bytes` bytes or a few more; most of it is a field that nobody knows.
ServerReflectionRequest Large(size_t bytes) {
  ServerReflectionRequest request = ForServices();
  request.GetReflection()->MutableUnknownFields(&request)->AddLengthDelimited(
      15, std::string(bytes, 'u'));
  return request;
}

class GrpcReflectionTest : public ServerFixture {
 protected:
  void SetUp() override { StartServer(); }
};

template <typename Stream>
void AskEverything(const std::shared_ptr<grpc::Channel>& channel) {
  Stream stream(channel);
  std::vector<std::string> services;
  ServerReflectionResponse response = stream.Ask(ForServices());
  for (const auto& service : response.list_services_response().service()) {
    services.push_back(service.name());
  }
  EXPECT_THAT(services, ElementsAre("baram.v1.Inference", "baram.v1.Operator",
                                    "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                                    "grpc.reflection.v1alpha.ServerReflection"));
  services.insert(services.end(),
                  {"baram.v1.Inference.Generate", "baram.v1.GenerateRequest", "google.rpc.Status",
                   "google.rpc.BadRequest", "google.rpc.RetryInfo", "baram.v1.Sampling.top_p"});
  for (const std::string& symbol : services) {
    SCOPED_TRACE(symbol);
    response = stream.Ask(ForSymbol(symbol));
    EXPECT_EQ(response.original_request().file_containing_symbol(), symbol);
    // The file first, and all that it needs.
    google::protobuf::DescriptorPool pool;
    const auto& files = response.file_descriptor_response().file_descriptor_proto();
    for (auto bytes = files.rbegin(); bytes != files.rend(); ++bytes) {
      google::protobuf::FileDescriptorProto file;
      ASSERT_TRUE(file.ParseFromString(*bytes));
      const auto* const built = pool.BuildFile(file);
      ASSERT_NE(built, nullptr) << file.name();
      if (std::next(bytes) == files.rend()) {
        EXPECT_EQ(pool.FindFileContainingSymbol(symbol), built);
      }
    }
  }

  ServerReflectionRequest request;
  request.set_host("here");
  request.set_file_by_filename("baram/v1/operator.proto");
  response = stream.Ask(request);
  EXPECT_EQ(response.file_descriptor_response().file_descriptor_proto_size(), 1);
  EXPECT_EQ(response.valid_host(), "here");
  EXPECT_EQ(response.original_request().SerializeAsString(), request.SerializeAsString());

  request.set_all_extension_numbers_of_type("baram.v1.Sampling");
  response = stream.Ask(request);
  EXPECT_EQ(response.all_extension_numbers_response().base_type_name(), "baram.v1.Sampling");
  EXPECT_EQ(response.all_extension_numbers_response().extension_number_size(), 0);

  const auto code = [&] { return stream.Ask(request).error_response().error_code(); };
  request.set_all_extension_numbers_of_type("no.Such");
  EXPECT_EQ(code(), grpc::StatusCode::NOT_FOUND);
  request.set_file_by_filename("no/such.proto");
  EXPECT_EQ(code(), grpc::StatusCode::NOT_FOUND);
  request.set_file_containing_symbol("no.Such");
  EXPECT_EQ(code(), grpc::StatusCode::NOT_FOUND);
  request.mutable_file_containing_extension()->set_containing_type("baram.v1.Sampling");
  request.mutable_file_containing_extension()->set_extension_number(1);
  EXPECT_EQ(code(), grpc::StatusCode::NOT_FOUND);
  request.mutable_file_containing_extension()->set_containing_type("no.Such");
  EXPECT_EQ(code(), grpc::StatusCode::NOT_FOUND);
  request.clear_message_request();
  EXPECT_EQ(code(), grpc::StatusCode::INVALID_ARGUMENT);

  stream.SendNoMore();
  EXPECT_TRUE(stream.End().ok()) << stream.End().error_message();
}

TEST_F(GrpcReflectionTest, BothVersionsDescribeWhatIsServed) {
  AskEverything<AskingV1>(NewChannel());
  AskEverything<AskingV1Alpha>(NewChannel());
}

// What is kept of a request, and sent back, is what was asked.
TEST_F(GrpcReflectionTest, UnknownFieldsAreNotRepeated) {
  AskingV1 stream(NewChannel());
  const ServerReflectionResponse response = stream.Ask(Large(1000));
  EXPECT_EQ(response.list_services_response().service_size(), 5);
  EXPECT_EQ(response.original_request().SerializeAsString(), ForServices().SerializeAsString());
}

TEST_F(GrpcReflectionTest, NamesThatAreNotKnownAreNotKept) {
  AskingV1 stream(NewChannel());
  const auto ask = [&](int from, int to) {
    for (int i = from; i < to; ++i) {
      stream.Ask(ForSymbol(std::to_string(i) + "." + std::string(4000, 'n')));
    }
  };
  ask(0, 100);
  const int64_t before = LiveBytes();
  ask(100, 1100);
  EXPECT_LT(LiveBytes() - before, 1 << 20);
}

TEST_F(GrpcReflectionTest, LargeRequestsHoldNothingAndCostNoOtherCall) {
  v1::GenerateRequest innocent = TextRequest("hello", 400);
  innocent.mutable_stopping()->set_ignore_eos(true);
  grpc::ClientContext context;
  const auto generated = inference().Generate(&context, innocent);
  v1::GenerateResponse event;
  ASSERT_TRUE(generated->Read(&event));
  const ServerReflectionRequest request = Large((8 << 20) - 64);
  const auto channel = NewChannel();
  std::vector<std::unique_ptr<AskingV1>> streams;
  ASSERT_TRUE(ForgetPeak());
  const int64_t before = LiveBytes(), peak = PeakBytes();
  for (int i = 0; i < 64; ++i) {
    streams.push_back(std::make_unique<AskingV1>(channel));
    streams.back()->Send(request);
    EXPECT_EQ(streams.back()->End().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_THAT(streams.back()->End().error_message(), HasSubstr("at most 4096"));
  }
  // The connection keeps buffers, at both ends; each request took 8 MiB there on its way.
  EXPECT_LT(LiveBytes() - before, 32 << 20);
  EXPECT_LT(PeakBytes() - peak, 128 << 20);
  while (generated->Read(&event)) {
  }
  const grpc::Status status = generated->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
}

int64_t Threads() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {});
}

TEST_F(GrpcReflectionTest, StreamsAreBoundedAndTakeNoThreads) {
  const auto channel = NewChannel();
  std::vector<std::unique_ptr<AskingV1>> streams;
  std::vector<std::unique_ptr<AskingV1Alpha>> older;
  AskingV1(channel).Ask(ForServices());
  const int64_t threads = Threads();
  for (size_t i = 0; i < server::GrpcReflection::kMaxStreams; i += 2) {
    streams.push_back(std::make_unique<AskingV1>(channel));
    streams.back()->Ask(ForServices());
    older.push_back(std::make_unique<AskingV1Alpha>(channel));
    older.back()->Ask(ForServices());
  }
  EXPECT_LT(Threads(), threads + 8);
  AskingV1 further(channel);
  EXPECT_EQ(further.End().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(further.End().error_message(), HasSubstr("64 reflection streams"));
  EXPECT_EQ(Reason(further.End()), "TOO_MANY_REFLECTION_STREAMS");
  EXPECT_TRUE(Stream(TextRequest("hello", 4)).status.ok());
  streams.front()->Cancel();
  EXPECT_TRUE(Comes([&] {
    AskingV1 next(channel);
    ServerReflectionResponse response;
    return next.Send(ForServices()) && next.Read(&response);
  }));
}

TEST_F(GrpcReflectionTest, TheServersStopEndsStreamsWithASentence) {
  AskingV1 stream(NewChannel());
  stream.Ask(ForServices());
  server_->Stop(std::chrono::steady_clock::now());
  EXPECT_EQ(stream.End().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(stream.End().error_message(), HasSubstr("going down"));
}

// With reflection alone, and little patience.
class GrpcReflectionIdleTest : public ::testing::Test {
 protected:
  GrpcReflectionIdleTest() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    reflection_.Register(builder);
    server_ = builder.BuildAndStart();
  }
  ~GrpcReflectionIdleTest() override { server_->Shutdown(); }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  static constexpr double kIdleS = 2;
  server::GrpcReflection reflection_{{}, kIdleS};
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(GrpcReflectionIdleTest, AStreamWithoutRequestsEnds) {
  AskingV1 stream(grpc::CreateChannel(address(), grpc::InsecureChannelCredentials()));
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 8; ++i) {  // longer than the limit, together
    stream.Ask(ForServices());
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  }
  EXPECT_EQ(stream.End().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_THAT(stream.End().error_message(), HasSubstr("no request for 2 s"));
  EXPECT_GT(SecondsSince(begin), 4);
}

// Its response fits into no window.
TEST_F(GrpcReflectionIdleTest, AStreamThatIsNotReadEnds) {
  const std::string request = ForServices().SerializeAsString();
  server::RawClient client(address());
  client.Send(Preface() + Frame(kSettingsFrame, 0, 0, BigEndian(4, 2) + BigEndian(0, 4)) +
              PathHeaders(1, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo") +
              Frame(kDataFrame, 0, 1, MessagePrefix(request.size()) + request));
  const std::string reset = BigEndian(4, 3) + kResetFrame + '\0' + BigEndian(1, 4);
  std::string received;
  while (received.find(reset) == std::string::npos && client.ReadSome(1 << 16, &received) > 0) {
  }
  EXPECT_THAT(received, HasSubstr(reset));
}

}  // namespace
}  // namespace baram::testing
