// Saves a benchmark's results while it runs: if it is killed, what it has measured so far remains.
#ifndef BARAM_BENCH_REPLACE_FILE_H_
#define BARAM_BENCH_REPLACE_FILE_H_

#include <cstdio>
#include <functional>
#include <string>

namespace baram::bench {

// Replaces the file atomically: until `write` is done and everything has been written, the old file
// stays. False if it can't be written.
bool ReplaceFile(const std::string& path, const std::function<void(std::FILE*)>& write);

}  // namespace baram::bench

#endif  // BARAM_BENCH_REPLACE_FILE_H_
