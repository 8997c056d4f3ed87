// The replacement for prometheus-cpp's library in static builds writes what the library writes.
#include <gtest/gtest.h>

#include <string>

std::string RenderByTheLibrary();
std::string RenderByTheStandIn();

namespace {

TEST(PrometheusTextTest, IsTheLibrarysTextByteForByte) {
  const std::string want = RenderByTheLibrary();
  EXPECT_EQ(RenderByTheStandIn(), want);
  EXPECT_NE(want.find("seconds_bucket{model_name=\"m\",le=\"+Inf\"} 7"), std::string::npos) << want;
}

}  // namespace
