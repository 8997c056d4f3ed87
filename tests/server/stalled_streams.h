// A server whose streams stall when they are not read.
#ifndef BARAM_TESTS_SERVER_STALLED_STREAMS_H_
#define BARAM_TESTS_SERVER_STALLED_STREAMS_H_

#include <memory>

#include "tests/server/server_fixture.h"

namespace baram::testing {

class StalledStreams : public ServerFixture {
 protected:
  // A request whose reply is far larger than what gRPC buffers for a client that does not read: its
  // sequences pause, holding their pages, until it is read.
  static v1::GenerateRequest LargeRequest() {
    v1::GenerateRequest request = TextRequest("hello", 400);
    request.mutable_sampling()->set_n(8);
    request.mutable_output()->set_logprobs(20);
    return request;
  }

  // Starts a server whose streams stall soon.
  void StartSmallStreams(double slow_reader_s) {
    StartServer([&](server::Config& config) {
      config.stream_tokens = 16;
      config.stream_bytes = 1024;
      config.slow_reader_s = slow_reader_s;
    });
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // keeps the flow-control window small
    stalled_stub_ = v1::Inference::NewStub(NewChannel(arguments));
  }

  // A running stream that is not read.
  struct Unread {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader;
  };
  std::unique_ptr<Unread> StartUnread(const v1::GenerateRequest& request) {
    auto unread = std::make_unique<Unread>();
    unread->reader = stalled_stub_->Generate(&unread->context, request);
    return unread;
  }
  void AwaitPaused() {
    AwaitLoad([](const v1::GetLoadResponse& load) { return load.paused() > 0; });
  }

  std::unique_ptr<v1::Inference::Stub> stalled_stub_;
};

}  // namespace baram::testing

#endif  // BARAM_TESTS_SERVER_STALLED_STREAMS_H_
