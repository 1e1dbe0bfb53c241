// The gofer as a process of its own: filtered, and still able to do all its work; nothing else.
#include "gofer/main.h"

#include <dirent.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <functional>

#include "gofer/filter.h"
#include "gofer/testing/fixture.h"

namespace ringwall::gofer {
namespace {

using Names = std::vector<std::string_view>;

// Forks a gofer that serves `dir` writable as root 0 and read-only as root 1.
class Process {
 public:
  Process(const std::string& dir, bool writable) {
    UniqueFd ours, theirs;
    MakePair(&ours, &theirs);
    pid_ = ::fork();
    if (pid_ == 0) {
      ours.reset();
      GoferOptions options;
      options.socket = std::move(theirs);
      if (writable) {
        options.roots.push_back({.fd = UniqueFd(::open(dir.c_str(), O_PATH | O_CLOEXEC)),
                                 .read_only = false,
                                 .open_fifos = true,
                                 .connect_sockets = true,
                                 .bind_sockets = true});
      }
      options.roots.push_back({.fd = UniqueFd(::open(dir.c_str(), O_PATH | O_CLOEXEC))});
      options.strict = true;
      ::_exit(GoferMain(std::move(options)));
    }
    socket_ = std::move(ours);
  }
  ~Process() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      Wait();
    }
  }
  UniqueFd TakeSocket() { return std::move(socket_); }
  pid_t pid() const { return pid_; }
  int Wait() {
    int status = -1;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }

 private:
  pid_t pid_;
  UniqueFd socket_;
};

TEST(GoferMainTest, DoesAllItsWorkUnderItsFilterAndEndsWithItsClient) {
  TempDir dir;
  Process gofer(dir.path(), true);
  {
    Result<Ref<GoferClient>> created = GoferClient::Create(gofer.TakeSocket());
    ASSERT_TRUE(created.ok());
    const Ref<GoferClient> client = *created;
    Result<AttachResult> attached = client->Attach(0);
    ASSERT_TRUE(attached.ok());
    const GoferHandle& root = attached->node.handle;
    Result<CreateResult> made =
        client->Create(root, "f", O_RDWR, {.mode = 04755, .uid = 1, .gid = 2});
    ASSERT_TRUE(made.ok());
    const GoferHandle& file = made->node.handle;
    Result<GoferNode> sub = client->Mkdir(root, "d", {.mode = 0755});
    ASSERT_TRUE(sub.ok());
    EXPECT_TRUE(client->Mknod(root, "fifo", S_IFIFO, {.mode = 0600}).ok());
    EXPECT_TRUE(client->Symlink(root, "l", "target", 1, 1).ok());
    EXPECT_EQ(client->Walk(root, Names{"l"}, 0)->target, "target");
    EXPECT_TRUE(client->Link(file, root, "g").ok());
    EXPECT_TRUE(client->Rename(root, "g", sub->handle, "h", 0).ok());
    EXPECT_TRUE(client->Unlink(sub->handle, "h").ok());
    EXPECT_TRUE(client->Rmdir(root, "d").ok());
    EXPECT_TRUE(client
                    ->SetAttr(file, {.mask = kSetAll & ~(kSetAtimeNow | kSetMtimeNow),
                                     .mode = 0600,
                                     .uid = 3,
                                     .gid = 4,
                                     .size = 5,
                                     .atime = {.sec = 1},
                                     .mtime = {.sec = 2}})
                    .ok());
    EXPECT_TRUE(client->Open(file, O_RDWR | O_TRUNC).ok());
    EXPECT_TRUE(client->Walk(root, Names{"f"}, kWalkOpen, O_RDONLY | O_TRUNC)->fd);
    EXPECT_TRUE(client->CreateNameless(root, O_RDWR, {.mode = 0600}).ok());
    EXPECT_TRUE(client->ReadDir(root, 0, true).ok());
    EXPECT_TRUE(client->StatFs(root).ok());
    EXPECT_TRUE(client->Fsync(file, SyncKind::kFile).ok());
    EXPECT_TRUE(client->Fsync(file, SyncKind::kData).ok());
    EXPECT_TRUE(client->Fsync(file, SyncKind::kFileSystem).ok());
    client->Fallocate(file, 0, 0, 100).error_value();
    client->SetXattr(file, "user.a", "b", 0).error_value();
    client->ListXattr(file).error_value();
    client->GetXattr(file, "user.a", 10).error_value();
    client->RemoveXattr(file, "user.a").error_value();
    Result<NodeAndFd> bound = client->Bind(root, "s", SOCK_STREAM, {.mode = 0600});
    ASSERT_TRUE(bound.ok()) << bound.error_value();
    ASSERT_EQ(::listen(bound->fd.get(), 1), 0);
    EXPECT_TRUE(client->Connect(bound->node.handle, SOCK_STREAM).ok());
    client->FlushCloses();
    // Locks under contention.
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] {
        for (int round = 0; round < 300; ++round) {
          EXPECT_TRUE(client->Lookup(root, "f").ok());
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_FALSE(client->broken());
  }
  EXPECT_EQ(gofer.Wait(), 0);
}

TEST(GoferMainTest, ServesReadOnlyRootsUnderTheShorterList) {
  TempDir dir;
  WriteFile(dir / "f", "text");
  Process gofer(dir.path(), false);
  {
    Result<Ref<GoferClient>> client = GoferClient::Create(gofer.TakeSocket());
    ASSERT_TRUE(client.ok());
    Result<AttachResult> attached = (*client)->Attach(0);
    ASSERT_TRUE(attached.ok());
    EXPECT_TRUE(attached->read_only);
    Result<WalkResult> walk =
        (*client)->Walk(attached->node.handle, Names{"f"}, kWalkHandleLast | kWalkOpen, O_RDONLY);
    ASSERT_TRUE(walk.ok());
    EXPECT_EQ(ReadFd(walk->fd.get()), "text");
    EXPECT_TRUE((*client)->Open(walk->nodes[0].handle, O_RDONLY).ok());
    EXPECT_TRUE((*client)->ReadDir(attached->node.handle, 0, true).ok());
    EXPECT_EQ((*client)->Mkdir(attached->node.handle, "d", {}).error_value(), EROFS);
  }
  EXPECT_EQ(gofer.Wait(), 0);
}

TEST(GoferMainTest, AKilledGoferIsEioForEveryCallAndHangsNone) {
  TempDir dir;
  Process gofer(dir.path(), true);
  Result<Ref<GoferClient>> client = GoferClient::Create(gofer.TakeSocket());
  ASSERT_TRUE(client.ok());
  Result<AttachResult> attached = (*client)->Attach(0);
  ASSERT_TRUE(attached.ok());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      while (true) {
        Result<Attr> attr = (*client)->Stat(attached->node.handle);
        if (!attr.ok()) {
          EXPECT_EQ(attr.error_value(), EIO);
          return;
        }
      }
    });
  }
  ::usleep(20000);
  ::kill(gofer.pid(), SIGKILL);
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE((*client)->broken());
  EXPECT_EQ((*client)->Attach(0).error_value(), EIO);
}

