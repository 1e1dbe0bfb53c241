// Other threads rewrite what the kernel is reading: arguments, iovecs, paths, messages, the shared
// regions, and program text.
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <atomic>
#include <thread>

#include "tests/security/hostile.h"

namespace ringwall::test {
namespace {

constexpr int kMilliseconds = 150;

// Runs `attack` again and again while another thread runs `rewrite`, for a while.
template <typename R, typename A>
int Race(R rewrite, A attack) {
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) rewrite();
  });
  int result = kFailed;
  const int64_t end = NowMs() + kMilliseconds;
  while (result == kFailed && NowMs() < end) {
    for (int i = 0; i < 50 && result == kFailed; ++i) result = attack();
  }
  stop = true;
  other.join();
  return result;
}

constexpr uint64_t kPlaces[] = {RW_STUB_TEXT, RW_STUB_COMMAND, RW_STUB_REGIONS, 0xffffffff81000000ull,
                                0x8000000000000000ull, 16};

TEST(RaceTest, IovecBetweenCheckAndUse) {
  for (uint64_t place : kPlaces) {
    EXPECT_TRUE(AimFailed(RunHostile([=] {
      static char good[512], back[4096];
      memset(good, 'A', sizeof(good));
      Pipe p(O_NONBLOCK);
      static volatile struct { void* base; size_t size; } v[2];
      for (auto& part : v) {
        part.base = good;
        part.size = 64;
      }
      return Race(
          [&] {
            v[1].base = reinterpret_cast<void*>(place);
            v[1].size = ~0ul >> 1;
            v[1].size = 64;
            v[1].base = good;
          },
          [&] {
            const ssize_t n = syscall(SYS_writev, p.writer.get(), v, 2);
            if (n > 128) return kReached;
            ssize_t got;
            while ((got = read(p.reader.get(), back, sizeof(back))) > 0) {
              for (ssize_t i = 0; i < got; ++i) {
                if (back[i] != 'A') return kReached;
              }
            }
            return kFailed;
          });
    }))) << std::hex << place;
  }
  ExpectWell();
}

TEST(RaceTest, ReadvTargets) {
  EXPECT_TRUE(AimFailed(RunHostile([] {
    static char good[4096];
    Fd zero(open("/dev/zero", O_RDONLY));
    static volatile struct { void* base; size_t size; } v[1];
    v[0].base = good;
    v[0].size = 64;
    int i = 0;
    return Race(
        [&] {
          v[0].base = reinterpret_cast<void*>(kPlaces[i++ % 6]);
          v[0].size = 1ul << 40;
          v[0].size = 64;
          v[0].base = good;
        },
        [&] {
          const ssize_t n = syscall(SYS_readv, zero.get(), v, 1);
          return n > 4096 ? kReached : kFailed;
        });
  })));
  ExpectWell();
}

TEST(RaceTest, PathChangesUnderTheWalk) {
  TempDir dir;
  dir.File("allowed", "A");
  dir.File("secret", "S", 0600);
  EXPECT_TRUE(AimFailed(RunHostile([&] {
    // A name that is checked and used must be one and the same: never a mixture.
    static char path[4200];
    const std::string a = dir / "allowed", none = dir / "nothing";
    memset(path, 0, sizeof(path));
    memcpy(path, a.c_str(), a.size());
    return Race(
        [&] {
          memcpy(path, none.c_str(), none.size());
          memset(path + a.size(), 'x', 4100);
          memset(path + a.size(), 0, 4100);
          memcpy(path, a.c_str(), a.size());
        },
        [&] {
          const int fd = open(path, O_RDONLY);
          if (fd < 0) {
            return errno == ENOENT || errno == ENAMETOOLONG || errno == ENOTDIR || errno == EFAULT
                       ? kFailed
                       : kReached;
          }
          char c = 0;
          const bool ok = read(fd, &c, 1) == 1 && c == 'A';
          close(fd);
          return ok ? kFailed : kReached;
        });
  })));
  ExpectWell();
}

