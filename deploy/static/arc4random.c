/* The one function that libstdc++'s archive needs of glibc 2.36, for std::random_device: with
   it here the programs run on glibc 2.35, as on Ubuntu 22.04. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>

uint32_t arc4random(void) {
  uint32_t value;
  if (getrandom(&value, sizeof(value), 0) != sizeof(value)) abort();
  return value;
}
