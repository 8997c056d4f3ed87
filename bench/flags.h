// The flags of the benchmarks: `--name value` pairs, each with a function that receives the value.
#ifndef BARAM_BENCH_FLAGS_H_
#define BARAM_BENCH_FLAGS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace baram::bench {

using Flags = std::map<std::string, std::function<void(const std::string&)>>;

// Returns false, with a line on stderr that lists the flags, if a flag is unknown, lacks its value,
// or needs a number and gets none (its function throws what std::stoi throws).
bool ParseFlags(const char* program, int argc, char** argv, const Flags& flags);

// "1,8,32". What is not a number counts as 0.
std::vector<int32_t> ParseList(const std::string& text);

}  // namespace baram::bench

#endif  // BARAM_BENCH_FLAGS_H_
