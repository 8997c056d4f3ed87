// ServerFixture: the real server with the tiny folder, in this process, on free ports.
#ifndef BARAM_TESTS_SERVER_SERVER_FIXTURE_H_
#define BARAM_TESTS_SERVER_SERVER_FIXTURE_H_

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "baram/v1/inference.grpc.pb.h"
#include "baram/v1/operator.grpc.pb.h"
#include "server/server.h"
#include "tests/server/comes.h"
#include "tests/server/tiny_folder.h"

namespace baram::testing {

// Everything received from a Generate stream, with accessors.
struct Streamed {
  std::vector<v1::GenerateResponse> events;
  grpc::Status status;

  // All for output `index`.
  std::string Text(uint32_t index = 0) const;
  std::vector<std::string> Pieces(uint32_t index = 0) const;  // not empty
  std::vector<uint32_t> TokenIds(uint32_t index = 0) const;
  const v1::Finish* Finish(uint32_t index = 0) const;  // null if there was none
  const v1::Usage* Usage() const;
  const v1::PromptInfo* Prompt() const;
};

class ServerFixture : public ::testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();

  // Starts the test's own server, with default settings except for ports, drain times and the
  // device: ref, unless another is requested, or `open` opens one.
  void StartServer(const std::function<void(server::Config&)>& change = {},
                   const server::OpenEngine& open = Engine::Open);
  void TearDown() override;

  static server::Config TestConfig();
  static const std::string& folder();
  server::Server& server() { return *server_; }
  // gRPC's default retries and back-off are off; every channel makes its own connection.
  std::shared_ptr<grpc::Channel> NewChannel(grpc::ChannelArguments arguments = {}) const;
  v1::Inference::Stub& inference() { return *inference_; }
  v1::Operator::Stub& operation() { return *operator_; }

  static v1::GenerateRequest TextRequest(const std::string& text, uint32_t max_tokens);
  Streamed Stream(const v1::GenerateRequest& request);
  Streamed Stream(const v1::GenerateRequest& request, grpc::ClientContext& context);
  grpc::Status Once(const v1::GenerateRequest& request, v1::GenerateOnceResponse* response);
  v1::GetLoadResponse Load();
  // Occupies a thread of the text pool that may take a text of `bytes` bytes.
  void HoldTextPool(std::shared_future<void> until, size_t bytes = 0);
  // The sum and the number of the call series in the metrics whose labels contain `labels`.
  struct Counts {
    double calls = 0;
    int series = 0;
  };
  Counts Counted(const std::string& labels = "") const;
  // Waits until `holds` is true of the load. Fails the test with the last load if it never is.
  void AwaitLoad(const std::function<bool(const v1::GetLoadResponse&)>& holds);
  // Waits until nothing runs or waits.
  void AwaitIdle();

  std::unique_ptr<server::Server> server_;
  std::unique_ptr<v1::Inference::Stub> inference_;
  std::unique_ptr<v1::Operator::Stub> operator_;
};

}  // namespace baram::testing

#endif  // BARAM_TESTS_SERVER_SERVER_FIXTURE_H_
