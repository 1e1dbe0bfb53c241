// A plain C program for musl: stdio, threads, fork, pipes, signals, directories.
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int turn, total;

static void* worker(void* arg) {
  int id = (int)(long)arg;
  for (int i = 0; i < 50; ++i) {
    pthread_mutex_lock(&lock);
    while (turn % 4 != id) pthread_cond_wait(&cond, &lock);
    ++turn;
    ++total;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&lock);
  }
  return arg;
}

static volatile int caught;
static void handler(int sig) { caught = sig; }

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) printf("arg %s\n", argv[i]);
  pthread_t t[4];
  for (long i = 0; i < 4; ++i) pthread_create(&t[i], 0, worker, (void*)i);
  for (int i = 0; i < 4; ++i) pthread_join(t[i], 0);
  printf("total %d\n", total);
  fflush(stdout);
  int p[2];
  if (pipe(p) != 0) return 1;
  for (int i = 0; i < 5; ++i) {
    if (fork() == 0) {
      dprintf(p[1], "%d", i);
      _exit(i);
    }
    int status;
    wait(&status);
    printf("child %d\n", WEXITSTATUS(status));
  }
  char b[16] = {0};
  printf("%zd %s\n", read(p[0], b, 15), b);
  signal(SIGUSR1, handler);
  raise(SIGUSR1);
  printf("caught %d\n", caught == SIGUSR1);
  FILE* f = fopen("out.txt", "w");
  for (int i = 0; i < 10000; ++i) fprintf(f, "%d\n", i);
  fclose(f);
  f = popen("wc -l < out.txt", "r");
  printf("%s", fgets(b, sizeof b, f));
  pclose(f);
  char* q = malloc(50 << 20);
  memset(q, 1, 50 << 20);
  free(q);
  nanosleep(&(struct timespec){0, 1000000}, 0);
  DIR* d = opendir(".");
  int n = 0;
  for (struct dirent* e; (e = readdir(d));) n += strcmp(e->d_name, "out.txt") == 0;
  closedir(d);
  printf("found %d\n", n);
  return 0;
}
