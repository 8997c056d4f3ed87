// What a server reports about itself: models, info, load, health, reflection, metrics, probes.
#include <gmock/gmock.h>
#include <google/protobuf/dynamic_message.h>
#include <grpcpp/generic/generic_stub.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "google/rpc/error_details.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/exit_codes.h"
#include "server/version.h"
#include "tests/server/http_client.h"
#include "tests/server/server_fixture.h"

namespace baram::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::StartsWith;

class GrpcFactsTest : public ServerFixture {
 protected:
  void SetUp() override { StartServer(); }

  // The value of the metric on the line that starts with `line`, or -1.
  double Metric(const std::string& line) {
    const std::string text = "\n" + server().metrics().Text();
    const size_t at = text.find("\n" + line);
    if (at == std::string::npos) return -1;
    return std::atof(text.c_str() + text.find(' ', at));
  }
};

TEST_F(GrpcFactsTest, TheModelsRootIsAbsolute) {
  StartServer([](server::Config& config) {
    config.model = std::filesystem::relative(folder()).string() + "/";
  });
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  ASSERT_TRUE(inference().ListModels(&context, {}, &response).ok());
  EXPECT_EQ(response.models(0).root(), folder() + "/");
}

// The names of the folder and the template are EUC-KR, which messages can't hold.
TEST_F(GrpcFactsTest, PathsNeedNotBeUtf8AndTheModelsRootIs) {
  const ScratchFolder links;
  const std::string name = "/\xb8\xf0\xb5\xa8";
  std::filesystem::create_directory_symlink(folder(), links.path() + name);
  StartServer([&](server::Config& config) {
    config.model = links.path() + name;
    config.chat_template = links.Write(name + ".jinja", "hello");
  });
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  const grpc::Status listed = inference().ListModels(&context, {}, &response);
  ASSERT_TRUE(listed.ok()) << listed.error_message();
  EXPECT_EQ(response.models(0).root(), links.path() + "/\uFFFD\uFFFD\uFFFD\uFFFD");
}

TEST_F(GrpcFactsTest, ModelsAndServerInfo) {
  {
    grpc::ClientContext context;
    v1::ListModelsResponse response;
    ASSERT_TRUE(inference().ListModels(&context, {}, &response).ok());
    ASSERT_EQ(response.models_size(), 2);
    EXPECT_EQ(response.models(0).name(), "tiny");
    EXPECT_EQ(response.models(0).root(), folder());
    EXPECT_EQ(response.models(0).architecture(), "LlamaForCausalLM");
    EXPECT_EQ(response.models(0).max_model_len(), TinyFolder::kMaxModelLen);
    EXPECT_EQ(response.models(1).name(), "tiny-alias");
  }
  grpc::ClientContext context;
  v1::GetServerInfoResponse info;
  ASSERT_TRUE(operation().GetServerInfo(&context, {}, &info).ok());
  EXPECT_EQ(info.version(), server::kVersion);
  EXPECT_THAT(info.device(), StartsWith(TestConfig().device));
  EXPECT_EQ(info.vocab_size(), TinyFolder::kVocabSize);
  EXPECT_EQ(info.exact(), !info.device().starts_with("cuda"));
  EXPECT_GT(info.parameters(), 0u);
  EXPECT_GT(info.kv_pages(), 0u);
  EXPECT_LE(info.kv_bytes(), 8u << 20);
}

