# A CMake toolchain: zig's clang, with its C libraries, builds for other platforms on a Linux x64
# machine (scripts/platforms.mjs). MOEPP_TARGET is what zig calls a target, as
# aarch64-linux-gnu.2.28: the oldest glibc that will do.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES MOEPP_TARGET)
string(REGEX MATCH "^([^-]+)-([a-z]+)" matched "${MOEPP_TARGET}")
set(CMAKE_SYSTEM_PROCESSOR ${CMAKE_MATCH_1})
set(names_linux Linux)
set(names_windows Windows)
set(names_macos Darwin)
set(CMAKE_SYSTEM_NAME ${names_${CMAKE_MATCH_2}})
set(CMAKE_C_COMPILER ${CMAKE_CURRENT_LIST_DIR}/zig-cc)
set(CMAKE_CXX_COMPILER ${CMAKE_CURRENT_LIST_DIR}/zig-c++)
foreach(language C CXX)
  set(CMAKE_${language}_COMPILER_TARGET ${MOEPP_TARGET})
endforeach()
set(CMAKE_AR ${CMAKE_CURRENT_LIST_DIR}/zig-ar)
set(CMAKE_RANLIB ${CMAKE_CURRENT_LIST_DIR}/zig-ranlib)
