// What becomes of calls that wait: each call of the table waits in a process of its own, something happens to it there
// (a signal, a stop, a tracer, an end of its file), and it is told whether it went on waiting and what it returned.
// That a call waits is seen in /proc, not guessed from the time that passed.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum Step { kSetUp, kCall, kFeed, kClean };

// What the waiting process and the one that watches it share.
struct Shared {
  volatile int entered, handled, broken, done, error;
  volatile long result;
  char note[128];
  int word;
  int other_word;
};
static struct Shared* shared;
static int mine, peer, third, object;
static pid_t subject;
static char buffer[1 << 16];

static void Note(const char* format, ...) {
  va_list list;
  va_start(list, format);
  vsnprintf(shared->note, sizeof shared->note, format, list);
  va_end(list);
}
static struct timespec After(clockid_t clock, long seconds) {
  struct timespec t;
  clock_gettime(clock, &t);
  t.tv_sec += seconds;
  return t;
}
// What is left of 1000 seconds, as far as it is the same each time.
static const char* Left(long seconds, long parts) {
  if (seconds == 77) return "untouched";
  if (seconds == 0 && parts == 0) return "nothing";
  return seconds > 0 && (seconds < 1000 || parts == 0) ? "part" : "odd";
}
static void Pair(int domain, int type) {
  int pair[2];
  if (socketpair(domain, type, 0, pair) < 0) perror("socketpair");
  mine = pair[0], peer = pair[1];
}
static void Pipe(int writes) {
  int pair[2];
  if (pipe(pair) < 0) perror("pipe");
  mine = pair[writes], peer = pair[!writes];
}
static void Fill(int fd) {
  int flags = fcntl(fd, F_GETFL);
  fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  while (write(fd, buffer, 4096) > 0) continue;
  while (write(fd, buffer, 1) > 0) continue;
  fcntl(fd, F_SETFL, flags);
}
static long Drain(int fd) {
  int flags = fcntl(fd, F_GETFL);
  long total = 0, got;
  fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  while ((got = read(fd, buffer, sizeof buffer)) > 0) total += got;
  fcntl(fd, F_SETFL, flags);
  return total;
}
static void Listen(int type, int backlog) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  mine = socket(AF_INET, type, 0);
  if (bind(mine, (struct sockaddr*)&address, sizeof address) < 0) perror("bind");
  if (type == SOCK_STREAM) listen(mine, backlog);
}
static int Connected(void) {
  struct sockaddr_storage address;
  socklen_t size = sizeof address;
  getsockname(mine, (struct sockaddr*)&address, &size);
  int fd = socket(address.ss_family, SOCK_STREAM, 0);
  connect(fd, (struct sockaddr*)&address, size);
  return fd;
}
static void TcpPair(void) {
  Listen(SOCK_STREAM, 4);
  int listener = mine;
  peer = Connected();
  mine = accept(listener, NULL, NULL);
  close(listener);
}
static void UnixListen(int backlog) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  mine = socket(AF_UNIX, SOCK_STREAM, 0);
  bind(mine, (struct sockaddr*)&address, sizeof(sa_family_t));
  listen(mine, backlog);
}
static void Patience(int option) {
  struct timeval limit = {1000, 0};
  setsockopt(mine, SOL_SOCKET, option, &limit, sizeof limit);
}

#define WAIT(name) static long name(enum Step step)
#define READER(name, setup, feed)                                          \
  WAIT(name) {                                                             \
    if (step == kSetUp) setup;                                             \
    if (step == kCall) return read(mine, buffer, 100);                     \
    if (step == kFeed) feed;                                               \
    return 0;                                                              \
  }
#define WRITER(name, setup)                                                \
  WAIT(name) {                                                             \
    if (step == kSetUp) {                                                  \
      setup;                                                               \
      Fill(mine);                                                          \
    }                                                                      \
    if (step == kCall) return write(mine, buffer, 100);                    \
    if (step == kFeed) Drain(peer);                                        \
    return 0;                                                              \
  }