// Refused calls, too.
TEST_F(GrpcFactsTest, ShortCallsEchoTheRequestId) {
  using Context = grpc::ClientContext;
  const auto tokenize = [&](Context* context) {
    v1::TokenizeRequest request;
    request.set_text("hello");
    v1::TokenizeResponse response;
    return inference().Tokenize(context, request, &response);
  };
  const auto detokenize = [&](Context* context) {
    v1::DetokenizeResponse response;
    return inference().Detokenize(context, {}, &response);
  };
  const auto render = [&](Context* context) {
    v1::RenderChatResponse response;
    return inference().RenderChat(context, {}, &response);
  };
  const auto abort = [&](Context* context) {
    v1::AbortResponse response;
    return inference().Abort(context, {}, &response);
  };
  const auto list = [&](Context* context) {
    v1::ListModelsResponse response;
    return inference().ListModels(context, {}, &response);
  };
  const auto info = [&](Context* context) {
    v1::GetServerInfoResponse response;
    return operation().GetServerInfo(context, {}, &response);
  };
  const auto load = [&](Context* context) {
    v1::GetLoadResponse response;
    return operation().GetLoad(context, {}, &response);
  };
  const auto drain = [&](Context* context) {
    v1::DrainRequest request;
    request.set_limit_s(-1);
    v1::DrainResponse response;
    return operation().Drain(context, request, &response);
  };
  struct Call {
    const char* name;
    std::function<grpc::Status(Context*)> make;
    bool ok;
  };
  for (const Call& call : {Call{"Tokenize", tokenize, true}, Call{"Detokenize", detokenize, true},
                           Call{"RenderChat", render, false}, Call{"Abort", abort, false},
                           Call{"ListModels", list, true}, Call{"GetServerInfo", info, true},
                           Call{"GetLoad", load, true}, Call{"Drain", drain, false}}) {
    SCOPED_TRACE(call.name);
    const auto echoed = [&](const std::string& id) {
      Context context;
      if (!id.empty()) context.AddMetadata("x-request-id", id);
      EXPECT_EQ(call.make(&context).ok(), call.ok);
      const auto& headers = context.GetServerInitialMetadata();
      const auto found = headers.find("x-request-id");
      if (found == headers.end()) return std::string("none");
      return std::string(found->second.data(), found->second.size());
    };
    EXPECT_EQ(echoed("mine-1"), "mine-1");
    EXPECT_THAT(echoed("two words"), StartsWith("req-"));
    EXPECT_EQ(echoed(""), "none");
  }
}

TEST_F(GrpcFactsTest, TokenizeAndDetokenizeAreInverse) {
  v1::TokenizeRequest request;
  request.set_text(TinyFolder::kCycle);
  v1::TokenizeResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(inference().Tokenize(&context, request, &response).ok());
  EXPECT_EQ(response.token_ids_size(), TinyFolder::kCycleTokens);
  std::string bytes;
  for (const std::string& token : response.tokens()) bytes += token;
  EXPECT_EQ(bytes, TinyFolder::kCycle);

  v1::DetokenizeRequest back;
  *back.mutable_token_ids() = response.token_ids();
  v1::DetokenizeResponse text;
  grpc::ClientContext context_back;
  ASSERT_TRUE(inference().Detokenize(&context_back, back, &text).ok());
  EXPECT_EQ(text.text(), TinyFolder::kCycle);
}