TEST(RaceTest, ControlMessages) {
  EXPECT_TRUE(AimFailed(RunHostile([] {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair) != 0) return kFailed;
    static char data[16], control[CMSG_SPACE(16 * sizeof(int))];
    static iovec v = {data, 1};
    static msghdr m;
    m.msg_iov = &v;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = CMSG_SPACE(sizeof(int));
    auto* c = reinterpret_cast<cmsghdr*>(control);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    return Race(
        [&] {
          auto* volatile cm = c;
          cm->cmsg_len = ~0ul;
          cm->cmsg_len = 1;
          m.msg_controllen = ~0ul >> 2;
          m.msg_iovlen = 1 << 20;
          m.msg_iovlen = 1;
          m.msg_controllen = CMSG_SPACE(sizeof(int));
          cm->cmsg_len = CMSG_LEN(16 * sizeof(int));
          cm->cmsg_len = CMSG_LEN(sizeof(int));
        },
        [&] {
          sendmsg(pair[0], &m, 0);
          char b[256], ctl[256];
          iovec w = {b, sizeof(b)};
          msghdr r = {};
          r.msg_iov = &w;
          r.msg_iovlen = 1;
          r.msg_control = ctl;
          r.msg_controllen = sizeof(ctl);
          if (recvmsg(pair[1], &r, 0) > 0) {
            for (cmsghdr* k = CMSG_FIRSTHDR(&r); k != nullptr; k = CMSG_NXTHDR(&r, k)) {
              const size_t n = (k->cmsg_len - CMSG_LEN(0)) / sizeof(int);
              if (n > 16) return kReached;
              for (size_t i = 0; i < n; ++i) {
                int fd;
                memcpy(&fd, CMSG_DATA(k) + i * sizeof(int), sizeof(int));
                if (fd > 2 && fd != pair[0] && fd != pair[1]) close(fd);
              }
            }
          }
          return kFailed;
        });
  })));
  ExpectWell();
}

TEST(RaceTest, SmallStructures) {
  EXPECT_TRUE(AimFailed(RunHostile([] {
    static volatile uint64_t words[16];
    Fd ep(epoll_create1(0));
    Pipe p;
    return Race(
        [&] {
          for (auto& w : words) w = kPlaces[NowMs() % 6];
          for (auto& w : words) w = 0;
          for (auto& w : words) w = ~0ull;
        },
        [&] {
          void* s = const_cast<uint64_t*>(words);
          syscall(SYS_rt_sigaction, SIGUSR2, s, nullptr, 8);
          syscall(SYS_rt_sigprocmask, SIG_SETMASK, s, nullptr, 8);
          syscall(SYS_epoll_ctl, ep.get(), EPOLL_CTL_MOD, p.reader.get(), s);
          syscall(SYS_futex, s, 129 /* WAKE_PRIVATE */, 1, nullptr, s, 0);
          syscall(SYS_sigaltstack, s, nullptr);
          syscall(SYS_poll, s, 4, 0);
          syscall(SYS_timer_create, CLOCK_MONOTONIC, s, s);
          if (syscall(SYS_clone3, s, 64) == 0) _exit(0);
          syscall(SYS_prlimit64, 0, 4 /* RLIMIT_CORE */, s, nullptr);
          syscall(SYS_process_vm_readv, getpid(), s, 2, s, 2, 0);
          return kFailed;
        });
  })));
  ExpectWell();
}

TEST(RaceTest, ExecveArguments) {
  if (access("/bin/busybox", X_OK) != 0) GTEST_SKIP() << "needs /bin/busybox";
  for (int round = 0; round < 10; ++round) {
    EXPECT_TRUE(AimFailed(RunHostile([] {
      static char name[] = "true", text[200000];
      static char* volatile argv[3] = {name, text, nullptr};
      memset(text, 'x', 1000);
      std::thread([] {
        for (;;) {
          argv[1] = reinterpret_cast<char*>(RW_STUB_REGIONS);
          memset(text, 'y', sizeof(text));
          argv[2] = text;
          argv[1] = text;
          argv[2] = nullptr;
          text[1000] = 0;
        }
      }).detach();
      usleep(300);
      for (int i = 0; i < 20; ++i) {
        execv("/bin/busybox", const_cast<char* const*>(argv));
        if (errno != EFAULT && errno != E2BIG) return kReached;
      }
      return kFailed;
    })));
  }
  ExpectWell();
}

TEST(RaceTest, RegionsFullOfNonsense) {
  // Scribbles over everything writable in the stub's range while threads make calls.
  for (int round = 0; round < 6; ++round) {
    EXPECT_TRUE(AimFailed(RunHostile([=] {
      for (int t = 0; t < 3; ++t) {
        std::thread([] {
          TempDir dir;
          for (;;) {
            Fd fd(open("/proc/self/status", O_RDONLY));
            char b[100];
            (void)!read(fd.get(), b, sizeof(b));
            getppid();
            sched_yield();
          }
        }).detach();
      }
      usleep(2000);
      CatchFaults();
      uint64_t seed = 1 + round * 7919;
      const int64_t end = NowMs() + 60;
      for (int n = 0; n < 100000 && NowMs() < end; ++n) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        const uint64_t area = (seed >> 60) & 3;
        uint64_t at = area == 0 ? RW_STUB_REPLY + ((seed >> 20) & 0x6ff8)
                                : RW_STUB_REGIONS + ((seed >> 50) & 7) * RW_REGION_SIZE +
                                      ((seed >> 20) & (area == 1 ? 0x1f8 : 0x1fff8));
        if (!Inside() && Listed(at)) continue;
        const uint64_t value = seed & 1 ? kPlaces[(seed >> 8) % 6] : seed & 2 ? ~0ull : seed & 0xffffffff;
        Survives([=] { *reinterpret_cast<volatile uint64_t*>(at) = value; });
      }
      _exit(kFailed);
      return kFailed;
    }, 4000)));
  }
  ExpectWell();
}