#define GIVE (void)!write(peer, "abc", 3)
READER(pipe_read, Pipe(0), GIVE)
READER(unix_stream_read, Pair(AF_UNIX, SOCK_STREAM), GIVE)
READER(unix_datagram_read, Pair(AF_UNIX, SOCK_DGRAM), GIVE)
READER(unix_seqpacket_read, Pair(AF_UNIX, SOCK_SEQPACKET), GIVE)
READER(tcp_read, TcpPair(), GIVE)
READER(tcp_read_limit, (TcpPair(), Patience(SO_RCVTIMEO)), GIVE)
READER(unix_read_limit, (Pair(AF_UNIX, SOCK_STREAM), Patience(SO_RCVTIMEO)), GIVE)
READER(udp_read, Listen(SOCK_DGRAM, 0), {
  struct sockaddr_in a;
  socklen_t n = sizeof a;
  getsockname(mine, (struct sockaddr*)&a, &n);
  sendto(mine, "abc", 3, 0, (struct sockaddr*)&a, n);
})
READER(counter_read, mine = peer = eventfd(0, 0), {
  uint64_t one = 1;
  (void)!write(mine, &one, 8);
})
static void Ring(long seconds, long parts) {
  struct itimerspec t = {.it_value = {seconds, parts}};
  timerfd_settime(mine, 0, &t, NULL);
}
READER(timer_read, (mine = timerfd_create(CLOCK_MONOTONIC, 0), Ring(1000, 0)), Ring(0, 1))
READER(watch_read, (mine = inotify_init(), inotify_add_watch(mine, ".", IN_CREATE)), {
  close(open("made", O_CREAT | O_RDWR, 0600));
  unlink("made");
})
READER(terminal_read, openpty(&peer, &mine, NULL, NULL, NULL), (void)!write(peer, "abc\n", 4))
READER(master_read, openpty(&mine, &peer, NULL, NULL, NULL), GIVE)
static void AskForLinks(void) {
  struct {
    struct nlmsghdr head;
    struct rtgenmsg what;
  } ask = {{sizeof ask, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {AF_UNSPEC}};
  (void)!send(mine, &ask, sizeof ask, 0);
}
READER(netlink_read, mine = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), AskForLinks())
static void Frames(int step) {  // Of a protocol that nobody else here sends.
  struct sockaddr_ll all = {.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = 1, .sll_halen = 6};
  if (step == kFeed) sendto(mine, "abc", 3, 0, (struct sockaddr*)&all, sizeof all);
  if (step != kSetUp) return;
  mine = socket(AF_PACKET, SOCK_DGRAM, htons(0x88b5));
  if (bind(mine, (struct sockaddr*)&all, sizeof all) < 0) perror("bind");
}
READER(packet_read, Frames(kSetUp), Frames(kFeed))
WRITER(pipe_write, Pipe(1))
WRITER(unix_datagram_write, Pair(AF_UNIX, SOCK_DGRAM))
static void FullTcp(void) {
  TcpPair();
  // What is on its way makes room once it has arrived.
  for (int i = 0; i < 20; i++) {
    Fill(mine);
    usleep(5000);
  }
}
WRITER(tcp_write, FullTcp())
WAIT(tcp_connect) {  // The listener's queue is full: its SYN is not answered.
  static struct sockaddr_in address;
  socklen_t size = sizeof address;
  if (step == kSetUp) {
    Listen(SOCK_STREAM, 0);
    third = mine;
    getsockname(third, (struct sockaddr*)&address, &size);
    for (int i = 0; i < 2; i++) {
      int other = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
      connect(other, (struct sockaddr*)&address, size);
    }
    mine = socket(AF_INET, SOCK_STREAM, 0);
  }
  if (step == kCall) return connect(mine, (struct sockaddr*)&address, size);
  if (step == kFeed) {
    fcntl(third, F_SETFL, O_NONBLOCK);
    for (; !shared->done; usleep(1000)) close(accept(third, NULL, NULL));
  }
  return 0;
}
WRITER(unix_stream_write, Pair(AF_UNIX, SOCK_STREAM))
WRITER(unix_seqpacket_write, Pair(AF_UNIX, SOCK_SEQPACKET))
WRITER(unix_write_limit, (Pair(AF_UNIX, SOCK_STREAM), Patience(SO_SNDTIMEO)))
WAIT(signalfd_read) {
  if (step == kSetUp) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    sigprocmask(SIG_BLOCK, &set, NULL);
    mine = signalfd(-1, &set, 0);
  }
  if (step == kCall) return read(mine, buffer, 1000);
  if (step == kFeed) kill(subject, SIGWINCH);
  return 0;
}
WAIT(counter_write) {
  uint64_t most = -2, got;
  if (step == kSetUp) {
    mine = eventfd(0, 0);
    (void)!write(mine, &most, 8);
  }
  if (step == kCall) return write(mine, &most, 8);
  if (step == kFeed) (void)!read(mine, &got, 8);
  return 0;
}
WAIT(pipe_write_part) {  // More than fits: what was moved before the interruption is told.
  if (step == kSetUp) Pipe(1);
  if (step == kCall) {
    static char much[1 << 18];
    return write(mine, much, sizeof much);
  }
  if (step == kFeed)
    while (!shared->done) Drain(peer);
  return 0;
}
WAIT(recv_all) {
  if (step == kSetUp) {
    Pair(AF_UNIX, SOCK_STREAM);
    GIVE;
  }
  if (step == kCall) return recv(mine, buffer, 6, MSG_WAITALL);
  if (step == kFeed) GIVE;
  return 0;
}
WAIT(tcp_recv_all) {
  if (step == kSetUp) {
    TcpPair();
    GIVE;
  }
  if (step == kCall) return recv(mine, buffer, 6, MSG_WAITALL);
  if (step == kFeed) GIVE;
  return 0;
}
static long Many(struct timespec* limit) {
  struct iovec parts[2] = {{buffer, 10}, {buffer + 10, 10}};
  struct mmsghdr all[2] = {{.msg_hdr = {.msg_iov = parts, .msg_iovlen = 1}},
                           {.msg_hdr = {.msg_iov = parts + 1, .msg_iovlen = 1}}};
  return recvmmsg(mine, all, 2, 0, limit);
}
WAIT(recvmmsg_part) {
  if (step == kSetUp) {
    Pair(AF_UNIX, SOCK_DGRAM);
    GIVE;
  }
  if (step == kCall) return Many(NULL);
  if (step == kFeed) GIVE;
  return 0;
}
WAIT(recvmmsg_limit) {
  if (step == kSetUp) Pair(AF_UNIX, SOCK_DGRAM);
  if (step == kCall) {
    struct timespec limit = {1000, 0};
    long got = Many(&limit);
    Note("left %s", Left(limit.tv_sec, limit.tv_nsec));
    return got;
  }
  if (step == kFeed) GIVE, GIVE;
  return 0;
}
WAIT(tcp_accept) {
  if (step == kSetUp) Listen(SOCK_STREAM, 4);
  if (step == kCall) return accept(mine, NULL, NULL) < 0 ? -1 : 0;
  if (step == kFeed) Connected();
  return 0;
}
WAIT(tcp_accept_limit) {
  if (step == kSetUp) Listen(SOCK_STREAM, 4), Patience(SO_RCVTIMEO);
  return step == kSetUp ? 0 : tcp_accept(step);
}
WAIT(unix_accept) {
  if (step == kSetUp) UnixListen(4);
  return step == kSetUp ? 0 : tcp_accept(step);
}
WAIT(unix_connect) {
  if (step == kSetUp) {
    UnixListen(0);
    Connected();
  }
  if (step == kCall) {
    struct sockaddr_un address;
    socklen_t size = sizeof address;
    getsockname(mine, (struct sockaddr*)&address, &size);
    return connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr*)&address, size);
  }
  if (step == kFeed) accept(mine, NULL, NULL);
  return 0;
}
static long Futex(int op, const struct timespec* limit) {
  return syscall(SYS_futex, &shared->word, op, shared->word, limit, NULL, ~0u);
}
static long WakeFutex(void) { return Futex(FUTEX_WAKE, NULL); }
WAIT(futex_wait) { return step == kCall ? Futex(FUTEX_WAIT, NULL) : step == kFeed ? WakeFutex() : 0; }
WAIT(futex_wait_limit) {
  struct timespec t = {1000, 0};
  return step == kCall ? Futex(FUTEX_WAIT, &t) : step == kFeed ? WakeFutex() : 0;
}
WAIT(futex_wait_bitset) {
  struct timespec t = After(CLOCK_MONOTONIC, 1000);
  return step == kCall ? Futex(FUTEX_WAIT_BITSET, &t) : step == kFeed ? WakeFutex() : 0;
}
WAIT(futex_waitv) {
  struct futex_waitv all[2] = {{0, (uintptr_t)&shared->other_word, FUTEX_32, 0},
                               {0, (uintptr_t)&shared->word, FUTEX_32, 0}};
  struct timespec t = After(CLOCK_MONOTONIC, 1000);
  if (step == kCall) return syscall(SYS_futex_waitv, all, 2, 0, &t, CLOCK_MONOTONIC);
  return step == kFeed ? WakeFutex() : 0;
}
WAIT(futex_lock_pi) {
  if (step == kSetUp) shared->word = (int)syscall(SYS_gettid);
  if (step == kCall) return Futex(FUTEX_LOCK_PI, NULL);
  if (step == kFeed) Futex(FUTEX_UNLOCK_PI, NULL);
  return 0;
}
static long Sleep(clockid_t clock, int flags) {
  struct timespec t = {1000, 0}, left = {77, 0};
  if (flags) t = After(clock, 1000);
  long error = syscall(SYS_clock_nanosleep, clock, flags, &t, &left);
  Note("left %s", Left(left.tv_sec, left.tv_nsec));
  return error;
}
WAIT(sleep_monotonic) { return step == kCall ? Sleep(CLOCK_MONOTONIC, 0) : 0; }
WAIT(sleep_realtime) { return step == kCall ? Sleep(CLOCK_REALTIME, 0) : 0; }
WAIT(sleep_absolute) { return step == kCall ? Sleep(CLOCK_MONOTONIC, TIMER_ABSTIME) : 0; }
WAIT(sleep_plain) {
  struct timespec t = {1000, 0}, left = {77, 0};
  if (step != kCall) return 0;
  long result = syscall(SYS_nanosleep, &t, &left);
  Note("left %s", Left(left.tv_sec, left.tv_nsec));
  return result;
}
WAIT(poll_forever) {
  if (step == kSetUp) Pipe(0);
  struct pollfd p = {mine, POLLIN, 77};
  if (step == kCall) {
    long got = poll(&p, 1, -1);
    Note("events %x", p.revents);
    return got;
  }
  if (step == kFeed) GIVE;
  return 0;
}
WAIT(poll_limit) {
  struct pollfd p = {mine, POLLIN, 77};
  if (step != kCall) return poll_forever(step);
  long got = poll(&p, 1, 1000000);
  Note("events %x", p.revents);
  return got;
}
WAIT(ppoll_limit) {
  if (step != kCall) return poll_forever(step);
  struct pollfd p = {mine, POLLIN, 77};
  struct timespec t = {1000, 0};
  sigset_t none;
  sigemptyset(&none);
  long got = syscall(SYS_ppoll, &p, 1, &t, &none, 8);
  Note("events %x left %s", p.revents, Left(t.tv_sec, t.tv_nsec));
  return got;
}
WAIT(select_limit) {
  if (step != kCall) return poll_forever(step);
  struct timeval t = {1000, 0};
  fd_set set;
  FD_ZERO(&set);
  FD_SET(mine, &set);
  long got = syscall(SYS_select, mine + 1, &set, NULL, NULL, &t);
  Note("set %d left %s", FD_ISSET(mine, &set), Left(t.tv_sec, t.tv_usec));
  return got;
}
WAIT(pselect_limit) {
  if (step != kCall) return poll_forever(step);
  struct timespec t = {1000, 0};
  fd_set set;
  FD_ZERO(&set);
  FD_SET(mine, &set);
  long got = syscall(SYS_pselect6, mine + 1, &set, NULL, NULL, &t, NULL);
  Note("set %d left %s", FD_ISSET(mine, &set), Left(t.tv_sec, t.tv_nsec));
  return got;
}
static void Watch(void) {
  Pipe(0);
  struct epoll_event event = {.events = EPOLLIN};
  third = epoll_create1(0);
  epoll_ctl(third, EPOLL_CTL_ADD, mine, &event);
}
WAIT(epoll_forever) {
  struct epoll_event event;
  if (step == kSetUp) Watch();
  if (step == kCall) return epoll_wait(third, &event, 1, -1);
  if (step == kFeed) GIVE;
  return 0;
}
WAIT(epoll_limit2) {
  struct epoll_event event;
  struct timespec t = {1000, 0};
  return step == kCall ? syscall(SYS_epoll_pwait2, third, &event, 1, &t, NULL, 0) : epoll_forever(step);
}
static pid_t Offspring(void) {  // Ends when it is told so through the pipe.
  pid_t child = fork();
  if (child == 0) {
    close(peer);
    _exit((int)read(mine, buffer, 1) + 5);
  }
  close(mine);
  return child;
}
WAIT(wait4_child) {
  int status = 0;
  if (step == kSetUp) Pipe(0);
  if (step == kCall) {
    pid_t child = Offspring();
    shared->entered = 1;
    pid_t got = wait4(-1, &status, 0, NULL);
    Note("status %x", status);
    return got == child ? 0 : got;
  }
  if (step == kFeed) GIVE;
  return 0;
}
WAIT(waitid_child) {
  siginfo_t info = {.si_signo = 77};
  if (step != kCall) return wait4_child(step);
  pid_t child = Offspring();
  shared->entered = 1;
  long got = waitid(P_PID, (id_t)child, &info, WEXITED | WSTOPPED);
  Note("signal %d code %d status %d", info.si_signo, info.si_code, info.si_status);
  return got;
}
WAIT(sigtimedwait_limit) {
  siginfo_t info = {.si_signo = 77};
  struct timespec t = {1000, 0};
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGWINCH);
  if (step == kSetUp) sigprocmask(SIG_BLOCK, &set, NULL);
  if (step == kCall) {
    long got = syscall(SYS_rt_sigtimedwait, &set, &info, &t, 8);
    Note("signal %d code %d", info.si_signo, info.si_code);
    return got;
  }
  if (step == kFeed) kill(subject, SIGWINCH);
  return 0;
}
WAIT(sigsuspend_none) {
  sigset_t none;
  sigemptyset(&none);
  return step == kCall ? sigsuspend(&none) : 0;
}
WAIT(pause_plain) { return step == kCall ? pause() : 0; }
static long Semaphore(int change, const struct timespec* limit) {
  struct sembuf op = {0, (short)change, 0};
  return semtimedop(object, &op, 1, limit);
}
WAIT(semop_down) {
  if (step == kSetUp) object = semget(IPC_PRIVATE, 1, 0600);
  if (step == kCall) return Semaphore(-1, NULL);
  if (step == kFeed) Semaphore(1, NULL);
  if (step == kClean) semctl(object, 0, IPC_RMID);
  return 0;
}
WAIT(semtimedop_down) {
  struct timespec t = {1000, 0};
  return step == kCall ? Semaphore(-1, &t) : semop_down(step);
}
WAIT(semop_removed) { return step == kFeed ? semop_down(kClean) : semop_down(step); }
struct Letter {
  long type;
  char text[8000];
};
static struct Letter letter = {.type = 1};
WAIT(msgrcv_any) {
  if (step == kSetUp) object = msgget(IPC_PRIVATE, 0600);
  if (step == kCall) return msgrcv(object, &letter, 100, 0, 0);
  if (step == kFeed) msgsnd(object, &letter, 50, 0);
  if (step == kClean) msgctl(object, IPC_RMID, NULL);
  return 0;
}
WAIT(msgrcv_removed) { return step == kFeed ? msgrcv_any(kClean) : msgrcv_any(step); }
WAIT(msgsnd_full) {
  if (step == kSetUp) {
    object = msgget(IPC_PRIVATE, 0600);
    while (msgsnd(object, &letter, 8000, IPC_NOWAIT) == 0) continue;
  }
  if (step == kCall) return msgsnd(object, &letter, 8000, 0);
  if (step == kFeed)
    while (!shared->done) msgrcv(object, &letter, 8000, 0, IPC_NOWAIT);
  return step == kClean ? msgrcv_any(kClean) : 0;
}
static void Queue(void) {
  struct mq_attr about = {.mq_maxmsg = 1, .mq_msgsize = 8};
  char name[40];
  snprintf(name, sizeof name, "/blocking_waits_%d", getpid());
  third = mq_open(name, O_CREAT | O_RDWR, 0600, &about);
  mq_unlink(name);
}
WAIT(mq_receive_limit) {
  struct timespec t = After(CLOCK_REALTIME, 1000);
  if (step == kSetUp) Queue();
  if (step == kCall) return mq_timedreceive(third, buffer, 8, NULL, &t);
  if (step == kFeed) mq_send(third, "abc", 3, 0);
  return 0;
}
WAIT(mq_receive_forever) {
  return step == kCall ? mq_receive(third, buffer, 8, NULL) : mq_receive_limit(step);
}
WAIT(mq_send_full) {
  if (step == kSetUp) Queue(), mq_send(third, "abc", 3, 0);
  if (step == kCall) return mq_send(third, "def", 3, 0);
  if (step == kFeed) mq_receive(third, buffer, 8, NULL);
  return 0;
}
static int File(void) { return open("file", O_CREAT | O_RDWR, 0600); }
static long Lock(int fd, int command, int type) {
  struct flock lock = {.l_type = (short)type, .l_whence = SEEK_SET, .l_len = 10};
  return fcntl(fd, command, &lock);
}
WAIT(flock_exclusive) {
  if (step == kSetUp) third = File(), flock(third, LOCK_EX);
  if (step == kCall) return flock(File(), LOCK_EX);
  if (step == kFeed) flock(third, LOCK_UN);
  return 0;
}
WAIT(posix_lock) {
  if (step == kSetUp) third = File(), Lock(third, F_SETLK, F_WRLCK);
  if (step == kCall) return Lock(third, F_SETLKW, F_WRLCK);
  if (step == kFeed) Lock(third, F_SETLK, F_UNLCK);
  return 0;
}
WAIT(open_description_lock) {
  if (step == kSetUp) third = File(), Lock(third, F_OFD_SETLK, F_WRLCK);
  if (step == kCall) return Lock(File(), F_OFD_SETLKW, F_RDLCK);
  if (step == kFeed) Lock(third, F_OFD_SETLK, F_UNLCK);
  return 0;
}
WAIT(io_getevents_limit) {
  aio_context_t context = 0;
  struct io_event event;
  struct timespec t = {1000, 0};
  if (step != kCall) return 0;
  syscall(SYS_io_setup, 1, &context);
  return syscall(SYS_io_getevents, context, 1, 1, &event, &t);
}
WAIT(fifo_open_read) {
  if (step == kSetUp) mkfifo("fifo", 0600);
  if (step == kCall) return open("fifo", O_RDONLY) < 0 ? -1 : 0;
  if (step == kFeed) open("fifo", O_WRONLY | O_NONBLOCK);
  if (step == kClean) unlink("fifo");
  return 0;
}
WAIT(fifo_open_write) {
  if (step == kCall) return open("fifo", O_WRONLY) < 0 ? -1 : 0;
  if (step == kFeed) return open("fifo", O_RDONLY | O_NONBLOCK);
  return fifo_open_read(step);
}
WAIT(splice_from_empty) {
  int pair[2];
  if (step == kSetUp) Pipe(0);
  if (step == kCall) {
    (void)!pipe(pair);
    return splice(mine, NULL, pair[1], NULL, 100, 0);
  }
  if (step == kFeed) GIVE;
  return 0;
}
WAIT(tee_from_empty) {
  int pair[2];
  if (step == kCall) {
    (void)!pipe(pair);
    return tee(mine, pair[1], 100, 0);
  }
  return splice_from_empty(step);
}
WAIT(sendfile_to_full) {
  if (step == kSetUp) {
    Pipe(1);
    third = File();
    (void)!write(third, buffer, 100);
    lseek(third, 0, SEEK_SET);
    Fill(mine);
  }
  if (step == kCall) return sendfile(mine, third, NULL, 100);
  if (step == kFeed) Drain(peer);
  return 0;
}

