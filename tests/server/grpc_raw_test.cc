// Messages of raw gRPC methods: measured, then parsed, and never kept.
#include "server/grpc_raw.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>

#include <string>

#include "grpc/health/v1/health.pb.h"
#include "tests/server/peak_memory.h"

namespace baram::server {
namespace {

using grpc::health::v1::HealthCheckRequest;
using ::testing::HasSubstr;

grpc::ByteBuffer Bytes(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

TEST(GrpcRawTest, ParsesAndReleasesTheBytes) {
  HealthCheckRequest sent, parsed;
  sent.set_service("liveness");
  const grpc::ByteBuffer request = ToBytes(sent);
  grpc::ByteBuffer bytes = TakeBytes(&request);
  EXPECT_FALSE(request.Valid());
  EXPECT_TRUE(ParseSmall(&bytes, bytes.Length(), &parsed).ok());
  EXPECT_EQ(parsed.service(), "liveness");
  EXPECT_FALSE(bytes.Valid());
}

TEST(GrpcRawTest, WhatIsNoMessageIsRefused) {
  HealthCheckRequest parsed;
  for (const char* const bytes : {"\x0a\x05six", "\x0a\x01\xff", "\x07"}) {
    grpc::ByteBuffer buffer = Bytes(bytes);
    const absl::Status status = ParseSmall(&buffer, 100, &parsed);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(status.message(), HasSubstr("not a valid grpc.health.v1.HealthCheckRequest"));
    EXPECT_FALSE(buffer.Valid());
  }
  grpc::ByteBuffer none;
  EXPECT_TRUE(absl::IsInvalidArgument(ParseSmall(&none, 100, &parsed)));
}

// Empty fields take more memory than anything else, once parsed: about 60 bytes for two.
TEST(GrpcRawTest, LargeMessagesAreNotParsed) {
  std::string fields;
  while (fields.size() < 8 << 20) fields += "\x7a" + std::string(1, 0);
  grpc::ByteBuffer bytes = Bytes(fields);
  HealthCheckRequest parsed;
  ASSERT_TRUE(ForgetPeak());
  const int64_t peak = PeakBytes();
  const absl::Status status = ParseSmall(&bytes, 1024, &parsed);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("has 8388608 bytes, but this method takes at most 1024"));
  EXPECT_FALSE(bytes.Valid());
  EXPECT_LT(PeakBytes() - peak, 4 << 20);
}

}  // namespace
}  // namespace baram::server