TEST_F(GrpcFactsTest, HealthKnowsItsNames) {
  const auto health = grpc::health::v1::Health::NewStub(NewChannel());
  for (const char* name : {"", "readiness", "liveness", "startup", "baram.v1.Inference"}) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(name);
    grpc::health::v1::HealthCheckResponse response;
    ASSERT_TRUE(health->Check(&context, request, &response).ok()) << name;
    EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING) << name;
  }
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("no.such.Service");
  grpc::health::v1::HealthCheckResponse response;
  EXPECT_EQ(health->Check(&context, request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
}

// Sends one question to reflection, with messages built from its own description.
std::string AskReflection(const std::shared_ptr<grpc::Channel>& channel, const char* field,
                          const std::string& value) {
  using google::protobuf::DescriptorPool;
  google::protobuf::DynamicMessageFactory factory;
  const auto* pool = DescriptorPool::generated_pool();
  const auto* request_type =
      pool->FindMessageTypeByName("grpc.reflection.v1alpha.ServerReflectionRequest");
  const auto* response_type =
      pool->FindMessageTypeByName("grpc.reflection.v1alpha.ServerReflectionResponse");
  std::unique_ptr<google::protobuf::Message> request(factory.GetPrototype(request_type)->New());
  request->GetReflection()->SetString(request.get(), request_type->FindFieldByName(field), value);
  std::unique_ptr<google::protobuf::Message> response(factory.GetPrototype(response_type)->New());

  const std::string bytes = request->SerializeAsString();
  const grpc::Slice slice(bytes);
  grpc::ByteBuffer sent(&slice, 1), received;
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  grpc::GenericStub stub(channel);
  auto call = stub.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  void* tag = nullptr;
  bool ok = false;
  const auto await = [&] { return queue.Next(&tag, &ok) && ok; };
  call->StartCall(nullptr);
  EXPECT_TRUE(await());
  call->Write(sent, nullptr);
  EXPECT_TRUE(await());
  call->Read(&received, nullptr);
  EXPECT_TRUE(await());
  call->WritesDone(nullptr);
  EXPECT_TRUE(await());
  grpc::Status status;
  call->Finish(&status, nullptr);
  EXPECT_TRUE(await());
  EXPECT_TRUE(status.ok()) << status.error_message();
  grpc::Slice answer;
  EXPECT_TRUE(received.DumpToSingleSlice(&answer).ok());
  EXPECT_TRUE(response->ParseFromArray(answer.begin(), static_cast<int>(answer.size())));
  return response->DebugString();
}

TEST_F(GrpcFactsTest, ReflectionDescribesServicesAndErrorDetails) {
  const auto channel = NewChannel();
  const std::string services = AskReflection(channel, "list_services", "");
  for (const char* name : {"baram.v1.Inference", "baram.v1.Operator", "grpc.health.v1.Health"}) {
    EXPECT_THAT(services, HasSubstr(name));
  }
  for (const char* symbol : {"baram.v1.Inference", "google.rpc.BadRequest", "google.rpc.RetryInfo",
                             "google.rpc.Status", "grpc.health.v1.Health"}) {
    EXPECT_THAT(AskReflection(channel, "file_containing_symbol", symbol),
                HasSubstr("file_descriptor_proto"))
        << symbol;
  }
}

// Histograms observed per output say so in their help; all others are observed once per request.
TEST_F(GrpcFactsTest, HistogramsSayWhatTheyAreOf) {
  constexpr int kOutputs = 3;
  v1::GenerateRequest request = TextRequest("hello", 4);
  request.mutable_sampling()->set_n(kOutputs);
  request.mutable_stopping()->set_ignore_eos(true);
  ASSERT_TRUE(Stream(request).status.ok());
  AwaitIdle();
  const std::string text = server().metrics().Text(), help = "# HELP baram_";
  int histograms = 0;
  for (size_t at = text.find(help); at != std::string::npos; at = text.find(help, at + 1)) {
    const std::string line = text.substr(at, text.find('\n', at) - at);
    const size_t name_at = help.size() - std::string("baram_").size();
    const std::string name = line.substr(name_at, line.find(' ', name_at) - name_at);
    const double count = Metric(name + "_count");
    if (count < 0) continue;
    ++histograms;
    if (name == "baram_iteration_tokens_total" || name == "baram_step_time_seconds") continue;
    if (name == "baram_inter_token_latency_seconds") continue;
    EXPECT_EQ(count, line.find("an output") == std::string::npos ? 1 : kOutputs) << line;
  }
  EXPECT_GE(histograms, 16);
}

// What each metric is named, MetricsTest says.
TEST_F(GrpcFactsTest, MetricsMove) {
  const std::string model = "{model_name=\"tiny\",engine=\"0\"";
  EXPECT_EQ(Metric("baram_prompt_tokens_total" + model), 0);
  const Streamed got = Stream(TextRequest("hello", 7));
  ASSERT_TRUE(got.status.ok());
  EXPECT_FALSE(Stream(TextRequest("", 7)).status.ok());
  AwaitIdle();
  for (const char* const name : {"prompt_tokens_total", "request_prompt_tokens_sum",
                                 "request_prefill_kv_computed_tokens_sum"}) {
    EXPECT_EQ(Metric(std::string("baram_") + name + model), got.Usage()->prompt_tokens()) << name;
  }
  EXPECT_EQ(Metric("baram_prompt_tokens_by_source_total" + model + ",source=\"local_compute\"}"),
            got.Usage()->prompt_tokens());
  for (const char* const name :
       {"generation_tokens_total", "request_params_max_tokens_sum",
        "request_max_num_generation_tokens_sum", "request_generation_tokens_sum"}) {
    EXPECT_EQ(Metric(std::string("baram_") + name + model), 7) << name;
  }
  EXPECT_EQ(Metric("baram_inter_token_latency_seconds_count" + model), 6);
  EXPECT_EQ(Metric("baram_request_success_total" + model + ",finished_reason=\"length\"}"), 1);
  // A call is counted once it has ended for the server, a moment after its client knows.
  const std::string calls = "baram_requests_total" + model + ",method=\"Generate\",";
  for (const char* const call :
       {"code=\"OK\",reason=\"length\"}", "code=\"INVALID_ARGUMENT\",reason=\"INVALID_FIELD\"}"}) {
    EXPECT_TRUE(Comes([&] { return Metric(calls + call) == 1; })) << call;
  }
  for (const char* const name : {"build_info", "model_info", "cache_config_info"}) {
    EXPECT_EQ(Metric(std::string("baram_") + name), 1) << name;
  }
}

TEST_F(GrpcFactsTest, ConnectionsAreCountedForEachListener) {
  ASSERT_TRUE(Stream(TextRequest("hello", 1)).status.ok());
  server::RawClient http(server().http_address()), probe(server().metrics_address());
  for (server::RawClient* const client : {&http, &probe}) {
    client->Send(server::RawRequest("GET", "/none"));
    EXPECT_EQ(client->Read().status, 404);
  }
  for (const char* listener : {"grpc", "http", "metrics"}) {
    const std::string label =
        "{model_name=\"tiny\",engine=\"0\",listener=\"" + std::string(listener) + "\"}";
    EXPECT_EQ(Metric("baram_connections" + label), 1) << listener;
    EXPECT_EQ(Metric("baram_connections_max" + label), listener == std::string("metrics")
                                                           ? server().shares().probes
                                                           : server().shares().calls);
  }
}

TEST_F(GrpcFactsTest, ProbesTellThreeTruths) {
  server::RawClient probes(server().metrics_address());
  const auto codes = [&] {
    std::vector<int> codes;
    for (const char* path : {"/startup", "/ready", "/live", "/metrics", "/other"}) {
      probes.Send(server::RawRequest("GET", path));
      codes.push_back(probes.Read().status);
    }
    return codes;
  };
  EXPECT_THAT(codes(), ElementsAre(200, 200, 200, 200, 404));
  server().lifecycle().StopAdvertising();
  EXPECT_THAT(codes(), ElementsAre(200, 503, 200, 200, 404));
  EXPECT_TRUE(Stream(TextRequest("hello", 2)).status.ok());  // still accepting
}

TEST_F(GrpcFactsTest, ProbesAloneAreAnsweredWhileTheModelLoads) {
  server::Config config = TestConfig();
  {
    std::vector<server::ListeningSockets> taken;  // together, so that they differ
    for (auto* const listen : {&config.metrics_listen, &config.http_listen, &config.grpc_listen}) {
      auto any = server::ListeningSockets::Bind("127.0.0.1:0");
      ASSERT_TRUE(any.ok()) << any.status();
      *listen = any->address();
      taken.push_back(*std::move(any));
    }
  }
  std::map<std::string, int> codes;
  const auto loading = server::Server::Start(config, [&](int64_t, int64_t) {
    for (const std::string& address : {config.http_listen, config.grpc_listen}) {
      EXPECT_FALSE(server::RawClient(address).Send("GET")) << "a client is to be refused";
    }
    for (const char* path : {"/startup", "/ready", "/live", "/metrics"}) {
      server::RawClient client(config.metrics_listen);
      client.Send(server::RawRequest("GET", path));
      codes[path] = client.Read().status;
    }
  });
  ASSERT_TRUE(loading.ok()) << loading.status();
  EXPECT_THAT(codes, ElementsAre(Pair("/live", 200), Pair("/metrics", 503), Pair("/ready", 503),
                                 Pair("/startup", 503)));
}

TEST_F(GrpcFactsTest, AContextPastTheModelsIsRefused) {
  server::Config config = TestConfig();
  config.max_model_len = 1 << 20;
  const auto refused = server::Server::Start(config);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("max-model-len is 1048576"));
}

