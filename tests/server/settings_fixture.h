// SettingsTest: settings parsed as by `baram serve`, with variables that a test sets.
#ifndef BARAM_TESTS_SERVER_SETTINGS_FIXTURE_H_
#define BARAM_TESTS_SERVER_SETTINGS_FIXTURE_H_

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/settings.h"

namespace baram::server {

// Variables set by the tests; a function pointer can't carry them.
inline std::vector<std::pair<std::string, std::string>> variables;
inline const char* TestEnvironment(const char* name) {
  for (const auto& [key, value] : variables) {
    if (key == name) return value.c_str();
  }
  return nullptr;
}

class SettingsTest : public ::testing::Test {
 protected:
  void SetUp() override { variables.clear(); }

  absl::StatusOr<Config> Parse(std::vector<std::string> args) {
    args.insert(args.begin(), {"--model", "/models/some"});
    return ParseSettings(args, TestEnvironment);
  }
  std::string Error(std::vector<std::string> args) {
    const auto config = Parse(std::move(args));
    return config.ok() ? "" : std::string(config.status().message());
  }
};

}  // namespace baram::server

#endif  // BARAM_TESTS_SERVER_SETTINGS_FIXTURE_H_
