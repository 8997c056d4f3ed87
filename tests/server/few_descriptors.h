// FewDescriptors: while it lives this process can open only this many more files.
#ifndef BARAM_TESTS_SERVER_FEW_DESCRIPTORS_H_
#define BARAM_TESTS_SERVER_FEW_DESCRIPTORS_H_

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <vector>

namespace baram::server {

class FewDescriptors {
 public:
  explicit FewDescriptors(int left) {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    rlimit low = before_;
    low.rlim_cur = 512;
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
    for (int fd; (fd = dup(STDERR_FILENO)) >= 0;) taken_.push_back(fd);
    EXPECT_GE(taken_.size(), static_cast<size_t>(left));
    for (; left > 0 && !taken_.empty(); --left) {
      close(taken_.back());
      taken_.pop_back();
    }
  }
  ~FewDescriptors() {
    for (const int fd : taken_) close(fd);
    setrlimit(RLIMIT_NOFILE, &before_);
  }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;

 private:
  rlimit before_{};
  std::vector<int> taken_;
};

}  // namespace baram::server

#endif  // BARAM_TESTS_SERVER_FEW_DESCRIPTORS_H_
