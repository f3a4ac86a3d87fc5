# SPDX-License-Identifier: Apache-2.0
# How our own tests, examples and benchmarks are compiled. None of it reaches a program that uses Tenon.
add_library(tenon_own_flags INTERFACE)
target_link_libraries(tenon_own_flags INTERFACE tenon::tenon)
# nvcc has warnings of its own, and takes what follows -Werror for their kind
target_compile_options(tenon_own_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wconversion;-Wshadow;-Werror>")
# g++ 12 takes a joined std::string for overlapping memory (its bug 105651)
target_compile_options(tenon_own_flags INTERFACE $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>)
target_compile_definitions(tenon_own_flags INTERFACE TENON_TEST_DATA="${PROJECT_SOURCE_DIR}/tests"
                                                     TENON_EXAMPLES_DATA="${PROJECT_SOURCE_DIR}/examples")

set(CMAKE_CXX_EXTENSIONS OFF) # -std=c++20, not gnu++20

# ccache makes the second build short; it is used where it is found.
find_program(TENON_CCACHE ccache)
mark_as_advanced(TENON_CCACHE)
if(PROJECT_IS_TOP_LEVEL AND TENON_CCACHE AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${TENON_CCACHE})
endif()
