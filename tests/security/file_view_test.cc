// What a process can see of a file that is read often: never more, nor longer, than its descriptors allow.
#include <linux/filter.h>
#include <linux/seccomp.h>

#include <thread>

#include "tests/security/hostile.h"

namespace ringwall::test {
namespace {

constexpr uint64_t kStep = 16 << 20;  // where views begin

std::string Path(const TempDir& dir) { return dir.File("secret", std::string(400 << 10, 's')); }

void Heat(int fd) {
  static char b[65536];
  for (int i = 0; i < 400; ++i) pread(fd, b, sizeof(b), i % 4 * 65536);
}

// How many views there are. Natively none: a stack may be there, which grows where it is read.
int Seen() {
  if (!Inside()) return 0;
  int seen = 0;
  for (uint64_t at = RW_STUB_VIEWS; at < RW_STUB_VIEWS_END; at += kStep) {
    if (!Listed(at) && Readable(at)) ++seen;
  }
  return seen;
}

template <typename F>
void ExpectNoneAfter(F body) {
  TempDir dir;
  const std::string path = Path(dir);
  EXPECT_TRUE(AimFailed(RunHostile([&] {
    CatchFaults();
    const int fd = open(path.c_str(), O_RDONLY);
    Heat(fd);
    body(fd);
    return Seen() != 0 ? kReached : kFailed;
  })));
}

// Else the others would prove nothing.
TEST(FileViewTest, ThereIsOneWhileTheDescriptorIsOpen) {
  const char* inside = getenv("RINGWALL_INSIDE");
  const bool has_views = inside != nullptr && strcmp(inside, "systrap") == 0;
  TempDir dir;
  const std::string path = Path(dir);
  EXPECT_TRUE(Exited(RunHostile([&] {
    CatchFaults();
    Heat(open(path.c_str(), O_RDONLY));
    return Seen();
  }), has_views ? 1 : 0));
}

TEST(FileViewTest, NoneIsLeftOnceTheDescriptorIsClosed) {
  ExpectNoneAfter([](int fd) { close(fd); });
  ExpectNoneAfter([](int fd) { dup2(open("/dev/null", O_RDONLY), fd); });
  ExpectNoneAfter([](int) { close_range(3, ~0U, 0); });
}

TEST(FileViewTest, NoneIsLeftWhenAnotherProcessKeepsItOpen) {
  TempDir dir;
  const std::string path = Path(dir);
  Fd fd(open(path.c_str(), O_RDONLY));
  EXPECT_TRUE(AimFailed(RunHostile([&] {
    CatchFaults();
    Heat(fd.get());
    close(fd.get());
    return Seen() != 0 ? kReached : kFailed;
  })));
  Heat(fd.get());
  EXPECT_TRUE(AimFailed(RunHostile([&] {
    CatchFaults();
    return Seen() != 0 ? kReached : kFailed;
  }))) << "a fork's child began with views";
}

TEST(FileViewTest, NoneIsLeftUnderASeccompFilter) {
  ExpectNoneAfter([](int fd) {
    static sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x7fff'ffff, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program = {4, rules};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(99);
    Heat(fd);
  });
}

TEST(FileViewTest, NoneIsLeftWhenItsReaderSharedTheMemoryOnly) {
  // A process that shares the memory, not the descriptors, opens and reads; its end takes the view.
  static std::string path;
  TempDir dir;
  path = Path(dir);
  EXPECT_TRUE(AimFailed(RunHostile([&] {
    CatchFaults();
    static char stack[1 << 16];
    const int pid = clone(
        [](void*) {
          Heat(open(path.c_str(), O_RDONLY));
          _exit(0);
          return 0;
        },
        stack + sizeof(stack), CLONE_VM | SIGCHLD, nullptr);
    waitpid(pid, nullptr, 0);
    return Seen() != 0 ? kReached : kFailed;
  })));
}

TEST(FileViewTest, AViewCanBeNeitherWrittenNorChanged) {
  TempDir dir;
  const std::string path = Path(dir);
  EXPECT_TRUE(AimFailed(RunHostile([&] {
    CatchFaults();
    const int fd = open(path.c_str(), O_RDWR);
    Heat(fd);
    for (uint64_t at = RW_STUB_VIEWS; at < RW_STUB_VIEWS_END; at += kStep) {
      if (!Inside() || Listed(at)) continue;
      if (Writable(at)) return kReached;
      void* const p = reinterpret_cast<void*>(at);
      if (mprotect(p, 4096, PROT_READ | PROT_WRITE) == 0) return kReached;
      // Nothing of the guest's is there: Linux says yes to that, and the view stays for the reads below.
      if (munmap(p, 4096) != 0) return kReached;
      if (pread(fd, p, 4096, 0) != -1 || errno != EFAULT) return kReached;
      if (write(fd, p, 4096) != -1 || errno != EFAULT) return kReached;
    }
    Heat(fd);
    char c;
    return pread(fd, &c, 1, 0) == 1 && c == 's' ? kFailed : kReached;
  })));
  ExpectWell();
}

}  // namespace
}  // namespace ringwall::test