#define ENTRY(name) {#name, name}
static const struct Entry {
  const char* name;
  long (*run)(enum Step);
} table[] = {
    ENTRY(pipe_read), ENTRY(unix_stream_read), ENTRY(unix_datagram_read), ENTRY(unix_seqpacket_read), ENTRY(tcp_read),
    ENTRY(tcp_read_limit), ENTRY(unix_read_limit), ENTRY(udp_read), ENTRY(counter_read), ENTRY(timer_read),
    ENTRY(watch_read), ENTRY(terminal_read), ENTRY(master_read), ENTRY(pipe_write), ENTRY(unix_stream_write),
    ENTRY(unix_seqpacket_write), ENTRY(unix_write_limit), ENTRY(signalfd_read), ENTRY(counter_write),
    ENTRY(pipe_write_part), ENTRY(recv_all), ENTRY(tcp_recv_all), ENTRY(recvmmsg_part), ENTRY(recvmmsg_limit),
    ENTRY(tcp_accept), ENTRY(tcp_accept_limit), ENTRY(unix_accept), ENTRY(unix_connect), ENTRY(futex_wait),
    ENTRY(futex_wait_limit), ENTRY(futex_wait_bitset), ENTRY(futex_waitv), ENTRY(futex_lock_pi), ENTRY(sleep_monotonic),
    ENTRY(sleep_realtime), ENTRY(sleep_absolute), ENTRY(sleep_plain), ENTRY(poll_forever), ENTRY(poll_limit),
    ENTRY(ppoll_limit), ENTRY(select_limit), ENTRY(pselect_limit), ENTRY(epoll_forever), ENTRY(epoll_limit2),
    ENTRY(wait4_child), ENTRY(waitid_child), ENTRY(sigtimedwait_limit), ENTRY(sigsuspend_none), ENTRY(pause_plain),
    ENTRY(semop_down), ENTRY(semtimedop_down), ENTRY(semop_removed), ENTRY(msgrcv_any), ENTRY(msgrcv_removed),
    ENTRY(msgsnd_full), ENTRY(mq_receive_limit), ENTRY(mq_receive_forever), ENTRY(mq_send_full), ENTRY(flock_exclusive),
    ENTRY(posix_lock), ENTRY(open_description_lock), ENTRY(io_getevents_limit), ENTRY(fifo_open_read),
    ENTRY(fifo_open_write), ENTRY(splice_from_empty), ENTRY(tee_from_empty), ENTRY(sendfile_to_full),
    ENTRY(netlink_read), ENTRY(packet_read), ENTRY(unix_datagram_write), ENTRY(tcp_write),
    ENTRY(tcp_connect),
};

