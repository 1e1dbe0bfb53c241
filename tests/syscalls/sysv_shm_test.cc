// System V shared memory.
#include <sys/ipc.h>
#include <sys/shm.h>
#include <time.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

constexpr size_t kPage = 4096;
void* const kFailed = reinterpret_cast<void*>(-1);

class ShmTest : public ::testing::Test {
 protected:
  ~ShmTest() override {
    for (int id : made_) shmctl(id, IPC_RMID, nullptr);
  }
  int Make(size_t size, int mode = 0600) {
    const int id = shmget(IPC_PRIVATE, size, IPC_CREAT | mode);
    if (id >= 0) made_.push_back(id);
    return id;
  }
  static shmid_ds Stat(int id) {
    shmid_ds ds = {};
    EXPECT_OK(shmctl(id, IPC_STAT, &ds));
    return ds;
  }
  std::vector<int> made_;
};

TEST_F(ShmTest, GetByKey) {
  const key_t key = 0x52590000 + (getpid() & 0xffff);
  EXPECT_FAILS(shmget(key, kPage, 0600), ENOENT);
  EXPECT_FAILS(shmget(key, 0, IPC_CREAT | 0600), EINVAL);
  EXPECT_FAILS(shmget(IPC_PRIVATE, 0, 0600), EINVAL);
  const int id = shmget(key, 5000, IPC_CREAT | IPC_EXCL | 0600);
  ASSERT_OK(id);
  made_.push_back(id);
  EXPECT_EQ(shmget(key, 0, 0), id);
  EXPECT_EQ(shmget(key, 5000, 0), id);
  EXPECT_FAILS(shmget(key, 5001, 0), EINVAL);
  EXPECT_FAILS(shmget(key, 5000, IPC_CREAT | IPC_EXCL), EEXIST);
  EXPECT_EQ(Stat(id).shm_segsz, 5000u);
}

TEST_F(ShmTest, MemoryIsSharedAndZero) {
  const int id = Make(2 * kPage);
  char* a = static_cast<char*>(shmat(id, nullptr, 0));
  char* b = static_cast<char*>(shmat(id, nullptr, 0));
  ASSERT_NE(a, kFailed);
  ASSERT_NE(b, kFailed);
  EXPECT_NE(a, b);
  EXPECT_EQ(a[kPage], 0);
  a[5] = 'x';
  EXPECT_EQ(b[5], 'x');
  EXPECT_EQ(Stat(id).shm_nattch, 2u);
  EXPECT_TRUE(Exited(InChild([&] {
    CHECK_CHILD(a[5] == 'x');
    b[6] = 'y';
    CHECK_CHILD(Stat(id).shm_nattch == 4);
    CHECK_CHILD(shmdt(a) == 0);
    CHECK_CHILD(Stat(id).shm_nattch == 3);
    return 0;
  })));
  EXPECT_EQ(a[6], 'y');
  EXPECT_EQ(Stat(id).shm_nattch, 2u);
  EXPECT_OK(shmdt(a));
  EXPECT_OK(shmdt(b));
  EXPECT_EQ(Stat(id).shm_nattch, 0u);
  EXPECT_FAILS(shmdt(a), EINVAL);
  // It keeps its contents.
  a = static_cast<char*>(shmat(id, nullptr, 0));
  EXPECT_EQ(a[6], 'y');
  EXPECT_OK(shmdt(a));
}

TEST_F(ShmTest, FiguresFollow) {
  const time_t before = time(nullptr);
  const int id = Make(kPage, 0640);
  shmid_ds ds = Stat(id);
  EXPECT_EQ(ds.shm_perm.mode & 0777, 0640);
  EXPECT_EQ(ds.shm_perm.cuid, geteuid());
  EXPECT_EQ(ds.shm_cpid, getpid());
  EXPECT_EQ(ds.shm_lpid, 0);
  EXPECT_EQ(ds.shm_atime, 0);
  EXPECT_EQ(ds.shm_dtime, 0);
  EXPECT_GE(ds.shm_ctime, before - 1);
  void* at = shmat(id, nullptr, 0);
  ds = Stat(id);
  EXPECT_EQ(ds.shm_lpid, getpid());
  EXPECT_GE(ds.shm_atime, before - 1);
  EXPECT_EQ(ds.shm_dtime, 0);
  pid_t child = fork();
  if (child == 0) _exit(shmdt(at) == 0 ? 0 : 1);
  int status;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  ds = Stat(id);
  EXPECT_EQ(ds.shm_lpid, child);
  EXPECT_GE(ds.shm_dtime, before - 1);
  EXPECT_EQ(ds.shm_nattch, 1u);
  // A process that ends detaches too.
  child = fork();
  if (child == 0) _exit(0);
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(Stat(id).shm_lpid, child);
  // Between the two it is the one that made the other who attached last, until exec detaches.
  Pipe go;
  child = fork();
  if (child == 0) {
    char byte;
    close(1);
    if (read(go.reader.get(), &byte, 1) == 1) execl("/proc/self/exe", "x", "--gtest_list_tests", nullptr);
    _exit(1);
  }
  ds = Stat(id);
  EXPECT_EQ(ds.shm_lpid, getpid());
  EXPECT_EQ(ds.shm_nattch, 2u);
  EXPECT_GE(ds.shm_atime, ds.shm_dtime);
  EXPECT_EQ(write(go.writer.get(), "x", 1), 1);
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(Exited(status));
  ds = Stat(id);
  EXPECT_EQ(ds.shm_lpid, child);
  EXPECT_EQ(ds.shm_nattch, 1u);
  EXPECT_OK(shmdt(at));
}

