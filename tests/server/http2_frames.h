// Raw HTTP/2 for what gRPC's client would not do: leave a reply unread, or a request half sent.
#ifndef BARAM_TESTS_SERVER_HTTP2_FRAMES_H_
#define BARAM_TESTS_SERVER_HTTP2_FRAMES_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/server/http_client.h"

namespace baram::testing {

inline constexpr char kDataFrame = 0, kHeadersFrame = 1, kPriorityFrame = 2, kResetFrame = 3,
                      kSettingsFrame = 4, kPingFrame = 6, kWindowFrame = 8, kContinuationFrame = 9;
inline constexpr char kAck = 1, kEndStream = 1, kEndHeaders = 4;
inline constexpr size_t kFirstWindow = 65535;  // of a stream and of a connection, in bytes
inline constexpr size_t kMaxFrameBytes = 16384;

// The number in `bytes` bytes, big-endian.
inline std::string BigEndian(uint64_t value, int bytes) {
  std::string text;
  while (bytes-- > 0) text += static_cast<char>(value >> (8 * bytes) & 255);
  return text;
}

inline std::string Frame(char type, char flags, uint32_t stream, const std::string& payload) {
  return BigEndian(payload.size(), 3) + type + flags + BigEndian(stream, 4) + payload;
}

// The beginning of a connection.
inline std::string Preface() {
  return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(kSettingsFrame, 0, 0, "");
}

// HPACK's length of a string that is not compressed: seven bits, or the rest seven by seven.
inline std::string StringLength(size_t length) {
  if (length < 127) return BigEndian(length, 1);
  std::string bytes = BigEndian(127, 1);
  for (length -= 127; length >= 128; length >>= 7) bytes += BigEndian(length % 128 + 128, 1);
  return bytes + BigEndian(length, 1);
}

// Starts a call, with `timeout` and with `metadata` in one entry, unless they are empty.
inline std::string PathHeaders(uint32_t stream, const std::string& path,
                               const std::string& timeout = "", const std::string& metadata = "") {
  std::vector<std::pair<std::string, std::string>> fields = {
      {":method", "POST"},    {":scheme", "http"}, {":path", path},
      {":authority", "test"}, {"te", "trailers"},  {"content-type", "application/grpc"}};
  if (!timeout.empty()) fields.emplace_back("grpc-timeout", timeout);
  if (!metadata.empty()) fields.emplace_back("x-metadata", metadata);
  std::string headers;
  for (const auto& [name, value] : fields) {
    headers +=
        BigEndian(0, 1) + StringLength(name.size()) + name + StringLength(value.size()) + value;
  }
  return Frame(kHeadersFrame, kEndHeaders, stream, headers);
}

// Starts a call of baram.v1.Inference.
inline std::string CallHeaders(uint32_t stream, const std::string& method,
                               const std::string& timeout = "") {
  return PathHeaders(stream, "/baram.v1.Inference/" + method, timeout);
}

// The prefix of an uncompressed gRPC message.
inline std::string MessagePrefix(size_t bytes) { return BigEndian(0, 1) + BigEndian(bytes, 4); }

// Starts a connection and acknowledges the server's SETTINGS, of which it returns the head.
inline std::string AcknowledgeSettings(server::RawClient& client) {
  client.Send(Preface());
  std::string received;
  while (received.size() < 9 && client.ReadSome(9 - received.size(), &received) > 0) {
  }
  EXPECT_EQ(received.size(), 9u);
  EXPECT_EQ(received.at(3), kSettingsFrame);
  client.Send(Frame(kSettingsFrame, kAck, 0, ""));
  return received;
}

}  // namespace baram::testing

#endif  // BARAM_TESTS_SERVER_HTTP2_FRAMES_H_
