// ListeningSockets: several addresses, some of which can't be bound, and which side closes what.
#include "server/listening_sockets.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netdb.h>
#include <netinet/in.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace baram::server {
namespace {

using testing::HasSubstr;

sockaddr_in Address(const char* host, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  EXPECT_EQ(inet_pton(AF_INET, host, &address.sin_addr), 1);
  return address;
}

// Binds as for a name that resolves to all of `hosts`.
absl::StatusOr<ListeningSockets> Bind(const std::vector<const char*>& hosts, uint16_t port = 0) {
  std::vector<sockaddr_in> addresses;
  for (const char* host : hosts) addresses.push_back(Address(host, port));
  std::vector<addrinfo> list(hosts.size());
  for (size_t i = 0; i < list.size(); ++i) {
    list[i].ai_family = AF_INET;
    list[i].ai_addr = reinterpret_cast<sockaddr*>(&addresses[i]);
    list[i].ai_addrlen = sizeof(sockaddr_in);
    if (i + 1 < list.size()) list[i].ai_next = &list[i + 1];
  }
  return ListeningSockets::Bind(list.data(), port);
}

bool Answers(const char* host, uint16_t port) {
  const sockaddr_in address = Address(host, port);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const bool connected =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  close(fd);
  return connected;
}

// Reserved for documentation (RFC 5737): no machine has it.
constexpr char kForeign[] = "192.0.2.1";

class ListeningSocketsTest : public testing::Test {
 protected:
  ListeningSocketsTest() {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "", std::make_shared<spdlog::sinks::ostream_sink_mt>(log_)));
  }
  ~ListeningSocketsTest() override { spdlog::set_default_logger(before_); }

  std::ostringstream log_;
  const std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

TEST_F(ListeningSocketsTest, EveryAddressAnswersOnOnePort) {
  const auto bound = Bind({"127.0.0.1", "127.0.0.2", "127.0.0.1"});
  ASSERT_TRUE(bound.ok()) << bound.status();
  EXPECT_EQ(bound->sockets().size(), 2u);
  EXPECT_TRUE(Answers("127.0.0.1", bound->port()));
  EXPECT_TRUE(Answers("127.0.0.2", bound->port()));
  EXPECT_EQ(log_.str(), "");
}

TEST_F(ListeningSocketsTest, AnAddressThatIsLeftOutIsTold) {
  const auto bound = Bind({kForeign, "127.0.0.1"});
  ASSERT_TRUE(bound.ok()) << bound.status();
  EXPECT_TRUE(Answers("127.0.0.1", bound->port()));
  EXPECT_THAT(log_.str(), HasSubstr("can't listen on 192.0.2.1: Cannot assign requested address"));
  EXPECT_EQ(Bind({kForeign}).status(), absl::UnavailableError("Cannot assign requested address"));
}

// If one of two addresses is in use, the other is not served in its stead.
TEST_F(ListeningSocketsTest, AnAddressInUseIsAnError) {
  const auto first = Bind({"127.0.0.1"});
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(Bind({"127.0.0.2", "127.0.0.1"}, first->port()).status(),
            absl::UnavailableError("Address already in use"));
  EXPECT_FALSE(Answers("127.0.0.2", first->port()));
}

TEST_F(ListeningSocketsTest, WhatIsAssignedToClosesItsOwn) {
  auto old = Bind({"127.0.0.1"}), young = Bind({"127.0.0.1"});
  ASSERT_TRUE(old.ok() && young.ok());
  const uint16_t old_port = old->port(), young_port = young->port();
  *old = *std::move(young);
  EXPECT_FALSE(Answers("127.0.0.1", old_port));
  EXPECT_TRUE(Answers("127.0.0.1", young_port));
  EXPECT_EQ(old->port(), young_port);
  const auto taken = old->Take();
  ASSERT_TRUE(taken.has_value());
  EXPECT_FALSE(old->Take().has_value());
  old->Close();
  EXPECT_TRUE(Answers("127.0.0.1", young_port)) << "it is the taker's";
  close(taken->fd);
  EXPECT_FALSE(Answers("127.0.0.1", young_port));
}

}  // namespace
}  // namespace baram::server
