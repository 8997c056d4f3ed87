// The version of this program, set by CMakeLists.txt.
#ifndef BARAM_SERVER_VERSION_H_
#define BARAM_SERVER_VERSION_H_

namespace baram::server {

inline constexpr char kVersion[] = BARAM_VERSION;

}  // namespace baram::server

#endif  // BARAM_SERVER_VERSION_H_
