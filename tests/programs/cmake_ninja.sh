# needs: cmake ninja g++ ctest
mkdir -p src/lib; cd src
cat >CMakeLists.txt <<'EOF'
cmake_minimum_required(VERSION 3.13)
project(Demo C CXX)
enable_testing()
find_package(Threads REQUIRED)
add_subdirectory(lib)
configure_file(config.h.in config.h)
add_custom_command(OUTPUT made.c COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_CURRENT_SOURCE_DIR}/made.in made.c
                   DEPENDS made.in)
foreach(i RANGE 1 8)
  file(WRITE ${CMAKE_BINARY_DIR}/part${i}.c "int Part${i}(int x) { return x + ${i}; }\n")
  list(APPEND parts ${CMAKE_BINARY_DIR}/part${i}.c)
endforeach()
add_executable(demo main.cc made.c ${parts})
target_include_directories(demo PRIVATE ${CMAKE_BINARY_DIR})
target_link_libraries(demo PRIVATE answer Threads::Threads)
add_test(NAME runs COMMAND demo)
add_test(NAME fails COMMAND demo fail)
set_tests_properties(fails PROPERTIES WILL_FAIL TRUE)
install(TARGETS demo DESTINATION bin)
EOF
echo 'int Made(void) { return 7; }' >made.in
echo '#define VERSION "@CMAKE_SYSTEM_NAME@"' >config.h.in
echo 'add_library(answer SHARED answer.c)' >lib/CMakeLists.txt
echo 'int Answer(void) { return 42; }' >lib/answer.c
cat >main.cc <<'EOF'
#include <iostream>
#include <string>
#include <thread>
#include <vector>
#include "config.h"
extern "C" int Answer(void), Made(void), Part8(int);
int main(int argc, char **) {
  std::vector<std::thread> threads;
  int sums[4] = {};
  for (int i = 0; i < 4; ++i) threads.emplace_back([i, &sums] { sums[i] = Part8(i) + Made(); });
  for (auto &t : threads) t.join();
  try {
    throw std::string(VERSION);
  } catch (const std::string &s) {
    std::cout << Answer() << ' ' << sums[0] + sums[3] << ' ' << s << std::endl;
  }
  return argc > 1;
}
EOF
cd ..
cmake -G Ninja -S src -B out -DCMAKE_BUILD_TYPE=Debug >cmake.log 2>&1; echo "cmake $?"
grep -E 'identification|Looking for pthread|Detecting .* compile features' cmake.log
ninja -C out -j2 >ninja.log; echo "ninja $?"; tail -1 ninja.log | sed 's/.*\] //'
out/demo
ninja -C out -n | tail -1
echo 'int Answer(void) { return 43; }' >src/lib/answer.c; ninja -C out >/dev/null; out/demo
(cd out && ctest 2>&1 | grep -E 'Passed|tests passed' | sed 's/ *[0-9.]* sec//')
DESTDIR=$PWD/root cmake --install out >/dev/null; find root -type f | sed 's/.*usr/usr/'
echo 'int broken(' >src/lib/answer.c; ninja -C out >failed.log; echo "ninja $?"; grep -c FAILED failed.log
rm -rf src out root ./*.log
