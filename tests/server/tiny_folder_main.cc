// Makes a TinyFolder for a test in another language: prints its path, and removes it once standard
// input ends.
#include <cstdio>

#include "tests/server/tiny_folder.h"

int main() {
  const baram::testing::TinyFolder folder;
  std::printf("%s\n", folder.path().c_str());
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  return 0;
}