TEST(RaceTest, EachWordOfTheOwnRegion) {
  // One word at a time, so that the process often lives to make the next call.
  for (int word = 0; word < 96; ++word) {
    for (uint64_t value : {~uint64_t{0}, uint64_t{RW_STUB_COMMAND}, uint64_t{0xffffffff}, uint64_t{0}}) {
      EXPECT_TRUE(AimFailed(RunHostile([=] {
        CatchFaults();
        for (int region = 0; region < 4; ++region) {
          const uint64_t at = RW_STUB_REGIONS + region * RW_REGION_SIZE + word * 8;
          if (!Inside() && Listed(at)) continue;
          Survives([=] { *reinterpret_cast<volatile uint64_t*>(at) = value; });
        }
        char b[16];
        Pipe p;
        (void)!write(p.writer.get(), "abc", 3);
        (void)!read(p.reader.get(), b, 3);
        getppid();
        _exit(kFailed);
        return kFailed;
      }, 1500))) << word << " " << std::hex << value;
    }
  }
  ExpectWell();
}

TEST(RaceTest, TextChangesWhileOthersRunIt) {
  // The site flips between two calls while threads pass through it: each result is one of the two.
  EXPECT_TRUE(Exited(RunHostile([] {
    auto* page = static_cast<unsigned char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    const unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};
    memcpy(page, code, sizeof(code));
    const long pid = getpid(), ppid = getppid();
    std::atomic<bool> stop{false}, bad{false};
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        while (!stop) {
          const long r = reinterpret_cast<long (*)()>(page)();
          if (r != pid && r != ppid) bad = true;
        }
      });
    }
    for (int i = 0; i < 300; ++i) {
      // One byte, as a program that patches itself would: the number's lowest.
      reinterpret_cast<std::atomic<unsigned char>*>(page + 1)->store(i & 1 ? 39 : 110);
      if (i % 50 == 0 && InChild([&] {
            const long r = reinterpret_cast<long (*)()>(page)();
            return r == getpid() || r == getppid() ? 0 : 1;
          }) != 0) {
        bad = true;
      }
      usleep(100);
    }
    stop = true;
    for (auto& t : threads) t.join();
    return bad ? 1 : 0;
  })));
  ExpectWell();
}

TEST(RaceTest, MappingComesAndGoesUnderABuffer) {
  EXPECT_TRUE(AimFailed(RunHostile([] {
    static char* page = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
                                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    Fd zero(open("/dev/zero", O_RDONLY)), null(open("/dev/null", O_WRONLY));
    return Race(
        [&] {
          munmap(page, 4096);
          mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
          mprotect(page, 4096, PROT_NONE);
          mprotect(page, 4096, PROT_READ | PROT_WRITE);
        },
        [&] {
          const ssize_t n = read(zero.get(), page, 4096);
          if (n < 0 && errno != EFAULT) return kReached;
          const ssize_t m = write(null.get(), page, 4096);
          return m < 0 && errno != EFAULT ? kReached : kFailed;
        });
  })));
  ExpectWell();
}

TEST(RandomTest, RandomCallsWithRandomArguments) {
  for (int round = 0; round < 6; ++round) {
    RunHostile([=] {
      if (!Inside()) {
        // Natively as nobody and without the calls that could hurt whoever runs the test.
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) return kFailed;
        return kFailed;
      }
      uint64_t seed = 12345 + round;
      const auto next = [&] {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        return seed >> 11;
      };
      static char buffer[65536];
      for (int i = 0; i < 3000; ++i) {
        const long nr = static_cast<long>(next() % 463);
        // Not those that end or freeze this process at once, or end the others.
        if (nr == SYS_exit || nr == SYS_exit_group || nr == SYS_pause || nr == SYS_kill || nr == SYS_tkill ||
            nr == SYS_tgkill || nr == SYS_rt_sigqueueinfo || nr == SYS_rt_tgsigqueueinfo ||
            nr == SYS_pidfd_send_signal || nr == SYS_reboot || nr == SYS_rt_sigsuspend || nr == SYS_clone ||
            nr == SYS_fork || nr == SYS_vfork || nr == SYS_clone3) {
          continue;
        }
        uint64_t a[6];
        for (auto& x : a) {
          switch (next() % 7) {
            case 0: x = reinterpret_cast<uint64_t>(buffer) + next() % 65536; break;
            case 1: x = next() % 10; break;
            case 2: x = kPlaces[next() % 6] + next() % 0x20000; break;
            case 3: x = ~0ull - next() % 10; break;
            case 4: x = 1ull << (next() % 64); break;
            case 5: x = next() << 11 | next() % 64; break;
            default: x = next() % 5000; break;
          }
        }
        alarm(1);
        signal(SIGALRM, [](int) {});
        syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
      }
      return kFailed;
    }, 6000);
    ExpectWell();
  }
}

}  // namespace
}  // namespace ringwall::test