TEST_F(ShmTest, RemovalWaitsForTheLastDetach) {
  const key_t key = 0x525a0000 + (getpid() & 0xffff);
  const int id = shmget(key, kPage, IPC_CREAT | 0600);
  ASSERT_OK(id);
  char* at = static_cast<char*>(shmat(id, nullptr, 0));
  at[0] = 'k';
  EXPECT_OK(shmctl(id, IPC_RMID, nullptr));
  shmid_ds ds = Stat(id);
  EXPECT_NE(ds.shm_perm.mode & SHM_DEST, 0);
  EXPECT_EQ(ds.shm_perm.__key, IPC_PRIVATE);
  EXPECT_FAILS(shmget(key, kPage, 0600), ENOENT);
  // By number it can still be attached.
  char* again = static_cast<char*>(shmat(id, nullptr, 0));
  ASSERT_NE(again, kFailed);
  EXPECT_EQ(again[0], 'k');
  EXPECT_OK(shmdt(at));
  EXPECT_OK(shmctl(id, IPC_STAT, &ds));
  EXPECT_OK(shmdt(again));
  EXPECT_FAILS(shmctl(id, IPC_STAT, &ds), EINVAL);
  EXPECT_EQ(shmat(id, nullptr, 0), kFailed);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(ShmTest, ReadOnly) {
  const int id = Make(kPage);
  char* at = static_cast<char*>(shmat(id, nullptr, SHM_RDONLY));
  ASSERT_NE(at, kFailed);
  EXPECT_EQ(at[0], 0);
  EXPECT_TRUE(KilledBy(InChild([&] {
    at[0] = 1;
    return 0;
  }), SIGSEGV));
  EXPECT_FAILS(mprotect(at, kPage, PROT_READ | PROT_WRITE), EACCES);
  EXPECT_OK(shmdt(at));
}

TEST_F(ShmTest, AddressRules) {
  const int id = Make(2 * kPage);
  char* room = static_cast<char*>(
      mmap(nullptr, 8 * kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  EXPECT_EQ(shmat(id, room + 1, 0), kFailed);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(shmat(id, room, 0), kFailed);  // something is there
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(shmat(id, nullptr, SHM_REMAP), kFailed);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(shmat(id, room + 10, SHM_RND | SHM_REMAP), room);
  room[kPage] = 'r';
  EXPECT_OK(munmap(room + 4 * kPage, 4 * kPage));
  EXPECT_EQ(shmat(id, room + 4 * kPage + 7, SHM_RND), room + 4 * kPage);
  EXPECT_EQ(room[5 * kPage], 'r');
  EXPECT_FAILS(shmdt(room + kPage), EINVAL);
  EXPECT_FAILS(shmdt(room + 1), EINVAL);
  EXPECT_OK(shmdt(room));
  EXPECT_EQ(Stat(id).shm_nattch, 1u);
  EXPECT_OK(shmdt(room + 4 * kPage));
  EXPECT_FAILS(shmdt(room + 2 * kPage), EINVAL);  // an ordinary mapping
  munmap(room, 8 * kPage);
  EXPECT_EQ(shmat(-1, nullptr, 0), kFailed);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(ShmTest, PartsThatWereUnmappedAreNoMatter) {
  const int id = Make(4 * kPage);
  char* at = static_cast<char*>(shmat(id, nullptr, 0));
  ASSERT_NE(at, kFailed);
  EXPECT_OK(munmap(at + kPage, kPage));
  EXPECT_EQ(Stat(id).shm_nattch, 2u);  // two mappings are left
  EXPECT_OK(shmdt(at));
  EXPECT_EQ(Stat(id).shm_nattch, 0u);
  at = static_cast<char*>(shmat(id, nullptr, 0));
  EXPECT_OK(munmap(at, 4 * kPage));
  EXPECT_EQ(Stat(id).shm_nattch, 0u);
}

TEST_F(ShmTest, ExecDetaches) {
  const int id = Make(kPage);
  void* at = shmat(id, nullptr, 0);
  EXPECT_TRUE(Exited(InChild([&] {
    execl("/bin/true", "true", nullptr);
    return 1;
  })));
  EXPECT_EQ(Stat(id).shm_nattch, 1u);
  EXPECT_OK(shmdt(at));
}

// Whoever still looks at the memory of a process that has ended keeps none of it attached.
TEST_F(ShmTest, ProcessesThatAreLookedAtDetachToo) {
  const int id = Make(kPage);
  void* at = shmat(id, nullptr, 0);
  Pipe go;
  const pid_t child = fork();
  if (child == 0) {
    char byte;
    _exit(read(go.reader.get(), &byte, 1) == 1 ? 0 : 1);
  }
  const std::string proc = "/proc/" + std::to_string(child);
  Fd mem(open((proc + "/mem").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_OK(mem.get());
  Fd pagemap(open((proc + "/pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_OK(pagemap.get());
  char byte = 1;
  EXPECT_EQ(pread(mem.get(), &byte, 1, reinterpret_cast<off_t>(at)), 1);
  EXPECT_EQ(write(go.writer.get(), "x", 1), 1);
  int status;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(Exited(status));
  const shmid_ds ds = Stat(id);
  EXPECT_EQ(ds.shm_nattch, 1u);
  EXPECT_EQ(ds.shm_lpid, child);
  EXPECT_NE(ds.shm_dtime, 0);
  EXPECT_EQ(pread(mem.get(), &byte, 1, reinterpret_cast<off_t>(at)), 0);
  EXPECT_EQ(pwrite(mem.get(), &byte, 1, reinterpret_cast<off_t>(at)), 0);
  uint64_t word;
  EXPECT_EQ(pread(pagemap.get(), &word, 8, static_cast<off_t>(reinterpret_cast<uintptr_t>(at) / kPage * 8)), 0);
  EXPECT_OK(shmdt(at));
}

// Each piece of a mapping counts (shm_open, shm_close), and pieces stay so once they are alike again.
TEST_F(ShmTest, EachPieceOfAMappingCounts) {
  const int id = Make(16 * kPage);
  char* at = static_cast<char*>(shmat(id, nullptr, 0));
  ASSERT_NE(at, kFailed);
  const auto attached = [&] { return Stat(id).shm_nattch; };
  EXPECT_OK(mprotect(at + kPage, kPage, PROT_READ | PROT_WRITE));
  EXPECT_EQ(attached(), 1u);
  EXPECT_OK(mprotect(at + kPage, kPage, PROT_READ));
  EXPECT_EQ(attached(), 3u);
  EXPECT_OK(mprotect(at + kPage, kPage, PROT_READ | PROT_WRITE));
  EXPECT_EQ(attached(), 3u);
  EXPECT_EQ(Stat(id).shm_dtime, 0);
  // A child takes the pieces over; what it does is its own.
  const pid_t child = fork();
  if (child == 0) _exit(attached() == 6 && munmap(at + 8 * kPage, kPage) == 0 && attached() == 7 ? 0 : 1);
  int status;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(Exited(status));
  EXPECT_EQ(Stat(id).shm_lpid, child);
  EXPECT_OK(munmap(at + 8 * kPage, kPage));
  EXPECT_EQ(attached(), 4u);
  EXPECT_EQ(Stat(id).shm_lpid, getpid());
  EXPECT_NE(Stat(id).shm_dtime, 0);
  void* room = mmap(nullptr, 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char* moved = static_cast<char*>(mremap(at + 12 * kPage, 2 * kPage, 2 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, room));
  ASSERT_EQ(moved, room);
  EXPECT_EQ(attached(), 6u);
  void* twice = mremap(moved, 0, kPage, MREMAP_MAYMOVE);
  ASSERT_NE(twice, kFailed);
  EXPECT_EQ(attached(), 7u);
  EXPECT_OK(madvise(at + 3 * kPage, kPage, MADV_DONTFORK));
  EXPECT_EQ(attached(), 9u);
  EXPECT_OK(madvise(at + 3 * kPage, kPage, MADV_DONTNEED));
  EXPECT_EQ(attached(), 9u);
  EXPECT_OK(shmdt(at));
  EXPECT_EQ(attached(), 2u);
  EXPECT_OK(munmap(moved, 2 * kPage));
  EXPECT_OK(munmap(twice, kPage));
  EXPECT_EQ(attached(), 0u);
}

TEST_F(ShmTest, SetAndLock) {
  const int id = Make(kPage);
  shmid_ds ds = Stat(id);
  ds.shm_perm.mode = 0606;
  EXPECT_OK(shmctl(id, IPC_SET, &ds));
  EXPECT_EQ(Stat(id).shm_perm.mode & 0777, 0606);
  EXPECT_OK(shmctl(id, SHM_LOCK, nullptr));
  EXPECT_NE(Stat(id).shm_perm.mode & SHM_LOCKED, 0);
  EXPECT_OK(shmctl(id, SHM_UNLOCK, nullptr));
  EXPECT_EQ(Stat(id).shm_perm.mode & SHM_LOCKED, 0);
  EXPECT_FAILS(syscall(SYS_shmctl, id, IPC_STAT, BadAddress()), EFAULT);
  EXPECT_FAILS(syscall(SYS_shmctl, id, IPC_SET, BadAddress()), EFAULT);
  EXPECT_FAILS(shmctl(id, 12345, &ds), EINVAL);
  EXPECT_FAILS(shmctl(-1, IPC_STAT, &ds), EINVAL);
}

TEST_F(ShmTest, InfoCommands) {
  const int id = Make(3 * kPage);
  shminfo limits = {};
  const int highest = shmctl(0, IPC_INFO, reinterpret_cast<shmid_ds*>(&limits));
  EXPECT_OK(highest);
  EXPECT_EQ(limits.shmmin, 1u);
  EXPECT_EQ(limits.shmmni, 4096u);
  shm_info info = {};
  EXPECT_OK(shmctl(0, SHM_INFO, reinterpret_cast<shmid_ds*>(&info)));
  EXPECT_GE(info.used_ids, 1);
  EXPECT_GE(info.shm_tot, 3u);
  shmid_ds ds = {};
  EXPECT_EQ(shmctl(id % 32768, SHM_STAT, &ds), id);
  EXPECT_EQ(shmctl(id % 32768, 15 /* SHM_STAT_ANY */, &ds), id);
  EXPECT_FAILS(shmctl(32767, SHM_STAT, &ds), EINVAL);
}

TEST_F(ShmTest, PermissionsOfOthers) {
  if (geteuid() != 0) GTEST_SKIP() << "needs another user";
  const int id = Make(kPage, 0604);
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    CHECK_CHILD(shmat(id, nullptr, 0) == kFailed && errno == EACCES);
    void* at = shmat(id, nullptr, SHM_RDONLY);
    CHECK_CHILD(at != kFailed);
    CHECK_CHILD(shmat(id, nullptr, SHM_RDONLY | SHM_EXEC) == kFailed && errno == EACCES);
    CHECK_CHILD(shmctl(id, IPC_RMID, nullptr) == -1 && errno == EPERM);
    CHECK_CHILD(shmctl(id, SHM_LOCK, nullptr) == -1 && errno == EPERM);
    return 0;
  })));
  const int closed = Make(kPage, 0600);
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    shmid_ds ds = {};
    CHECK_CHILD(shmat(closed, nullptr, SHM_RDONLY) == kFailed && errno == EACCES);
    CHECK_CHILD(shmctl(closed, IPC_STAT, &ds) == -1 && errno == EACCES);
    CHECK_CHILD(shmctl(closed % 32768, 15, &ds) == closed);
    return 0;
  })));
}

TEST_F(ShmTest, ProcShowsIt) {
  const int id = Make(5000, 0600);
  void* at = shmat(id, nullptr, 0);
  char line[96];
  snprintf(line, sizeof(line), "%10d %10d  %4o %21d %5d %5d  %5d", 0, id, 0600, 5000, getpid(),
           getpid(), 1);
  EXPECT_NE(ReadFile("/proc/sysvipc/shm").find(line), std::string::npos)
      << ReadFile("/proc/sysvipc/shm");
  EXPECT_NE(ReadFile("/proc/self/maps").find("/SYSV00000000 (deleted)"), std::string::npos);
  EXPECT_OK(shmdt(at));
}

}  // namespace
}  // namespace ringwall::test