TEST(GoferMainTest, HoldsNoOtherDescriptorAndFewCapabilities) {
  TempDir dir;
  UniqueFd stray(::open("/dev/null", O_RDONLY));  // inherited by the fork
  Process gofer(dir.path(), true);
  Result<Ref<GoferClient>> client = GoferClient::Create(gofer.TakeSocket());
  ASSERT_TRUE(client.ok());
  const std::string proc = "/proc/" + std::to_string(gofer.pid());
  char link[256];
  const std::string path = proc + "/fd/" + std::to_string(stray.get());
  const ssize_t size = ::readlink(path.c_str(), link, sizeof(link));
  if (size > 0) {
    EXPECT_NE(std::string(link, static_cast<size_t>(size)), "/dev/null");
  }
  UniqueFd status(::open((proc + "/status").c_str(), O_RDONLY));
  const std::string text = ReadFd(status.get());
  EXPECT_NE(text.find("NoNewPrivs:\t1"), std::string::npos);
  EXPECT_NE(text.find("Seccomp:\t2"), std::string::npos);
  const size_t at = text.find("CapPrm:\t");
  ASSERT_NE(at, std::string::npos);
  const uint64_t caps = ::strtoull(text.c_str() + at + 8, nullptr, 16);
  EXPECT_EQ(caps & ~uint64_t{0x1f}, 0u);  // CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID
}

