# needs: g++ clang clang++ ar nm objdump
# Both compilers at optimised C++ with templates, precompiled headers, LTO, sanitizers and a shared library.
cat >a.cc <<'EOF'
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>
int Twice(int);
int main() {
  std::map<std::string, std::vector<int>> m;
  for (int i = 0; i < 100; ++i) m[std::to_string(i % 7)].push_back(Twice(i));
  int sum = 0;
  for (auto &[k, v] : m) sum += *std::max_element(v.begin(), v.end());
  try {
    m.at("none");
  } catch (const std::exception &) {
    std::printf("%d\n", sum);
  }
}
EOF
echo 'int Twice(int x) { return 2 * x; }' >b.cc
for cc in g++ clang++; do
  echo "--- $cc"
  $cc -std=c++20 -O2 -pipe -c a.cc -o a.o && $cc -O2 -c b.cc -o b.o && $cc a.o b.o -o prog && ./prog
  $cc -O1 -flto -c b.cc -o b.lto.o 2>&1; echo "lto $?"
  $cc -shared -fPIC b.cc -o libtwo.so && $cc a.o -L. -ltwo -Wl,-rpath,"$PWD" -o prog && ./prog
  $cc -static a.o b.o -o prog && ./prog
  rm -f libb.a; ar rcs libb.a b.o; nm libb.a | grep -c Twice; $cc a.o libb.a -o prog && ./prog
  echo 'int f( { return x; }' | $cc -x c++ -fsyntax-only - 2>&1 | grep -c error
  echo 'int main() { return 3; }' | $cc -x c++ - -o three && ./three; echo "status $?"
done
cat >bad.c <<'EOF'
#include <stdlib.h>
int main(int argc, char **argv) { char *p = malloc(8); return p[argc + 7]; }
EOF
for cc in gcc clang; do
  $cc -g -fsanitize=address bad.c -o bad && ./bad 2>err; echo "$cc asan $?"; grep -o 'heap-buffer-overflow' err | head -1
  echo 'int main(int c, char **v) { int x = 0x7fffffff; return x + c == 3; }' >ub.c
  $cc -fsanitize=undefined ub.c -o ub && ./ub 2>&1 | grep -o 'signed integer overflow'
done
cat >race.c <<'EOF'
#include <pthread.h>
int x;
void *f(void *a) { for (int i = 0; i < 1000; ++i) x++; return a; }
int main() { pthread_t t[2]; for (int i = 0; i < 2; ++i) pthread_create(t + i, 0, f, 0);
  for (int i = 0; i < 2; ++i) pthread_join(t[i], 0); return 0; }
EOF
gcc -g -fsanitize=thread race.c -o race && ./race 2>err; echo "tsan $?"; grep -o 'data race' err | head -1
objdump -d three 2>/dev/null | grep -c '<main>:'
rm -f ./*.o ./*.so ./*.a prog three bad ub race err
