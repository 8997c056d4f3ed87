// Argument parsing for the subcommands: CLI11 splits the arguments, and errors are reported as
// sentences.
#ifndef BARAM_SERVER_ARGUMENTS_H_
#define BARAM_SERVER_ARGUMENTS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"

namespace baram::server {

// Add `flag`, which takes a number. A value that is not one is reported in `error`, unless that
// already holds an error; both must outlive the parsing.
void AddNumber(const std::string& flag, std::optional<float>* value, CLI::App& app,
               absl::Status& error);
void AddNumber(const std::string& flag, std::optional<uint32_t>* value, CLI::App& app,
               absl::Status& error);
void AddNumber(const std::string& flag, std::optional<uint64_t>* value, CLI::App& app,
               absl::Status& error);

// Lets `app` parse `args`, in order. InvalidArgument says what is missing or malformed. Arguments
// that match no option are left to UnknownArgument.
absl::Status ParseArguments(std::span<const std::string> args, CLI::App& app);

// The first argument given to `app` that matches no option.
std::optional<std::string> UnknownArgument(const CLI::App& app);
// Says that there is no such option, and which one was probably meant.
std::string DescribeUnknown(const std::string& argument, const CLI::App& app);

}  // namespace baram::server

#endif  // BARAM_SERVER_ARGUMENTS_H_
