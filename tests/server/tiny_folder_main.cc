// tiny_folder: makes a TinyFolder for a test in another language, prints its path, and removes it
// once standard input ends. tiny_folder FOLDER: makes it there, permanently.
#include <cstdio>
#include <filesystem>

#include "tests/server/tiny_folder.h"

int main(int argc, char** argv) {
  const baram::testing::TinyFolder folder;
  if (argc > 1) {
    std::filesystem::copy(folder.path(), argv[1], std::filesystem::copy_options::recursive);
    return 0;
  }
  std::printf("%s\n", folder.path().c_str());
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  return 0;
}
