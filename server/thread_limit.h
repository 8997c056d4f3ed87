// What becomes of the process where the system gives it no further thread.
#ifndef BARAM_SERVER_THREAD_LIMIT_H_
#define BARAM_SERVER_THREAD_LIMIT_H_

namespace baram::server {

// From now on, when a std::thread can't be created and nobody catches that, the process ends with a
// sentence and kExitOs. Other calls of std::terminate end it as ever. Call once, first.
void ExplainThreadLimit();

}  // namespace baram::server

#endif  // BARAM_SERVER_THREAD_LIMIT_H_
