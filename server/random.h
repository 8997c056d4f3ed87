// Random bits for uses that need variety but no secrecy: ids, seeds, delays.
#ifndef BARAM_SERVER_RANDOM_H_
#define BARAM_SERVER_RANDOM_H_

#include <cstdint>

namespace baram::server {

// A different value on each call, a different sequence in each process. Thread-safe.
uint64_t RandomBits();

}  // namespace baram::server

#endif  // BARAM_SERVER_RANDOM_H_
