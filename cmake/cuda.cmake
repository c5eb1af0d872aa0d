# Decides whether the CUDA kernels are built: moepp_have_cuda. An nvcc is enough; no GPU, driver or
# CUDA library is needed.
set(MOEPP_CUDA OFF CACHE STRING
  "Build the CUDA kernels with nvcc: AUTO (where there is a recent one), ON or OFF")
set_property(CACHE MOEPP_CUDA PROPERTY STRINGS AUTO ON OFF)
# The kernels were compiled with this one. Older ones lack flags and architectures that are used.
set(moepp_oldest_nvcc 13.0)
set(moepp_have_cuda OFF)

# The reason that MOEPP_NVCC cannot be used, or "".
function(moepp_nvcc_fault fault)
  set(${fault} "" PARENT_SCOPE)
  if(NOT MOEPP_NVCC)
    set(${fault} "no nvcc was found; put it on the PATH, or set CUDACXX or CUDA_PATH" PARENT_SCOPE)
    return()
  endif()
  execute_process(COMMAND ${MOEPP_NVCC} --version
    OUTPUT_VARIABLE text ERROR_QUIET RESULT_VARIABLE status)
  if(NOT text MATCHES "release ([0-9]+\\.[0-9]+)")
    set(${fault} "${MOEPP_NVCC} --version names no release (${status})" PARENT_SCOPE)
  elseif(CMAKE_MATCH_1 VERSION_LESS moepp_oldest_nvcc)
    set(${fault}
      "${MOEPP_NVCC} is CUDA ${CMAKE_MATCH_1}, and the kernels need ${moepp_oldest_nvcc}"
      PARENT_SCOPE)
  endif()
endfunction()

if(NOT MOEPP_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "moepp: MOEPP_CUDA is ${MOEPP_CUDA}, expected AUTO, ON or OFF")
elseif(MOEPP_CUDA STREQUAL "OFF")
  message(STATUS "moepp: a CPU build; MOEPP_CUDA=ON adds the CUDA kernels")
else()
  get_filename_component(cudacxx_folder "$ENV{CUDACXX}" DIRECTORY)
  find_program(MOEPP_NVCC nvcc HINTS ${cudacxx_folder} ENV CUDA_PATH
    PATHS ${moepp_cuda_folders} PATH_SUFFIXES bin)
  moepp_nvcc_fault(fault)
  if(fault STREQUAL "")
    set(moepp_have_cuda ON)
    set(CMAKE_CUDA_COMPILER ${MOEPP_NVCC} CACHE FILEPATH "nvcc")
    message(STATUS "moepp: a build with the CUDA kernels, by ${MOEPP_NVCC}")
  elseif(MOEPP_CUDA STREQUAL "ON")
    message(FATAL_ERROR "moepp: MOEPP_CUDA=ON, but ${fault}")
  else()
    message(STATUS "moepp: a CPU build, without the CUDA kernels: ${fault}")
  endif()
endif()
