// Two parties: round trips between two cores, and streams.
#include <linux/futex.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "benchmarks/micro/bench.h"

namespace ringwall::bench {
namespace {

void Start(void* (*body)(void*), void* argument) {
  pthread_t thread;
  Need(pthread_create(&thread, nullptr, body, argument) == 0, "pthread_create");
  pthread_detach(thread);
}

std::atomic<int> g_turn;

void WaitFor(int mine) {
  for (;;) {
    const int now = g_turn;
    if (now == mine) return;
    syscall(SYS_futex, &g_turn, FUTEX_WAIT_PRIVATE, now, nullptr);
  }
}

void GiveTo(int other) {
  g_turn = other;
  syscall(SYS_futex, &g_turn, FUTEX_WAKE_PRIVATE, 1);
}

BENCH(futex_pingpong) {
  static bool started = [] {
    PinTo(0);
    Start([](void*) -> void* {
      PinTo(1);
      for (;;) {
        WaitFor(1);
        GiveTo(0);
      }
    }, nullptr);
    return true;
  }();
  (void)started;
  while (n--) {
    GiveTo(1);
    WaitFor(0);
  }
}

struct Ends {
  int in, out;
};

// An echo in a process of its own on the second core.
void StartEcho(Ends ends) {
  if (fork() == 0) {
    PinTo(1);
    char c;
    while (read(ends.in, &c, 1) == 1 && write(ends.out, &c, 1) == 1) {
    }
    _exit(0);
  }
  PinTo(0);
}

void PingPong(int64_t n, Ends ends) {
  char c = 'x';
  while (n--) Need(write(ends.out, &c, 1) == 1 && read(ends.in, &c, 1) == 1, "round trip");
}

BENCH(pipe_pingpong) {
  static const Ends ends = [] {
    int there[2], back[2];
    Need(pipe(there) == 0 && pipe(back) == 0, "pipe");
    StartEcho({there[0], back[1]});
    return Ends{back[0], there[1]};
  }();
  PingPong(n, ends);
}

BENCH(unix_pingpong) {
  static const Ends ends = [] {
    int pair[2];
    Need(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
    StartEcho({pair[1], pair[1]});
    return Ends{pair[0], pair[0]};
  }();
  PingPong(n, ends);
}

constexpr size_t kChunk = 65536;
char g_chunk[kChunk];

// A reader that answers one byte for every MiB, so that a turn ends when its bytes have arrived.
void StartSink(Ends ends) {
  if (fork() == 0) {
    size_t left = 1 << 20;
    ssize_t got;
    while ((got = read(ends.in, g_chunk, std::min(left, kChunk))) > 0) {
      left -= got;
      if (left == 0) {
        left = 1 << 20;
        if (write(ends.out, "k", 1) != 1) break;
      }
    }
    _exit(0);
  }
}

void Stream(int64_t n, Ends ends) {
  while (n--) {
    for (size_t left = 1 << 20; left > 0;) {
      const ssize_t put = write(ends.out, g_chunk, std::min(left, kChunk));
      Need(put > 0, "write");
      left -= put;
    }
    char c;
    Need(read(ends.in, &c, 1) == 1, "read");
  }
}

BENCH(pipe_stream_mib) {
  static const Ends ends = [] {
    int there[2], back[2];
    Need(pipe(there) == 0 && pipe(back) == 0, "pipe");
    StartSink({there[0], back[1]});
    return Ends{back[0], there[1]};
  }();
  Stream(n, ends);
}

BENCH(unix_stream_mib) {
  static const Ends ends = [] {
    int pair[2];
    Need(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
    StartSink({pair[1], pair[1]});
    return Ends{pair[0], pair[0]};
  }();
  Stream(n, ends);
}

}  // namespace
}  // namespace ringwall::bench
