// Helpers of the guest test programs: errno-exact checks, owned descriptors and folders, children.
//
// In the test process use EXPECT_OK, ASSERT_OK and EXPECT_FAILS. In a forked child GoogleTest's
// checks reach nobody: use CHECK_CHILD there and look at the child's status in the parent.
#ifndef RINGWALL_TESTS_UTIL_TEST_UTIL_H_
#define RINGWALL_TESTS_UTIL_TEST_UTIL_H_

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

namespace ringwall::test {

struct SysResult {
  int64_t value;
  int error;
};

// Called with the value of a system call just made, while errno is still its own.
template <typename T>
SysResult Take(T value) {
  const int error = errno;
  if constexpr (std::is_pointer_v<T>) {
    return {reinterpret_cast<int64_t>(value), error};
  } else {
    return {static_cast<int64_t>(value), error};
  }
}

inline std::string ErrnoName(int error) {
  const char* name = strerrorname_np(error);
  return name != nullptr ? name : std::to_string(error);
}

inline ::testing::AssertionResult CheckOk(const char* text, SysResult r) {
  if (r.value != -1) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << text << " failed with " << ErrnoName(r.error);
}

inline ::testing::AssertionResult CheckFails(const char* text, SysResult r, int error) {
  if (r.value == -1 && r.error == error) return ::testing::AssertionSuccess();
  auto failure = ::testing::AssertionFailure() << text;
  if (r.value != -1) {
    failure << " returned " << r.value;
  } else {
    failure << " failed with " << ErrnoName(r.error);
  }
  return failure << ", expected " << ErrnoName(error);
}

#define EXPECT_OK(call) EXPECT_TRUE(::ringwall::test::CheckOk(#call, ::ringwall::test::Take(call)))
#define ASSERT_OK(call) ASSERT_TRUE(::ringwall::test::CheckOk(#call, ::ringwall::test::Take(call)))
#define EXPECT_FAILS(call, error) \
  EXPECT_TRUE(::ringwall::test::CheckFails(#call, ::ringwall::test::Take(call), error))

// In a child: says what did not hold and ends the child with status 99.
#define CHECK_CHILD(condition)                                                              \
  do {                                                                                      \
    if (!(condition)) {                                                                     \
      dprintf(2, "%s:%d: in child: %s (errno %s)\n", __FILE__, __LINE__, #condition,        \
              ::ringwall::test::ErrnoName(errno).c_str());                                  \
      _exit(99);                                                                            \
    }                                                                                       \
  } while (0)

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~Fd() { Reset(); }
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Reset(int fd = -1) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

struct Pipe {
  Fd reader, writer;
  explicit Pipe(int flags = 0) {
    int fds[2];
    if (pipe2(fds, flags) == 0) {
      reader.Reset(fds[0]);
      writer.Reset(fds[1]);
    }
  }
};

// A fresh folder below $TMPDIR or /tmp that goes with all it holds.
class TempDir {
 public:
  TempDir() {
    const char* base = getenv("TMPDIR");
    path_ = std::string(base != nullptr ? base : "/tmp") + "/ringwall-test-XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) {
      ADD_FAILURE() << "mkdtemp failed with " << ErrnoName(errno);
      path_ = "/nowhere";
    }
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    nftw(
        path_.c_str(), [](const char* p, const struct stat*, int, struct FTW*) { return remove(p); },
        16, FTW_DEPTH | FTW_PHYS);
  }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

  // Makes a file with this content and returns its path.
  std::string File(const std::string& name, const std::string& content = "",
                   mode_t mode = 0644) const {
    const std::string path = path_ + "/" + name;
    Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
    if (write(fd.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) {
      ADD_FAILURE() << "cannot write " << path;
    }
    return path;
  }

 private:
  std::string path_;
};

inline std::string ReadFile(const std::string& path) {
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string all;
  char chunk[4096];
  ssize_t n;
  while ((n = read(fd.get(), chunk, sizeof(chunk))) > 0) all.append(chunk, n);
  return all;
}

// Runs body in a forked child; body's value is the exit status. Returns what waitpid said.
template <typename F>
int InChild(F body) {
  const pid_t pid = fork();
  if (pid < 0) return -1;
  if (pid == 0) _exit(body());
  int status = -1;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

inline ::testing::AssertionResult Exited(int status, int code = 0) {
  if (WIFEXITED(status) && WEXITSTATUS(status) == code) return ::testing::AssertionSuccess();
  auto failure = ::testing::AssertionFailure();
  if (WIFEXITED(status)) return failure << "exited with " << WEXITSTATUS(status);
  if (WIFSIGNALED(status)) return failure << "killed by signal " << WTERMSIG(status);
  return failure << "wait status " << status;
}

inline ::testing::AssertionResult KilledBy(int status, int sig) {
  if (WIFSIGNALED(status) && WTERMSIG(status) == sig) return ::testing::AssertionSuccess();
  auto failure = ::testing::AssertionFailure();
  if (WIFEXITED(status)) return failure << "exited with " << WEXITSTATUS(status);
  return failure << "wait status " << status;
}

// Runs body in a child that is an ordinary user, whoever we are.
template <typename F>
int InChildAsNobody(F body) {
  return InChild([&] {
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) return 98;
    return body();
  });
}

// An address that no access may succeed at, and one that is mapped without any permission.
inline void* BadAddress() { return reinterpret_cast<void*>(0x10); }
inline void* NoAccessPage() {
  static void* page = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return page;
}

inline int CountOpenFds() {
  int count = 0;
  for (int fd = 0; fd < 256; ++fd) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

}  // namespace ringwall::test

#endif  // RINGWALL_TESTS_UTIL_TEST_UTIL_H_
