# SPDX-License-Identifier: Apache-2.0
# Examples and benchmarks: every .cpp is one program, named after its file.

# examples/<idea>/<program>.cpp -> <program>. Where the file's first comment has a line "// Expected output:",
# ctest runs the program and compares; `...` in an expected line stands for any text.
function(tenon_add_examples)
  add_custom_target(tenon_examples)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/examples/*/*.cpp)
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM program)
    add_executable(${program} ${source})
    target_link_libraries(${program} PRIVATE tenon_own_flags)
    add_dependencies(tenon_examples ${program})
    file(STRINGS ${source} expected REGEX "^// Expected output:$")
    if(expected)
      add_test(NAME "example.${program}" WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
               COMMAND bash ${PROJECT_SOURCE_DIR}/tests/support/check_example.sh $<TARGET_FILE:${program}> ${source})
      set_tests_properties("example.${program}" PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
    endif()
  endforeach()
  if(TARGET digits)
    find_package(PNG REQUIRED) # it writes what it drew
    target_link_libraries(digits PRIVATE PNG::PNG)
  endif()
endfunction()

# benchmarks/<claim>.cpp and benchmarks/<claim>/ours.cpp -> bench_<claim>; the latter need nothing but Tenon
function(tenon_add_benchmarks)
  add_custom_target(tenon_benchmarks)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/benchmarks/*/ours.cpp)
  foreach(source IN LISTS sources)
    cmake_path(GET source PARENT_PATH claim)
    cmake_path(GET claim FILENAME claim)
    add_executable(bench_${claim} ${source})
    target_link_libraries(bench_${claim} PRIVATE tenon_own_flags)
    add_dependencies(tenon_benchmarks bench_${claim})
  endforeach()
  find_package(benchmark QUIET)
  find_package(Eigen3 3.3 QUIET NO_MODULE)
  if(NOT benchmark_FOUND OR NOT Eigen3_FOUND)
    message(STATUS "tenon: bench_attach is left out; it needs Google Benchmark (libbenchmark-dev) and Eigen (libeigen3-dev)")
    return()
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/benchmarks/*.cpp)
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM claim)
    add_executable(bench_${claim} ${source})
    target_include_directories(bench_${claim} PRIVATE ${PROJECT_SOURCE_DIR}/tests) # support/
    target_link_libraries(bench_${claim} PRIVATE tenon_own_flags benchmark::benchmark Eigen3::Eigen)
    add_dependencies(tenon_benchmarks bench_${claim})
  endforeach()
endfunction()
