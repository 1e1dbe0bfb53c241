// Crashes in a nested call while two threads wait, one of them in a call.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int counter = 4711;
static volatile int ready;
static pthread_barrier_t barrier;

static void* Sleeper(void* arg) {
  pthread_barrier_wait(&barrier);
  pause();
  return arg;
}

static void* Spinner(void* arg) {
  pthread_barrier_wait(&barrier);
  for (;;) ready++;
  return arg;
}

static int Crash(int depth, const char* text) {
  if (depth > 0) return Crash(depth - 1, text) + 1;
  *(volatile int*)(unsigned long)strlen("") = counter + *text;
  return 0;
}

int main(void) {
  pthread_t t;
  pthread_barrier_init(&barrier, NULL, 3);
  pthread_create(&t, NULL, Sleeper, NULL);
  pthread_create(&t, NULL, Spinner, NULL);
  char* text = strdup("on the heap");
  double half = 0.5;
  pthread_barrier_wait(&barrier);
  while (ready < 1000) half *= 1.0;
  return Crash(3, text) + (int)half;
}
