# The differences between operating systems, and each compiler's form of the flags. No other CMake
# file names a system.
#
# Sets moepp_flags, moepp_o3, moepp_flag_prefix, moepp_system_has_amx, moepp_cuda_folders and
# moepp_link_addon(). g++ and clang build on Linux and macOS. On Windows the compiler is clang-cl,
# or clang with MinGW (the kernels use the vector types that g++ and clang share, which MSVC has
# not). clang-cl has not been tried.

set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)

# Node 22 and newer need this system. Without it the addon asks for the system that built it.
if(APPLE AND NOT CMAKE_OSX_DEPLOYMENT_TARGET)
  set(CMAKE_OSX_DEPLOYMENT_TARGET 13.5)
endif()

# The AMX tiles: a process asks the system for them, and only Linux's way is known here
# (native/cpu/isa/amx_available.cc).
set(moepp_system_has_amx OFF)
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  set(moepp_system_has_amx ON)
endif()

# The folders of a CUDA toolkit that is not on the PATH.
set(moepp_cuda_folders)
if(UNIX)
  set(moepp_cuda_folders /usr/local/cuda)
endif()

if(MSVC AND NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "moepp: on Windows the compiler must be clang-cl: "
    "cmake -T ClangCL, or CXX=clang-cl with Ninja")
endif()

# Warnings are errors in a checkout. An installed package may meet a compiler that we do not know.
# Products and sums are fused only where the source says fma.
add_library(moepp_flags INTERFACE)
target_include_directories(moepp_flags INTERFACE native ${PROJECT_BINARY_DIR}/generated)
if(MSVC)
  target_compile_options(moepp_flags INTERFACE /W4 $<$<BOOL:${MOEPP_WERROR}>:/WX> /EHsc
    -Wno-unused-parameter /clang:-ffp-contract=off /clang:-fno-math-errno)
  set(CMAKE_MSVC_RUNTIME_LIBRARY "MultiThreaded$<$<CONFIG:Debug>:Debug>")
  set(moepp_flag_prefix /clang:)  # clang-cl takes some of clang's own flags with it alone
  set(moepp_o3 /clang:-O3)
else()
  target_compile_options(moepp_flags INTERFACE -Wall -Wextra $<$<BOOL:${MOEPP_WERROR}>:-Werror>
    -Wno-unused-parameter -Wno-psabi -ffp-contract=off -fno-math-errno)
  set(moepp_flag_prefix)
  set(moepp_o3 -O3)
endif()
if(MOEPP_SANITIZE)
  # Optimised further, instrumented kernels take four times as long to compile.
  # Instrumented code hides from g++ that a variable is set: its warning is wrong there.
  target_compile_options(moepp_flags INTERFACE -Wno-maybe-uninitialized)
  target_compile_options(moepp_flags INTERFACE -fsanitize=${MOEPP_SANITIZE}
    -fno-sanitize-recover=all -fno-omit-frame-pointer -g1 -O1)
  # The tests' own arithmetic: half of their compilation.
  set(moepp_test_options -fno-sanitize=undefined)
  target_link_options(moepp_flags INTERFACE -fsanitize=${MOEPP_SANITIZE})
endif()

# Links a Node addon. It finds Node's functions in the process that loads it, and brings its own C++
# library. It shows nothing but its two entry points: it must not mix with another addon's C++
# library, nor with a second copy of itself.
function(moepp_link_addon target)
  set_target_properties(${target} PROPERTIES PREFIX "" SUFFIX ".node")
  if(CMAKE_CROSSCOMPILING)
    target_link_options(${target} PRIVATE -Wl,-s)
  endif()
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    if(NOT MOEPP_SANITIZE)
      set(exports ${PROJECT_SOURCE_DIR}/cmake/exports.map)
      target_link_options(${target} PRIVATE -static-libstdc++ -static-libgcc
        -Wl,--exclude-libs,ALL -Wl,--version-script=${exports}
        -Wl,--gc-sections -Wl,-z,now -Wl,-z,relro)
      set_target_properties(${target} PROPERTIES LINK_DEPENDS ${exports})
    endif()
  elseif(APPLE)
    target_link_options(${target} PRIVATE -undefined dynamic_lookup -Wl,-dead_strip)
  elseif(WIN32 AND NOT MSVC)
    if(NOT MOEPP_NODE_API)
      message(FATAL_ERROR "moepp: MOEPP_NODE_API is the folder of node_api.def")
    endif()
    file(STRINGS ${MOEPP_NODE_API}/node_api.def names REGEX "^(napi|node_api)_")
    file(STRINGS ${MOEPP_NODE_API}/js_native_api.def more REGEX "^(napi|node_api)_")
    list(APPEND names ${more})
    list(REMOVE_DUPLICATES names)
    set(pointers "")
    set(functions "")
    foreach(name IN LISTS names)
      string(APPEND pointers "void* __imp_${name};\n")
      string(APPEND functions "    {\"${name}\", &__imp_${name}},\n")
    endforeach()
    set(stubs ${PROJECT_BINARY_DIR}/generated/node_api.cc)
    configure_file(${PROJECT_SOURCE_DIR}/cmake/node_api.cc.in ${stubs} @ONLY)
    target_sources(${target} PRIVATE ${stubs})
  elseif(WIN32)
    # cmake-js names the list of Node's functions and the import library to be made of it.
    execute_process(
      COMMAND ${CMAKE_AR} /def:${CMAKE_JS_NODELIB_DEF} /out:${CMAKE_JS_NODELIB_TARGET}
        ${CMAKE_STATIC_LINKER_FLAGS}
      COMMAND_ERROR_IS_FATAL ANY)
    target_link_libraries(${target} PRIVATE ${CMAKE_JS_NODELIB_TARGET} delayimp)
    target_link_options(${target} PRIVATE /DELAYLOAD:NODE.EXE)
  endif()
endfunction()