TEST(GoferMainTest, WorksAsAnOrdinaryUserWithoutCapabilities) {
  if (::geteuid() != 0) return;  // every other test runs as one then
  TempDir dir;
  ASSERT_EQ(::chown(dir.path().c_str(), 65534, 65534), 0);
  UniqueFd ours, theirs;
  MakePair(&ours, &theirs);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ours.reset();
    if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) ::_exit(9);
    GoferOptions options;
    options.socket = std::move(theirs);
    options.roots.push_back(
        {.fd = UniqueFd(::open(dir.path().c_str(), O_PATH | O_CLOEXEC)), .read_only = false});
    options.strict = true;
    ::_exit(GoferMain(std::move(options)));
  }
  theirs.reset();
  {
    Result<Ref<GoferClient>> client = GoferClient::Create(std::move(ours));
    ASSERT_TRUE(client.ok());
    Result<AttachResult> attached = (*client)->Attach(0);
    ASSERT_TRUE(attached.ok());
    // An owner that cannot be had is not an error: the file stays the gofer's own.
    Result<CreateResult> made =
        (*client)->Create(attached->node.handle, "f", O_RDWR, {.mode = 0644, .uid = 0, .gid = 0});
    ASSERT_TRUE(made.ok()) << made.error_value();
    EXPECT_EQ(made->node.attr.uid, 65534u);
    // What goes through /proc/self/fd works, though the process is not dumpable.
    EXPECT_TRUE((*client)->Open(made->node.handle, O_RDWR).ok());
    EXPECT_TRUE((*client)->SetAttr(made->node.handle, {.mask = kSetMode, .mode = 0600}).ok());
    EXPECT_EQ((*client)->SetAttr(made->node.handle, {.mask = kSetUid, .uid = 0}).error_value(),
              EPERM);
    EXPECT_TRUE((*client)->Link(made->node.handle, attached->node.handle, "g").ok());
  }
  int status = -1;
  ::waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
}

// The status of a child that installs the filter and then calls `what`.
int StatusUnderFilter(const std::function<void()>& what) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (!InstallFilter({}).ok()) ::_exit(99);
    what();
    ::_exit(0);
  }
  int status = -1;
  ::waitpid(pid, &status, 0);
  return status;
}

bool DiedOfSeccomp(int status) { return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS; }

TEST(GoferFilterTest, EveryCallThatIsNotListedKills) {
  std::vector<bool> listed(600);
  for (const FilterRow& row : FilterRows()) {
    listed[static_cast<size_t>(row.number)] = true;
    EXPECT_GT(std::string_view(row.reason).size(), 3u);
  }
  for (int number = 0; number < 470; ++number) {
    if (listed[static_cast<size_t>(number)]) continue;
    // uretprobe and uprobe: Linux asks no filter about them; outside the kernel's own trampolines
    // they do nothing.
    if (number == 335 || number == 336) continue;
    EXPECT_TRUE(DiedOfSeccomp(StatusUnderFilter([&] {
      ::syscall(number, -1L, 0L, 0L, 0L, 0L, 0L);
    }))) << "call "
         << number;
  }
}

TEST(GoferFilterTest, ListedCallsWithOtherArgumentsKill) {
  EXPECT_EQ(StatusUnderFilter([] {}), 0);
  const std::function<void()> calls[] = {
      [] { ::syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0); },
      [] { ::syscall(SYS_openat, AT_FDCWD, "/tmp/x", O_CREAT | O_CLOEXEC, 0600); },
      [] { ::syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY, 0); },
      [] { ::syscall(SYS_unlinkat, -1, "x", 0); },
      [] { ::syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0); },
      [] { ::syscall(SYS_socketpair, AF_INET, SOCK_STREAM, 0, nullptr); },
      [] { ::syscall(SYS_mmap, 0, 4096, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); },
      [] { ::syscall(SYS_mprotect, 0, 0, PROT_EXEC); },
      [] { ::syscall(SYS_fcntl, 0, F_SETOWN, 1); },
      [] { ::syscall(SYS_futex, nullptr, FUTEX_LOCK_PI, 0, nullptr, nullptr, 0); },
      [] { ::syscall(SYS_sched_setaffinity, 1, 0, nullptr); },
      [] { ::syscall(SYS_write, 1, "x", 0); },
      [] { ::syscall(SYS_getpid | 0x40000000); },  // x32
  };
  for (size_t i = 0; i < std::size(calls); ++i) {
    EXPECT_TRUE(DiedOfSeccomp(StatusUnderFilter(calls[i]))) << i;
  }
}

}  // namespace
}  // namespace ringwall::gofer
