// A listener with toy routes, for the tests of server/http_*.
#ifndef BARAM_TESTS_SERVER_HTTP_BED_H_
#define BARAM_TESTS_SERVER_HTTP_BED_H_

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "server/http_server.h"
#include "tests/server/http_client.h"

namespace baram::server {

// Passes values from other threads, in order.
template <typename T>
class Mailbox {
 public:
  void Put(T value) {
    std::lock_guard lock(mutex_);
    values_.push_back(std::move(value));
    changed_.notify_all();
  }
  // Waits for the next one; a test whose value does not come within half a minute aborts.
  T Take() {
    std::unique_lock<std::mutex> lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(30), [this] { return !values_.empty(); })) {
      std::cerr << "nothing came" << std::endl;
      std::abort();
    }
    T value = std::move(values_.front());
    values_.erase(values_.begin());
    return value;
  }
  size_t size() {
    std::lock_guard lock(mutex_);
    return values_.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<T> values_;
};

class HttpBed : public testing::Test {
 protected:
  using Exchange = std::shared_ptr<HttpExchange>;

  // Routes: /echo returns the body, /path* the path, /hold puts its exchange into held_, /throw
  // throws.
  void Listen(const HttpLimits& limits = {}, std::vector<std::string> origins = {},
              const std::string& address = "127.0.0.1:0") {
    std::vector<HttpRoute> routes;
    const auto echo = [](Exchange exchange) {
      exchange->Respond(200, {{"Content-Type", "text/plain"}}, exchange->request().body);
    };
    routes.push_back({"GET", "/echo", echo});
    routes.push_back({"POST", "/echo", echo});
    routes.push_back({"GET", "/path/*", [](Exchange exchange) {
                        exchange->Respond(200, {}, exchange->request().path);
                      }});
    routes.push_back({"POST", "/hold", [this](Exchange exchange) { held_.Put(exchange); }});
    routes.push_back({"GET", "/hold", [this](Exchange exchange) { held_.Put(exchange); }});
    routes.push_back({"POST", "/drop", [](Exchange) {}});
    routes.push_back({"POST", "/throw", [](Exchange exchange) {
                        throw std::runtime_error(exchange->request().body);
                      }});
    const auto error_body = [](const HttpError& error) {
      return std::to_string(error.status) + " " + error.reason + ": " + error.message;
    };
    auto sockets = ListeningSockets::Bind(address);
    ASSERT_TRUE(sockets.ok()) << sockets.status();
    auto server = HttpServer::Listen(*std::move(sockets), {.routes = std::move(routes),
                                                           .error_body = error_body,
                                                           .limits = limits,
                                                           .threads = 2,
                                                           .allowed_origins = std::move(origins)});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  // Sends `request` on a new connection and reads one answer.
  RawResponse Ask(const std::string& request) {
    RawClient client(server_->address());
    client.Send(request);
    return client.Read();
  }

  // Callbacks of the server's threads use held exchanges: the server is destroyed first.
  Mailbox<Exchange> held_;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace baram::server

#endif  // BARAM_TESTS_SERVER_HTTP_BED_H_
