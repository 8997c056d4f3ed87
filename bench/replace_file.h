// Results of a benchmark, kept while it runs: if it is killed, what was measured until then is
// left.
#ifndef BARAM_BENCH_REPLACE_FILE_H_
#define BARAM_BENCH_REPLACE_FILE_H_

#include <cstdio>
#include <functional>
#include <string>

namespace baram::bench {

// Writes the file anew, whole or not at all: until `write` is done and all of it is in the file
// system, the file is what it was. False: it can't be written.
bool ReplaceFile(const std::string& path, const std::function<void(std::FILE*)>& write);

}  // namespace baram::bench

#endif  // BARAM_BENCH_REPLACE_FILE_H_
