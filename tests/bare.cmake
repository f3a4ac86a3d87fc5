# SPDX-License-Identifier: Apache-2.0
# The tests of a device alone, with TENON_BARE_TESTS: without Eigen and all else that other tests need, and without
# doctest where there is none, in whose place stands a small header of our own.
#   tests/device/*_test.cpp    tenon_device_<system>_tests, for the system that tenon::gpu is compiled for
if(NOT TARGET tenon_own_gpu)
  message(FATAL_ERROR "tenon: TENON_BARE_TESTS are tests of a device; set TENON_GPU to CUDA, OMP or CPP")
endif()
find_package(doctest QUIET)
if(NOT doctest_FOUND)
  message(STATUS "tenon: no doctest; tests/support/bare takes its place")
  add_library(tenon_bare_doctest INTERFACE)
  add_library(doctest::doctest ALIAS tenon_bare_doctest)
  target_include_directories(tenon_bare_doctest INTERFACE ${CMAKE_CURRENT_SOURCE_DIR}/support/bare)
endif()

string(TOLOWER ${tenon_gpu_system} system)
set(program tenon_device_${system}_tests)
file(GLOB sources CONFIGURE_DEPENDS device/*_test.cpp)
if(NOT sources)
  message(STATUS "tenon: ${program} is left out; there is nothing in tests/device")
  return()
endif()
add_executable(${program} ${sources} support/main.cpp support/allocation_probe.cpp)
target_include_directories(${program} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/examples)
target_link_libraries(${program} PRIVATE tenon_own_flags doctest::doctest tenon_own_gpu)
target_compile_definitions(${program} PRIVATE DOCTEST_CONFIG_VOID_CAST_EXPRESSIONS=) # for [[nodiscard]]
target_compile_options(${program} PRIVATE $<$<CONFIG:Release>:-O1>)
set_source_files_properties(support/main.cpp support/allocation_probe.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON) # where doctest's main is
target_precompile_headers(${program} PRIVATE <tenon/tenon.hpp> <doctest/doctest.h>)
add_test(NAME device.${system} COMMAND ${program})
set_tests_properties(device.${system} PROPERTIES TIMEOUT 900
  SKIP_REGULAR_EXPRESSION "open a device: (there is no NVIDIA driver|this machine has no GPU)")
