// Comes: waits in a test for what other threads do.
#ifndef BARAM_TESTS_SERVER_COMES_H_
#define BARAM_TESTS_SERVER_COMES_H_

#include <chrono>
#include <thread>

namespace baram::testing {

// Whether `holds` becomes true in time; the limit is much longer than anything here takes.
template <typename Condition>
bool Comes(Condition holds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace baram::testing

#endif  // BARAM_TESTS_SERVER_COMES_H_
