// ParseFlags and ParseList.
#include "bench/flags.h"

#include <cstdio>
#include <cstdlib>

namespace baram::bench {

bool ParseFlags(const char* program, int argc, char** argv, const Flags& flags) {
  for (int i = 1; i < argc; i += 2) {
    const auto flag = flags.find(argv[i]);
    if (flag == flags.end() || i + 1 == argc) {
      std::fprintf(stderr, "%s: unknown flag or missing value: %s; flags:", program, argv[i]);
      for (const auto& [name, unused] : flags) std::fprintf(stderr, " %s", name.c_str());
      std::fprintf(stderr, "\n");
      return false;
    }
    flag->second(argv[i + 1]);
  }
  return true;
}

std::vector<int32_t> ParseList(const std::string& text) {
  std::vector<int32_t> values;
  for (size_t at = 0; at < text.size(); at = text.find_first_of(',', at)) {
    if (text[at] == ',') ++at;
    values.push_back(std::atoi(text.c_str() + at));
  }
  return values;
}

}  // namespace baram::bench
