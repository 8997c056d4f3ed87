// ServerFixture: the real server with the tiny folder.
#include "tests/server/server_fixture.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <sstream>
#include <thread>

#include "tests/environment.h"

namespace baram::testing {
namespace {

TinyFolder* shared_folder = nullptr;

}  // namespace

std::string Streamed::Text(uint32_t index) const {
  std::string text;
  for (const std::string& piece : Pieces(index)) text += piece;
  return text;
}

std::vector<std::string> Streamed::Pieces(uint32_t index) const {
  std::vector<std::string> pieces;
  for (const auto& event : events) {
    if (event.has_delta() && event.delta().index() == index && !event.delta().text().empty()) {
      pieces.push_back(event.delta().text());
    }
  }
  return pieces;
}

std::vector<uint32_t> Streamed::TokenIds(uint32_t index) const {
  std::vector<uint32_t> ids;
  for (const auto& event : events) {
    if (!event.has_delta() || event.delta().index() != index) continue;
    ids.insert(ids.end(), event.delta().token_ids().begin(), event.delta().token_ids().end());
  }
  return ids;
}

const v1::Finish* Streamed::Finish(uint32_t index) const {
  for (const auto& event : events) {
    if (event.has_finish() && event.finish().index() == index) return &event.finish();
  }
  return nullptr;
}

const v1::Usage* Streamed::Usage() const {
  for (const auto& event : events) {
    if (event.has_usage()) return &event.usage();
  }
  return nullptr;
}

const v1::PromptInfo* Streamed::Prompt() const {
  for (const auto& event : events) {
    if (event.has_prompt()) return &event.prompt();
  }
  return nullptr;
}

void ServerFixture::SetUpTestSuite() {
  spdlog::set_level(spdlog::level::err);
  shared_folder = new TinyFolder();
}

void ServerFixture::TearDownTestSuite() {
  delete shared_folder;
  shared_folder = nullptr;
}

const std::string& ServerFixture::folder() { return shared_folder->path(); }

server::Config ServerFixture::TestConfig() {
  server::Config config;
  config.model = folder();
  config.served_model_names = {"tiny", "tiny-alias"};
  const std::string device = RequestedDevice();
  config.device = device.empty() ? "ref" : device;
  config.kv_cache_bytes = 8 << 20;
  config.max_num_seqs = 16;
  config.max_prompt_bytes = 4 << 20;
  config.grpc_listen = config.http_listen = config.metrics_listen = "127.0.0.1:0";
  config.drain_delay_s = 0;
  config.drain_limit_s = 60;
  return config;
}

void ServerFixture::StartServer(const std::function<void(server::Config&)>& change,
                                const server::OpenEngine& open) {
  server::Config config = TestConfig();
  if (change) change(config);
  auto started = server::Server::Start(std::move(config), {}, open);
  ASSERT_TRUE(started.ok()) << started.status();
  server_ = *std::move(started);
  const auto channel = NewChannel();
  inference_ = v1::Inference::NewStub(channel);
  operator_ = v1::Operator::NewStub(channel);
}

void ServerFixture::TearDown() { server_.reset(); }

std::shared_ptr<grpc::Channel> ServerFixture::NewChannel(grpc::ChannelArguments arguments) const {
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  return grpc::CreateCustomChannel(server_->grpc_address(), grpc::InsecureChannelCredentials(),
                                   arguments);
}

v1::GenerateRequest ServerFixture::TextRequest(const std::string& text, uint32_t max_tokens) {
  v1::GenerateRequest request;
  request.set_text(text);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  return request;
}

Streamed ServerFixture::Stream(const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  return Stream(request, context);
}

Streamed ServerFixture::Stream(const v1::GenerateRequest& request, grpc::ClientContext& context) {
  Streamed streamed;
  const auto reader = inference().Generate(&context, request);
  for (v1::GenerateResponse event; reader->Read(&event);) streamed.events.push_back(event);
  streamed.status = reader->Finish();
  return streamed;
}

grpc::Status ServerFixture::Once(const v1::GenerateRequest& request,
                                 v1::GenerateOnceResponse* response) {
  grpc::ClientContext context;
  return inference().GenerateOnce(&context, request, response);
}

v1::GetLoadResponse ServerFixture::Load() {
  grpc::ClientContext context;
  v1::GetLoadResponse load;
  EXPECT_TRUE(operation().GetLoad(&context, {}, &load).ok());
  return load;
}

void ServerFixture::HoldTextPool(std::shared_future<void> until, size_t bytes) {
  const auto begun = std::make_shared<std::promise<void>>();
  ASSERT_TRUE(server().text_pool().Run(bytes, SteadyTime::max(), [begun, until] {
    begun->set_value();
    until.wait();
  }));
  begun->get_future().wait();
}

ServerFixture::Counts ServerFixture::Counted(const std::string& labels) const {
  Counts counts;
  std::istringstream text(server_->metrics().Text());
  for (std::string line; std::getline(text, line);) {
    if (!line.starts_with("baram_requests_total{") || line.find(labels) == std::string::npos) {
      continue;
    }
    counts.calls += std::stod(line.substr(line.rfind(' ')));
    ++counts.series;
  }
  return counts;
}

void ServerFixture::AwaitLoad(const std::function<bool(const v1::GetLoadResponse&)>& holds) {
  const SteadyTime limit = FromNow(60);
  v1::GetLoadResponse load = Load();
  while (!holds(load)) {
    if (std::chrono::steady_clock::now() > limit) {
      ADD_FAILURE() << "the load is still " << load.ShortDebugString();
      return;
    }
    std::this_thread::yield();
    load = Load();
  }
}

void ServerFixture::AwaitIdle() {
  AwaitLoad([](const v1::GetLoadResponse& load) {
    return load.running() + load.waiting() + load.paused() == 0 && load.kv_usage() == 0;
  });
}

}  // namespace baram::testing
