# The architectures that the CUDA kernels are compiled for, and the check of a list that is given
# instead. Alone it prints the list:
#
#   cmake [-DMOEPP_CUDA_ARCHITECTURES=90a-real] -P cmake/cuda-architectures.cmake
set(MOEPP_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90a-real 100-real 120
  CACHE STRING "CUDA architectures, as CMake names them")

# The reason that one architecture of the list cannot be built, or "".
function(moepp_architecture_fault name fault)
  set(${fault} "" PARENT_SCOPE)
  if(name MATCHES "^(native|all|all-major)$")
    set(${fault} "${name} may mean 90, and wgmma is in 90a alone; name the architectures"
      PARENT_SCOPE)
  elseif(NOT name MATCHES "^([1-9][0-9][0-9]?)([af]?)(-real|-virtual)?$")
    set(${fault} "'${name}' is no architecture" PARENT_SCOPE)
  elseif(CMAKE_MATCH_1 LESS 75)
    set(${fault} "${name} is too old: the oldest is 75" PARENT_SCOPE)
  elseif(CMAKE_MATCH_1 EQUAL 90 AND NOT CMAKE_MATCH_2 STREQUAL "a")
    set(${fault} "${name} leaves kernels empty, because wgmma is in 90a alone" PARENT_SCOPE)
  endif()
endfunction()

set(moepp_faults)
if(MOEPP_CUDA_ARCHITECTURES STREQUAL "")
  list(APPEND moepp_faults "it is empty")
endif()
foreach(moepp_name IN LISTS MOEPP_CUDA_ARCHITECTURES)
  moepp_architecture_fault("${moepp_name}" moepp_fault)
  if(NOT moepp_fault STREQUAL "")
    list(APPEND moepp_faults "${moepp_fault}")
  endif()
endforeach()
if(moepp_faults)
  list(JOIN moepp_faults "; " moepp_faults)
  message(FATAL_ERROR "moepp: MOEPP_CUDA_ARCHITECTURES is \"${MOEPP_CUDA_ARCHITECTURES}\": "
    "${moepp_faults}. Write for example 90a-real for an H100, or 80-real;89-real for two others.")
endif()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  execute_process(COMMAND ${CMAKE_COMMAND} -E echo "${MOEPP_CUDA_ARCHITECTURES}")
endif()