enum Event { kHandler, kRestart, kIgnored, kStop, kSeize, kAttach, kPeerCloses, kShutRead, kShutWrite, kThreadCloses,
             kThreadExecs, kThreadExits, kEvents };
static const char* const event_names[kEvents] = {"handler", "restart", "ignored", "stop", "seize", "attach",
    "peer closes", "shut read", "shut write", "thread closes", "thread execs", "thread exits"};

static void Handle(int signal) { shared->handled = signal; }
static void Break(int signal) { shared->broken = signal; }
static int orders[2];
// The other thread of the waiting process, for what only a thread of it can do.
static void* Obey(void* event) {
  char order;
  (void)!read(orders[0], &order, 1);
  switch ((enum Event)(long)event) {
    case kThreadCloses: close(mine); shared->handled = 1; break;
    case kThreadExecs: execl("/bin/true", "true", NULL); break;
    default: syscall(SYS_exit_group, 7);
  }
  return NULL;
}
static void Wait(const struct Entry* entry, enum Event event) {
  struct sigaction action = {.sa_handler = Handle, .sa_flags = event == kRestart ? SA_RESTART : 0};
  sigaction(SIGUSR1, &action, NULL);
  signal(SIGUSR2, SIG_IGN);
  signal(SIGPIPE, Break);
  if (peer >= 0 && peer != mine && !strstr(entry->name, "child")) close(peer);
  if (event >= kThreadCloses) {
    pthread_t thread;
    pthread_create(&thread, NULL, Obey, (void*)(long)event);
  }
  if (!strstr(entry->name, "child")) shared->entered = 1;
  errno = 0;
  shared->result = entry->run(kCall);
  shared->error = errno;
  shared->done = 1;
  _exit(3);
}
static char State(void) {
  char path[64], text[512] = "";
  snprintf(path, sizeof path, "/proc/%d/task/%d/stat", subject, subject);
  int fd = open(path, O_RDONLY);
  if (fd < 0) return 'X';
  (void)!read(fd, text, sizeof text - 1);
  close(fd);
  char* end = strrchr(text, ')');
  return end ? end[2] : '?';
}
// Waits until the call waits, and has waited for a while, or is over. False: neither came about.
static int Settled(int looks) {
  int seen = 0;
  for (int i = 0; i < 10000; i++) {
    if (shared->done) return 1;
    char state = State();
    if (state == 'Z' || state == 'X') return 1;
    seen = shared->entered && state == 'S' ? seen + 1 : 0;
    if (seen >= looks) return 1;
    usleep(1000);
  }
  return 0;
}
static int Gone(int* status) {
  for (int i = 0; i < 5000; i++) {
    if (waitpid(subject, status, WNOHANG) == subject) return 1;
    usleep(1000);
  }
  return 0;
}
static void Trace(int request) {
  int status;
  if (ptrace(request, subject, 0, 0) < 0) printf(" %s", strerrorname_np(errno));
  if (request == PTRACE_SEIZE) ptrace(PTRACE_INTERRUPT, subject, 0, 0);
  waitpid(subject, &status, __WALL);
  printf(" stopped %x", status);
  ptrace(PTRACE_DETACH, subject, 0, 0);
}
static void Cause(enum Event event) {
  siginfo_t info;
  int status;
  switch (event) {
    case kHandler:
    case kRestart:
      kill(subject, SIGUSR1);
      for (int i = 0; i < 5000 && !shared->handled; i++) usleep(1000);
      break;
    case kIgnored: kill(subject, SIGUSR2); break;
    case kStop:
      kill(subject, SIGSTOP);
      waitpid(subject, &status, WUNTRACED);
      kill(subject, SIGCONT);
      waitid(P_PID, (id_t)subject, &info, WCONTINUED);  // Not waitpid: it would take the end that may follow.
      break;
    case kSeize: Trace(PTRACE_SEIZE); break;
    case kAttach: Trace(PTRACE_ATTACH); break;
    case kPeerCloses: close(peer); peer = -1; break;
    case kShutRead: shutdown(mine, SHUT_RD); break;
    case kShutWrite: shutdown(mine, SHUT_WR); break;
    default:
      (void)!write(orders[1], "x", 1);
      for (int i = 0; event == kThreadCloses && i < 5000 && !shared->handled; i++) usleep(1000);
  }
}
static int Makes(const struct Entry* entry, enum Event event) {
  int type;
  socklen_t size = sizeof type;
  // Nobody else could wake who reads datagrams.
  if (event == kPeerCloses)
    return peer >= 0 && peer != mine && !strstr(entry->name, "child") &&
           !strstr("unix_datagram_read recvmmsg_part recvmmsg_limit", entry->name);
  if (event == kShutWrite && strcmp(entry->name, "udp_read") == 0) return 0;
  if (event == kShutRead || event == kShutWrite)
    return mine >= 0 && getsockopt(mine, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
  if (event == kThreadCloses) return mine >= 0 && !strstr(entry->name, "child");
  return 1;
}
static void Try(const struct Entry* entry, enum Event event) {
  int status = 0;
  memset(shared, 0, sizeof *shared);
  mine = peer = third = object = -1;
  (void)!pipe(orders);
  entry->run(kSetUp);
  if (Makes(entry, event)) {
    printf("%s, %s:", entry->name, event_names[event]);
    fflush(stdout);
    subject = fork();
    if (subject == 0) Wait(entry, event);
    if (!Settled(3) || shared->done) printf(" did not wait;");
    Cause(event);
    int waits = 0;
    if (event < kThreadExecs) {
      if (!Settled(10)) printf(" neither;");
      waits = !shared->done;
    }
    if (waits) {
      printf(" waits on,");
      entry->run(kFeed);
      if (strstr("sleep_monotonic sleep_realtime sleep_absolute sleep_plain sigsuspend_none pause_plain "
                 "io_getevents_limit", entry->name))
        kill(subject, SIGKILL);
    }
    if (!Gone(&status)) {
      printf(" stuck,");
      kill(subject, SIGKILL);
      waitpid(subject, &status, 0);
    }
    if (shared->done)
      printf(" %ld %s %s%s\n", shared->result, shared->result < 0 ? strerrorname_np(shared->error) : "ok", shared->note,
             shared->broken ? ", SIGPIPE" : "");
    else
      printf(" ended %x\n", status);
    fflush(stdout);
  }
  entry->run(kClean);
  close_range(3, ~0u, 0);
}

int main(int count, char** arguments) {
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  signal(SIGPIPE, SIG_IGN);
  // One waits for the most part: several parts of the table are tried at once.
  const size_t first = count > 2 ? strtoul(arguments[1], NULL, 10) : 0;
  const size_t parts = count > 2 ? strtoul(arguments[2], NULL, 10) : 1;
  for (size_t i = first; i < sizeof table / sizeof *table; i += parts) {
    if (count == 2 && strcmp(table[i].name, arguments[1]) != 0) continue;
    for (int event = 0; event < kEvents; event++) Try(&table[i], (enum Event)event);
  }
  unlink("file");
}
