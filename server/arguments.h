// How the subcommands read their arguments: CLI11 takes them apart, and what is wrong with them is
// said in sentences.
#ifndef BARAM_SERVER_ARGUMENTS_H_
#define BARAM_SERVER_ARGUMENTS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"

namespace baram::server {

// Add `flag` with a number. A text that is none is told in `error`, unless that tells of something
// already; both must outlive the parsing.
void AddNumber(const std::string& flag, std::optional<float>* value, CLI::App& app,
               absl::Status& error);
void AddNumber(const std::string& flag, std::optional<uint32_t>* value, CLI::App& app,
               absl::Status& error);
void AddNumber(const std::string& flag, std::optional<uint64_t>* value, CLI::App& app,
               absl::Status& error);

// Lets `app` read `args`, in their order. InvalidArgument says what is missing or malformed.
// Arguments without an option of their name are left to UnknownArgument.
absl::Status ParseArguments(std::span<const std::string> args, CLI::App& app);

// The first argument that `app` was given and has no option for.
std::optional<std::string> UnknownArgument(const CLI::App& app);
// That there is no such option, and which one was probably meant.
std::string DescribeUnknown(const std::string& argument, const CLI::App& app);

}  // namespace baram::server

#endif  // BARAM_SERVER_ARGUMENTS_H_
