// Random bits for what must differ and need not be secret: ids, seeds, pauses.
#ifndef BARAM_SERVER_RANDOM_H_
#define BARAM_SERVER_RANDOM_H_

#include <cstdint>

namespace baram::server {

// Another value at each call, from any thread; another sequence in each process.
uint64_t RandomBits();

}  // namespace baram::server

#endif  // BARAM_SERVER_RANDOM_H_
