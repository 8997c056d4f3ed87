// HeldLayers: stops a fake device within a step, for tests of hangs.
#ifndef BARAM_TESTS_ENGINE_HELD_LAYERS_H_
#define BARAM_TESTS_ENGINE_HELD_LAYERS_H_

#include <atomic>
#include <semaphore>

#include "kernels/fake/fake_device.h"

namespace baram::testing {

// Thread-safe. Must outlive the device.
class HeldLayers {
 public:
  // A device with these options calls this object in each layer.
  FakeOptions In(FakeOptions options) {
    options.in_attend = [this] {
      if (!holds_.load()) return;
      begun_.fetch_add(1);
      layers_.acquire();
    };
    return options;
  }

  // From now on the device stops in each layer.
  void Hold() { holds_.store(true); }
  // Whether it is so.
  bool holds() const { return holds_.load(); }
  // How many layers have stopped.
  int begun() const { return begun_.load(); }
  // Lets the one that has stopped continue.
  void ReleaseOne() { layers_.release(); }
  // The same, and stops no other.
  void Release() {
    holds_.store(false);
    ReleaseOne();
  }

 private:
  std::atomic<bool> holds_{false};
  std::atomic<int> begun_{0};
  std::counting_semaphore<> layers_{0};
};

}  // namespace baram::testing

#endif  // BARAM_TESTS_ENGINE_HELD_LAYERS_H_
