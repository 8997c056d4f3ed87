// OpenAiFlowFixture: raw HTTP calls of OpenAI's completions to the real server.
#ifndef BARAM_TESTS_SERVER_OPENAI_FLOW_FIXTURE_H_
#define BARAM_TESTS_SERVER_OPENAI_FLOW_FIXTURE_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/json_fields.h"
#include "tests/server/http_client.h"
#include "tests/server/server_fixture.h"

namespace baram::testing {

class OpenAiFlowFixture : public ServerFixture {
 protected:
  static constexpr char kCompletions[] = "/v1/completions";

  // One sequence runs at a time, so that what follows a long one waits.
  void StartNarrow(const std::function<void(server::Config&)>& change = {}) {
    StartServer([&](server::Config& config) {
      config.max_num_seqs = 1;
      if (change) change(config);
    });
  }
  static std::string Post(const std::string& body, const std::string& headers = "") {
    return server::RawRequest("POST", kCompletions, body,
                              "Content-Type: application/json\r\n" + headers);
  }
  // A JSON list of `count` prompts, all `text`.
  static std::string Prompts(size_t count, const std::string& text) {
    return server::Json(std::vector<std::string>(count, text)).dump();
  }
  std::unique_ptr<server::RawClient> Send(const std::string& request) {
    auto client = std::make_unique<server::RawClient>(server_->http_address());
    client->Send(request);
    return client;
  }
  server::RawResponse Ask(const std::string& request) { return Send(request)->Read(); }
  // Calls refused because of `limit`; -1 if that is not counted.
  double Overloads(const std::string& limit) const {
    const std::string text = server_->metrics().Text();
    const std::string label = "limit=\"" + limit + "\"} ";
    const size_t at = text.find(label);
    return at == std::string::npos ? -1 : std::stod(text.substr(at + label.size()));
  }
  // Occupies the engine for much longer than any test runs, unless its client disconnects.
  std::unique_ptr<server::RawClient> Occupy() {
    const std::string prompts = Prompts(16, "a");
    auto client =
        Send(Post(R"({"prompt":)" + prompts + R"(,"n":8,"max_tokens":500,"ignore_eos":true})"));
    while (server_->engine().stats().waiting.value() == 0) std::this_thread::yield();
    return client;
  }
};

}  // namespace baram::testing

#endif  // BARAM_TESTS_SERVER_OPENAI_FLOW_FIXTURE_H_
