// What happens to the process when the system refuses to create a thread.
#ifndef BARAM_SERVER_THREAD_LIMIT_H_
#define BARAM_SERVER_THREAD_LIMIT_H_

namespace baram::server {

// From now on, if a std::thread can't be created and the exception is not caught, the process ends
// with a sentence and kExitOs. Other calls of std::terminate behave as before. Call once, first.
void ExplainThreadLimit();

}  // namespace baram::server

#endif  // BARAM_SERVER_THREAD_LIMIT_H_
