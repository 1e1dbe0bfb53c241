# Compile flags and the functions that every folder's CMakeLists.txt uses:
#   ringwall_library(NAME SRCS a.cc ... [DEPS other ...])
#   ringwall_test(NAME SRCS a_test.cc ... [DEPS other ...])
#   ringwall_fuzzer(NAME SRCS fuzz_a.cc ... [DEPS other ...])   seeds are the files of the folder
#     seeds/NAME beside it
# One small library per folder; DEPS is also what the include-layer check in
# tests/style reads.

find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(PkgConfig REQUIRED)

# Debian's Abseil package names its shared libraries; the product is static.
get_directory_property(imported_targets IMPORTED_TARGETS)
foreach(target IN LISTS imported_targets)
  get_target_property(location ${target} IMPORTED_LOCATION_NONE)
  if(target MATCHES "^absl::" AND location MATCHES "\\.so")
    string(REGEX REPLACE "\\.so.*" ".a" location "${location}")
    set_target_properties(${target} PROPERTIES IMPORTED_LOCATION_NONE "${location}")
  endif()
endforeach()

find_library(RINGWALL_SECCOMP NAMES libseccomp.a REQUIRED)
find_library(RINGWALL_PROTOBUF NAMES libprotobuf.a REQUIRED)

add_library(ringwall_flags INTERFACE)
target_include_directories(ringwall_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
target_compile_options(ringwall_flags INTERFACE
  -Wall -Wextra -Werror -Wno-missing-field-initializers
  # g++ 12 warns of std::string's own inlined copies (its bug 105329), and of more of them when they
  # come from precompiled headers. The builds without those keep the other warnings.
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>
  $<$<AND:$<COMPILE_LANG_AND_ID:CXX,GNU>,$<NOT:$<BOOL:${CMAKE_DISABLE_PRECOMPILE_HEADERS}>>>:-Wno-stringop-overread;-Wno-stringop-overflow;-Wno-array-bounds>
  # Under a sanitizer g++ loses sight of what is set where (its manual says so) and warns of Abseil's.
  $<$<AND:$<COMPILE_LANG_AND_ID:CXX,GNU>,$<BOOL:${RINGWALL_SANITIZE}>>:-Wno-maybe-uninitialized>
  $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>
  $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions>
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wthread-safety>
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Werror=thread-safety>
  -fstack-protector-strong -ftrivial-auto-var-init=zero -fPIE
  -fno-omit-frame-pointer -ffunction-sections -fdata-sections)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 16)
  target_compile_options(ringwall_flags INTERFACE
    -enable-trivial-auto-var-init-zero-knowing-it-will-be-removed-from-clang)
endif()
target_compile_definitions(ringwall_flags INTERFACE _GLIBCXX_ASSERTIONS _GNU_SOURCE)
if(NOT RINGWALL_SANITIZE AND CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_definitions(ringwall_flags INTERFACE _FORTIFY_SOURCE=2)
endif()
if(RINGWALL_LOCKDEP)
  target_compile_definitions(ringwall_flags INTERFACE RINGWALL_LOCKDEP=1)
endif()
if(RINGWALL_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=address,undefined)
elseif(RINGWALL_SANITIZE STREQUAL "thread")
  # Protobuf's headers lay their classes out anew where they see the sanitizer, unlike Debian's library.
  add_compile_options(-fsanitize=thread -U__SANITIZE_THREAD__)
  add_compile_definitions(RINGWALL_TSAN=1)
  add_link_options(-fsanitize=thread)
elseif(RINGWALL_SANITIZE STREQUAL "fuzz")
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=address,undefined)
  add_custom_target(fuzzers)
endif()

# The front end finds what the clang build is for (warnings, thread-safety analysis) in a third of the
# time of a build. Empty files stand in for objects, so that Ninja knows what is done. Precompiled
# headers are made: their flags come behind and have the last word.
if(RINGWALL_SYNTAX_ONLY)
  foreach(lang C CXX)
    set(CMAKE_${lang}_COMPILE_OBJECT
        "<CMAKE_${lang}_COMPILER> <DEFINES> <INCLUDES> -Xclang -fsyntax-only <FLAGS> -o <OBJECT> -c <SOURCE>"
        "touch <OBJECT>")
  endforeach()
  foreach(lang C CXX ASM)
    set(CMAKE_${lang}_ARCHIVE_CREATE "touch <TARGET>")
    set(CMAKE_${lang}_ARCHIVE_FINISH "")
    set(CMAKE_${lang}_LINK_EXECUTABLE "touch <TARGET>")
  endforeach()
endif()

# What nearly every file reads of the C++ library, Abseil and our own base, parsed once: two fifths of
# a full build's time.
file(WRITE ${CMAKE_BINARY_DIR}/precompiled/empty.cc "")
add_library(ringwall_precompiled STATIC ${CMAKE_BINARY_DIR}/precompiled/empty.cc)
target_link_libraries(ringwall_precompiled PRIVATE ringwall_flags absl::flat_hash_map)
target_precompile_headers(ringwall_precompiled PRIVATE
  <algorithm> <array> <atomic> <charconv> <cstdint> <cstring> <deque> <functional> <map> <memory>
  <optional> <set> <span> <string> <string_view> <utility> <variant> <vector>
  <absl/container/flat_hash_map.h>)

function(ringwall_precompile name)
  target_precompile_headers(${name} REUSE_FROM ringwall_precompiled)
endfunction()

function(ringwall_library name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  if(ARG_SRCS)
    add_library(${name} STATIC ${ARG_SRCS})
    target_link_libraries(${name} PUBLIC ringwall_flags ${ARG_DEPS})
    ringwall_precompile(${name})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ringwall_flags ${ARG_DEPS})
  endif()
endfunction()

function(ringwall_test name)
  if(NOT RINGWALL_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  find_package(GTest REQUIRED)
  add_executable(${name} ${ARG_SRCS})
  target_link_libraries(${name} PRIVATE ringwall_flags ${ARG_DEPS} GTest::gmock GTest::gtest GTest::gtest_main)
  ringwall_precompile(${name})
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 120)
endfunction()

# In all other presets the target is a unit test that runs its seeds and mutations of them.
function(ringwall_fuzzer name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  if(RINGWALL_SANITIZE STREQUAL "fuzz")
    add_executable(${name} ${ARG_SRCS})
    target_link_libraries(${name} PRIVATE ringwall_flags ${ARG_DEPS})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    add_dependencies(fuzzers ${name})
  elseif(RINGWALL_TESTS)
    ringwall_test(${name} SRCS ${ARG_SRCS} ${CMAKE_SOURCE_DIR}/tests/util/fuzz_corpus.cc DEPS ${ARG_DEPS})
    target_compile_definitions(${name} PRIVATE
                               RINGWALL_SEEDS="${CMAKE_CURRENT_SOURCE_DIR}/seeds/${name}")
  endif()
endfunction()
