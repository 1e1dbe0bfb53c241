// What gdb and strace look at: a thread, a variable to watch, a crash when asked for.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int total;

__attribute__((noinline)) int Square(int x) {
  int r = x * x;
  total += r;
  return r;
}

static void* Work(void* p) {
  for (int i = 0; i < 3; i++) Square(*(int*)p + i);
  return NULL;
}

int main(int argc, char** argv) {
  if (argc > 1 && argv[1][0] == 'c') *(volatile int*)8 = 1;
  if (argc > 1 && argv[1][0] == 'p') {
    puts("ready");
    fflush(stdout);
    for (;;) pause();
  }
  pthread_t thread;
  int base = 2;
  pthread_create(&thread, NULL, Work, &base);
  pthread_join(thread, NULL);
  for (int i = 0; i < 3; i++) printf("%d\n", Square(i));
  if (argc > 1 && argv[1][0] == 'f' && fork() == 0) _exit(3);
  printf("%d\n", total);
  return 0;
}
