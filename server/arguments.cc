// Argument parsing for the subcommands: see the header.
#include "server/arguments.h"

#include <charconv>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/setting_values.h"
#include "server/text_piece.h"

namespace baram::server {
namespace {

template <typename T>
std::string Wanted() {
  if constexpr (std::is_floating_point_v<T>) {
    return "a number";
  } else {
    return absl::StrCat("a whole number from ", std::numeric_limits<T>::min(), " to ",
                        std::numeric_limits<T>::max());
  }
}

template <typename T>
void AddParsed(const std::string& flag, std::optional<T>* value, CLI::App& app,
               absl::Status& error) {
  app.add_option(flag,
                 [flag, value, &error](const CLI::results_t& texts) {
                   const std::string& text = texts.back();
                   const char* const end = text.data() + text.size();
                   T number{};
                   const auto [read, wrong] = std::from_chars(text.data(), end, number);
                   if (wrong == std::errc() && read == end) {
                     *value = number;
                   } else {
                     error.Update(absl::InvalidArgumentError(
                         absl::StrCat(flag, " is \"", text, "\" but must be ", Wanted<T>(), ".")));
                   }
                   return true;
                 })
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

// CLI11's own text is "Could not convert: --chat = maybe". CLI11 converts only switches.
std::string DescribeSwitch(std::string_view what) {
  constexpr std::string_view kBefore = "Could not convert: ", kBetween = " = ";
  const size_t between = what.find(kBetween);
  if (!what.starts_with(kBefore) || between == std::string_view::npos) return std::string(what);
  return absl::StrCat(Piece(what.substr(kBefore.size(), between - kBefore.size())), " is \"",
                      Piece(what.substr(between + kBetween.size())),
                      "\" but must be true or false.");
}

}  // namespace

void AddNumber(const std::string& flag, std::optional<float>* value, CLI::App& app,
               absl::Status& error) {
  AddParsed(flag, value, app, error);
}
void AddNumber(const std::string& flag, std::optional<uint32_t>* value, CLI::App& app,
               absl::Status& error) {
  AddParsed(flag, value, app, error);
}
void AddNumber(const std::string& flag, std::optional<uint64_t>* value, CLI::App& app,
               absl::Status& error) {
  AddParsed(flag, value, app, error);
}

absl::Status ParseArguments(std::span<const std::string> args, CLI::App& app) {
  app.set_help_flag();
  app.allow_extras();
  std::vector<std::string> line(args.rbegin(), args.rend());  // the order CLI11 expects
  try {
    app.parse(line);
  } catch (const CLI::ConversionError& e) {
    return absl::InvalidArgumentError(DescribeSwitch(e.what()));
  } catch (const CLI::ArgumentMismatch& e) {
    // "--model: 1 required TEXT missing"
    const std::string_view what = e.what();
    const std::string flag(what.substr(0, what.find(':')));
    return absl::InvalidArgumentError(flag.size() < what.size()
                                          ? absl::StrCat(flag, " needs a value.")
                                          : absl::StrCat(flag, "."));
  } catch (const CLI::ParseError& e) {
    return absl::InvalidArgumentError(e.what());
  } catch (const std::logic_error&) {
    // A switch has a value that CLI11 can't convert; the exception does not say which switch.
    return absl::InvalidArgumentError("A switch has a value that is neither true nor false.");
  }
  return absl::OkStatus();
}

std::optional<std::string> UnknownArgument(const CLI::App& app) {
  for (const std::string& argument : app.remaining()) {
    if (argument != "--") return argument;
  }
  return std::nullopt;
}

std::string DescribeUnknown(const std::string& argument, const CLI::App& app) {
  const std::string word = argument.substr(0, argument.find('='));
  std::vector<std::string> flags;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  }
  const std::vector<std::string_view> views(flags.begin(), flags.end());
  const std::string nearest(Nearest(word, views));
  return nearest.empty() ? absl::StrCat("There is no ", word, "; --help lists what there is.")
                         : absl::StrCat("There is no ", word, ". Did you mean ", nearest, "?");
}

}  // namespace baram::server
