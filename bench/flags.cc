// ParseFlags and ParseList.
#include "bench/flags.h"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace baram::bench {

namespace {

// Whether the flag accepted the value.
bool Take(const std::function<void(const std::string&)>& flag, const char* value) {
  try {
    flag(value);
    return true;
  } catch (const std::logic_error&) {  // std::stoi: not a number, or too large
    return false;
  }
}

}  // namespace

bool ParseFlags(const char* program, int argc, char** argv, const Flags& flags) {
  for (int i = 1; i < argc; i += 2) {
    const auto flag = flags.find(argv[i]);
    if (flag != flags.end() && i + 1 < argc && Take(flag->second, argv[i + 1])) continue;
    const char* what = flag == flags.end() ? "there is no flag"
                       : i + 1 == argc     ? "a value is missing behind"
                                           : "the value is no number behind";
    std::fprintf(stderr, "%s: %s %s; flags:", program, what, argv[i]);
    for (const auto& [name, unused] : flags) std::fprintf(stderr, " %s", name.c_str());
    std::fprintf(stderr, "\n");
    return false;
  }
  return true;
}

std::vector<int32_t> ParseList(const std::string& text) {
  std::vector<int32_t> values;
  for (size_t at = 0; at < text.size(); at = text.find_first_of(',', at)) {
    if (text[at] == ',') ++at;
    values.push_back(std::stoi(text.substr(at)));
  }
  return values;
}

}  // namespace baram::bench