TEST_F(GrpcFactsTest, OneAddressForTwoListenersIsToldBeforeLoading) {
  server::Config config = TestConfig();
  config.model = "/no/such/folder";
  {
    const auto any = server::ListeningSockets::Bind("127.0.0.1:0");
    ASSERT_TRUE(any.ok()) << any.status();
    config.grpc_listen = config.http_listen = any->address();
  }
  const auto refused = server::Server::Start(config);
  EXPECT_EQ(server::ExitCode(refused.status()), server::kExitUnavailable);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--http-listen"));
}

TEST_F(GrpcFactsTest, APortInUseIsToldBeforeLoading) {
  const std::pair<std::string server::Config::*, std::string> addresses[] = {
      {&server::Config::grpc_listen, server().grpc_address()},
      {&server::Config::http_listen, server().http_address()},
      {&server::Config::metrics_listen, server().metrics_address()}};
  for (const auto& [field, address] : addresses) {
    server::Config config = TestConfig();
    config.model = "/no/such/folder";
    config.*field = address;
    const auto second = server::Server::Start(config);
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(server::ExitCode(second.status()), server::kExitUnavailable);
    EXPECT_THAT(std::string(second.status().message()), HasSubstr(address));
  }
}

}  // namespace
}  // namespace baram::testing
