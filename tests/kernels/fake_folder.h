// FakeFolder: a directory that looks like one of the kernel's.
#ifndef BARAM_TESTS_KERNELS_FAKE_FOLDER_H_
#define BARAM_TESTS_KERNELS_FAKE_FOLDER_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace baram::testing {

// Removed at the end.
class FakeFolder {
 public:
  FakeFolder() {
    std::string pattern = ::testing::TempDir() + "kernel.XXXXXX";
    root_ = mkdtemp(pattern.data());
  }
  ~FakeFolder() { std::filesystem::remove_all(root_); }
  FakeFolder(const FakeFolder&) = delete;
  FakeFolder& operator=(const FakeFolder&) = delete;

  const std::string& root() const { return root_; }
  // `path` starts with a slash.
  void Write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = root_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

 private:
  std::string root_;
};

}  // namespace baram::testing

#endif  // BARAM_TESTS_KERNELS_FAKE_FOLDER_H_
