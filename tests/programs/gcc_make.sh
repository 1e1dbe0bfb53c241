# needs: gcc make
set -e
for i in $(seq 0 39); do
  cat > u$i.c <<EOF
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "all.h"
int f$i(int x) { char b[32]; snprintf(b, sizeof b, "%d", x * $i); return atoi(b) + (int)strlen(b); }
EOF
done
{ for i in $(seq 0 39); do echo "int f$i(int);"; done; } > all.h
{ echo '#include <stdio.h>'; echo '#include "all.h"'; echo 'int main(void) { int s = 0;'
  for i in $(seq 0 39); do echo "s += f$i(7);"; done; echo 'printf("%d\n", s); return 0; }'; } > main.c
cat > Makefile <<'EOF'
OBJS := $(patsubst %.c,%.o,$(wildcard *.c))
CFLAGS := -O1 -g0
prog: $(OBJS)
	$(CC) -o $@ $^
%.o: %.c all.h
	$(CC) $(CFLAGS) -c -o $@ $<
lib.a: $(OBJS)
	ar rcsD $@ $^
EOF
make -s -j2 prog
./prog
make -q prog && echo "up to date"
echo >> u3.c; make -n prog | wc -l
make -s lib.a && ar t lib.a | wc -l
gcc -O2 -shared -fPIC -o libu.so u1.c u2.c -Wl,--build-id=none && nm -D libu.so | grep -c ' T f'
gcc -o none none.c 2>/dev/null || echo "error $?"
