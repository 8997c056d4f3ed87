// Check: aborts on a broken internal invariant. No input of a client or an operator may trigger it.
#ifndef BARAM_KERNELS_CHECK_H_
#define BARAM_KERNELS_CHECK_H_

#include <cstdio>
#include <cstdlib>
#include <source_location>

namespace baram {

[[noreturn]] inline void Fatal(const char* what,
                               std::source_location where = std::source_location::current()) {
  std::fprintf(stderr, "baram: broken invariant at %s:%u (%s): %s\n", where.file_name(),
               static_cast<unsigned>(where.line()), where.function_name(), what);
  std::fflush(stderr);
  std::abort();
}

// `what` states the invariant as a sentence. Stays on in release builds: use DCheck in inner loops.
inline void Check(bool holds, const char* what,
                  std::source_location where = std::source_location::current()) {
  if (!holds) [[unlikely]]
    Fatal(what, where);
}

#ifdef NDEBUG
inline void DCheck(bool, const char*) {}
#else
inline void DCheck(bool holds, const char* what,
                   std::source_location where = std::source_location::current()) {
  Check(holds, what, where);
}
#endif

}  // namespace baram

#endif  // BARAM_KERNELS_CHECK_H_
