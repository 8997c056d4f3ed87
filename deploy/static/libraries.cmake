# BARAM_STATIC: links every library that has an archive statically; only the C library's family
# stays shared. Included before any find_package.
set(BUILD_SHARED_LIBS OFF)
set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)
set(Protobuf_USE_STATIC_LIBS ON)
set(OPENSSL_USE_STATIC_LIBS ON)
set(ZLIB_USE_STATIC_LIBS ON)
# For find_library, which finds c-ares and RE2.
set(CMAKE_FIND_LIBRARY_SUFFIXES .a)

# spdlog and prometheus-cpp have no archives in Debian. spdlog and fmt work from their headers; of
# prometheus-cpp's core only two functions are called, which prometheus_text.cc implements.
file(WRITE ${CMAKE_FIND_PACKAGE_REDIRECTS_DIR}/spdlog-config.cmake "
if(NOT TARGET spdlog::spdlog)
  add_library(spdlog::spdlog INTERFACE IMPORTED GLOBAL)
  set_target_properties(spdlog::spdlog PROPERTIES
    INTERFACE_COMPILE_DEFINITIONS \"SPDLOG_FMT_EXTERNAL;FMT_HEADER_ONLY\")
endif()
")
file(WRITE ${CMAKE_FIND_PACKAGE_REDIRECTS_DIR}/prometheus-cpp-config.cmake "
if(NOT TARGET prometheus-cpp::core)
  add_library(prometheus-cpp-text STATIC ${CMAKE_CURRENT_LIST_DIR}/prometheus_text.cc)
  add_library(prometheus-cpp::core ALIAS prometheus-cpp-text)
endif()
")

find_package(absl REQUIRED CONFIG)
find_package(Protobuf REQUIRED)
find_library(re2_archive re2 REQUIRED)
add_library(re2::re2 INTERFACE IMPORTED GLOBAL)
set_target_properties(re2::re2 PROPERTIES INTERFACE_LINK_LIBRARIES ${re2_archive})
find_package(gRPC CONFIG REQUIRED)

# Debian's packages name the shared library of those they ship in both forms.
get_directory_property(imported IMPORTED_TARGETS)
foreach(library IN LISTS imported)
  foreach(property IMPORTED_LOCATION IMPORTED_LOCATION_NONE)
    get_target_property(location ${library} ${property})
    string(REGEX REPLACE "\\.so[.0-9]*$" ".a" archive "${location}")
    if(EXISTS "${archive}")
      set_target_properties(${library} PROPERTIES ${property} ${archive})
    endif()
  endforeach()
endforeach()

# Lets archives depend on one another in any order.
set(CMAKE_CXX_LINK_EXECUTABLE "<CMAKE_CXX_COMPILER> <FLAGS> <CMAKE_CXX_LINK_FLAGS> <LINK_FLAGS> \
<OBJECTS> -o <TARGET> -Wl,--start-group <LINK_LIBRARIES> -Wl,--end-group")
add_link_options(-static-libstdc++ -static-libgcc)
# Drops unused code: programs are copied to machines.
add_link_options(-Wl,--gc-sections)
# Pulled in explicitly: libstdc++ is linked last and would find it in the C library first.
add_link_options(-Wl,-u,arc4random)
add_library(arc4random STATIC ${CMAKE_CURRENT_LIST_DIR}/arc4random.c)
link_libraries(arc4random)
