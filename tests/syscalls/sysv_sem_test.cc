// System V semaphores.
#include <sys/ipc.h>
#include <sys/sem.h>
#include <time.h>

#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

union SemArg {
  int val;
  semid_ds* buf;
  unsigned short* array;
  seminfo* info;
};

int Ctl(int id, int num, int cmd, SemArg arg = {}) { return semctl(id, num, cmd, arg); }

class SemTest : public ::testing::Test {
 protected:
  ~SemTest() override {
    for (int id : made_) Ctl(id, 0, IPC_RMID);
  }
  int Make(int n, int mode = 0600) {
    const int id = semget(IPC_PRIVATE, n, IPC_CREAT | mode);
    if (id >= 0) made_.push_back(id);
    return id;
  }
  static int Op(int id, unsigned short num, short op, short flags = 0) {
    sembuf b = {num, op, flags};
    return semop(id, &b, 1);
  }
  static key_t FreshKey() {
    static int n = 0;
    return static_cast<key_t>(0x52570000 + (getpid() & 0xfff) * 16 + n++);
  }
  std::vector<int> made_;
};

TEST_F(SemTest, GetChecksCountAndKey) {
  const key_t key = FreshKey();
  EXPECT_FAILS(semget(key, 1, 0600), ENOENT);
  EXPECT_FAILS(semget(key, 0, IPC_CREAT | 0600), EINVAL);
  EXPECT_FAILS(semget(IPC_PRIVATE, 0, 0600), EINVAL);
  EXPECT_FAILS(semget(IPC_PRIVATE, -1, 0600), EINVAL);
  EXPECT_FAILS(semget(IPC_PRIVATE, 32001, 0600), EINVAL);
  const int id = semget(key, 3, IPC_CREAT | IPC_EXCL | 0600);
  ASSERT_OK(id);
  made_.push_back(id);
  EXPECT_EQ(semget(key, 3, 0600), id);
  EXPECT_EQ(semget(key, 0, 0600), id);
  EXPECT_EQ(semget(key, 2, IPC_CREAT | 0600), id);
  EXPECT_FAILS(semget(key, 4, 0600), EINVAL);
  EXPECT_FAILS(semget(key, 3, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
  EXPECT_OK(Ctl(id, 0, IPC_RMID));
  EXPECT_FAILS(semget(key, 3, 0600), ENOENT);
  EXPECT_FAILS(Ctl(id, 0, IPC_RMID), EINVAL);
  EXPECT_FAILS(Op(id, 0, 1), EINVAL);
}

TEST_F(SemTest, ValuesStartAtZeroAndAreSet) {
  const int id = Make(4);
  unsigned short values[4] = {9, 9, 9, 9};
  EXPECT_OK(Ctl(id, 0, GETALL, {.array = values}));
  for (unsigned short v : values) EXPECT_EQ(v, 0);
  EXPECT_OK(Ctl(id, 2, SETVAL, {.val = 7}));
  EXPECT_EQ(Ctl(id, 2, GETVAL), 7);
  EXPECT_EQ(Ctl(id, 2, GETPID), getpid());
  EXPECT_FAILS(Ctl(id, 4, GETVAL), EINVAL);
  EXPECT_FAILS(Ctl(id, -1, GETVAL), EINVAL);
  EXPECT_FAILS(Ctl(id, 4, SETVAL, {.val = 1}), EINVAL);
  EXPECT_FAILS(Ctl(id, 0, SETVAL, {.val = -1}), ERANGE);
  EXPECT_FAILS(Ctl(id, 0, SETVAL, {.val = 32768}), ERANGE);
  unsigned short set[4] = {1, 2, 3, 32767};
  EXPECT_OK(Ctl(id, 0, SETALL, {.array = set}));
  EXPECT_EQ(Ctl(id, 3, GETVAL), 32767);
  set[1] = 32768;
  EXPECT_FAILS(Ctl(id, 0, SETALL, {.array = set}), ERANGE);
  EXPECT_EQ(Ctl(id, 1, GETVAL), 2);
  EXPECT_FAILS(Ctl(id, 0, SETALL, {.array = static_cast<unsigned short*>(BadAddress())}), EFAULT);
  EXPECT_FAILS(Ctl(id, 0, GETALL, {.array = static_cast<unsigned short*>(BadAddress())}), EFAULT);
  EXPECT_FAILS(Ctl(id, 0, 12345), EINVAL);
  EXPECT_FAILS(Ctl(-1, 0, GETVAL), EINVAL);
}

TEST_F(SemTest, OperationsAreAllOrNothing) {
  const int id = Make(2);
  sembuf ops[2] = {{0, 5, 0}, {1, -1, IPC_NOWAIT}};
  EXPECT_FAILS(semop(id, ops, 2), EAGAIN);
  EXPECT_EQ(Ctl(id, 0, GETVAL), 0);
  ops[1].sem_op = 3;
  EXPECT_OK(semop(id, ops, 2));
  EXPECT_EQ(Ctl(id, 0, GETVAL), 5);
  EXPECT_EQ(Ctl(id, 1, GETVAL), 3);
  // One semaphore may come twice.
  sembuf twice[2] = {{0, -5, 0}, {0, 0, IPC_NOWAIT}};
  EXPECT_OK(semop(id, twice, 2));
  EXPECT_EQ(Ctl(id, 0, GETVAL), 0);
  sembuf zero = {1, 0, IPC_NOWAIT};
  EXPECT_FAILS(semop(id, &zero, 1), EAGAIN);
}

TEST_F(SemTest, OperationErrors) {
  const int id = Make(2);
  sembuf op = {2, 1, 0};
  EXPECT_FAILS(semop(id, &op, 1), EFBIG);
  EXPECT_FAILS(semop(id, &op, 0), EINVAL);
  EXPECT_FAILS(syscall(SYS_semop, -1, &op, 1), EINVAL);
  std::vector<sembuf> many(501, sembuf{0, 0, 0});
  EXPECT_FAILS(semop(id, many.data(), 501), E2BIG);
  EXPECT_OK(semop(id, many.data(), 500));
  EXPECT_FAILS(syscall(SYS_semop, id, BadAddress(), 1), EFAULT);
  op = {0, 32767, 0};
  EXPECT_OK(semop(id, &op, 1));
  op.sem_op = 1;
  EXPECT_FAILS(semop(id, &op, 1), ERANGE);
  EXPECT_EQ(Ctl(id, 0, GETVAL), 32767);
}

TEST_F(SemTest, TimedOperation) {
  const int id = Make(1);
  sembuf op = {0, -1, 0};
  timespec ts = {0, 1000000};
  EXPECT_FAILS(semtimedop(id, &op, 1, &ts), EAGAIN);
  ts = {0, 0};
  EXPECT_FAILS(semtimedop(id, &op, 1, &ts), EAGAIN);
  ts = {-1, 0};
  EXPECT_FAILS(semtimedop(id, &op, 1, &ts), EINVAL);
  ts = {0, 1000000000};
  EXPECT_FAILS(semtimedop(id, &op, 1, &ts), EINVAL);
  EXPECT_FAILS(syscall(SYS_semtimedop, id, &op, 1, BadAddress()), EFAULT);
  EXPECT_OK(Ctl(id, 0, SETVAL, {.val = 1}));
  ts = {10, 0};
  EXPECT_OK(semtimedop(id, &op, 1, &ts));
}

TEST_F(SemTest, WaitersAreCountedAndWoken) {
  const int id = Make(2);
  std::thread taker([&] { EXPECT_OK(Op(id, 0, -2)); });
  while (Ctl(id, 0, GETNCNT) != 1) sched_yield();
  EXPECT_EQ(Ctl(id, 0, GETZCNT), 0);
  EXPECT_EQ(Ctl(id, 1, GETNCNT), 0);
  EXPECT_OK(Op(id, 0, 1));
  EXPECT_EQ(Ctl(id, 0, GETNCNT), 1);
  EXPECT_OK(Op(id, 0, 1));
  taker.join();
  EXPECT_EQ(Ctl(id, 0, GETVAL), 0);
  EXPECT_OK(Ctl(id, 1, SETVAL, {.val = 1}));
  std::thread zero([&] { EXPECT_OK(Op(id, 1, 0)); });
  while (Ctl(id, 1, GETZCNT) != 1) sched_yield();
  EXPECT_OK(Op(id, 1, -1));
  zero.join();
  EXPECT_EQ(Ctl(id, 1, GETZCNT), 0);
}

TEST_F(SemTest, SetvalWakes) {
  const int id = Make(1);
  std::thread taker([&] { EXPECT_OK(Op(id, 0, -3)); });
  while (Ctl(id, 0, GETNCNT) != 1) sched_yield();
  EXPECT_OK(Ctl(id, 0, SETVAL, {.val = 3}));
  taker.join();
  std::thread second([&] { EXPECT_OK(Op(id, 0, -3)); });
  while (Ctl(id, 0, GETNCNT) != 1) sched_yield();
  unsigned short all[1] = {4};
  EXPECT_OK(Ctl(id, 0, SETALL, {.array = all}));
  second.join();
  EXPECT_EQ(Ctl(id, 0, GETVAL), 1);
}

TEST_F(SemTest, RemovalWakesWithEidrm) {
  const int id = Make(1);
  std::thread taker([&] { EXPECT_FAILS(Op(id, 0, -1), EIDRM); });
  while (Ctl(id, 0, GETNCNT) != 1) sched_yield();
  EXPECT_OK(Ctl(id, 0, IPC_RMID));
  taker.join();
}

TEST_F(SemTest, SignalInterrupts) {
  const int id = Make(1);
  EXPECT_TRUE(Exited(InChild([&] {
    struct sigaction sa = {};
    sa.sa_handler = [](int) {};
    sa.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &sa, nullptr);
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child == 0) {
      while (Ctl(id, 0, GETNCNT) != 1) sched_yield();
      kill(parent, SIGUSR1);
      _exit(0);
    }
    CHECK_CHILD(Op(id, 0, -1) == -1 && errno == EINTR);
    CHECK_CHILD(waitpid(child, nullptr, 0) == child);
    return 0;
  })));
  EXPECT_EQ(Ctl(id, 0, GETNCNT), 0);
}

TEST_F(SemTest, UndoAtExit) {
  const int id = Make(2);
  EXPECT_OK(Ctl(id, 0, SETVAL, {.val = 5}));
  pid_t child = 0;
  EXPECT_TRUE(Exited(InChild([&] {
    CHECK_CHILD(Op(id, 0, -3, SEM_UNDO) == 0);
    CHECK_CHILD(Op(id, 0, 1, SEM_UNDO) == 0);
    CHECK_CHILD(Op(id, 1, 4, SEM_UNDO) == 0);
    CHECK_CHILD(Op(id, 1, -3) == 0);
    CHECK_CHILD(Ctl(id, 0, GETVAL) == 3);
    return 0;
  })));
  EXPECT_EQ(Ctl(id, 0, GETVAL), 5);
  EXPECT_EQ(Ctl(id, 1, GETVAL), 0);  // not below zero
  static_cast<void>(child);
}

TEST_F(SemTest, SetvalForgetsUndo) {
  const int id = Make(1);
  EXPECT_OK(Ctl(id, 0, SETVAL, {.val = 5}));
  EXPECT_TRUE(Exited(InChild([&] {
    CHECK_CHILD(Op(id, 0, -3, SEM_UNDO) == 0);
    CHECK_CHILD(Ctl(id, 0, SETVAL, {.val = 10}) == 0);
    return 0;
  })));
  EXPECT_EQ(Ctl(id, 0, GETVAL), 10);
}

TEST_F(SemTest, UndoOverflowIsErange) {
  const int id = Make(1);
  EXPECT_TRUE(Exited(InChild([&] {
    for (int i = 0; i < 1; ++i) CHECK_CHILD(Op(id, 0, 32767, SEM_UNDO) == 0);
    CHECK_CHILD(Op(id, 0, -32767) == 0);
    CHECK_CHILD(Op(id, 0, 1, SEM_UNDO) == 0);  // -32768 is the lowest
    CHECK_CHILD(Op(id, 0, -1) == 0);
    CHECK_CHILD(Op(id, 0, 1, SEM_UNDO) == -1 && errno == ERANGE);
    return 0;
  })));
}

TEST_F(SemTest, UndoWakesOthers) {
  const int id = Make(1);
  EXPECT_OK(Ctl(id, 0, SETVAL, {.val = 1}));
  Pipe ready;
  const pid_t child = fork();
  if (child == 0) {
    CHECK_CHILD(Op(id, 0, -1, SEM_UNDO) == 0);
    CHECK_CHILD(write(ready.writer.get(), "x", 1) == 1);
    while (Ctl(id, 0, GETNCNT) != 1) sched_yield();
    _exit(0);
  }
  char c;
  EXPECT_EQ(read(ready.reader.get(), &c, 1), 1);
  EXPECT_OK(Op(id, 0, -1));
  EXPECT_EQ(waitpid(child, nullptr, 0), child);
}

TEST_F(SemTest, ThreadsShareUndoWithTheProcess) {
  const int id = Make(1);
  EXPECT_TRUE(Exited(InChild([&] {
    std::thread([&] { CHECK_CHILD(Op(id, 0, 2, SEM_UNDO) == 0); }).join();
    CHECK_CHILD(Ctl(id, 0, GETVAL) == 2);
    return 0;
  })));
  EXPECT_EQ(Ctl(id, 0, GETVAL), 0);
}

TEST_F(SemTest, StatAndSet) {
  const time_t before = time(nullptr);
  const int id = Make(3, 0640);
  semid_ds ds = {};
  EXPECT_OK(Ctl(id, 0, IPC_STAT, {.buf = &ds}));
  EXPECT_EQ(ds.sem_perm.mode & 0777, 0640);
  EXPECT_EQ(ds.sem_perm.uid, geteuid());
  EXPECT_EQ(ds.sem_perm.cuid, geteuid());
  EXPECT_EQ(ds.sem_perm.gid, getegid());
  EXPECT_EQ(ds.sem_perm.__key, IPC_PRIVATE);
  EXPECT_EQ(ds.sem_nsems, 3u);
  EXPECT_EQ(ds.sem_otime, 0);
  EXPECT_GE(ds.sem_ctime, before - 1);
  EXPECT_OK(Op(id, 0, 1));
  EXPECT_OK(Ctl(id, 0, IPC_STAT, {.buf = &ds}));
  EXPECT_GE(ds.sem_otime, before - 1);
  ds.sem_perm.mode = 0604;
  EXPECT_OK(Ctl(id, 0, IPC_SET, {.buf = &ds}));
  EXPECT_OK(Ctl(id, 0, IPC_STAT, {.buf = &ds}));
  EXPECT_EQ(ds.sem_perm.mode & 0777, 0604);
  EXPECT_FAILS(Ctl(id, 0, IPC_STAT, {.buf = static_cast<semid_ds*>(BadAddress())}), EFAULT);
  EXPECT_FAILS(Ctl(id, 0, IPC_SET, {.buf = static_cast<semid_ds*>(BadAddress())}), EFAULT);
}

TEST_F(SemTest, InfoCommands) {
  const int id = Make(2);
  seminfo info = {};
  const int highest = Ctl(0, 0, IPC_INFO, {.info = &info});
  EXPECT_OK(highest);
  EXPECT_GT(info.semmni, 0);
  EXPECT_EQ(info.semvmx, 32767);
  EXPECT_EQ(info.semaem, 32767);
  EXPECT_EQ(info.semusz, 20);
  EXPECT_OK(Ctl(0, 0, SEM_INFO, {.info = &info}));
  EXPECT_GE(info.semusz, 1);
  EXPECT_GE(info.semaem, 2);
  bool found = false;
  for (int i = 0; i <= highest; ++i) {
    semid_ds ds = {};
    if (Ctl(i, 0, SEM_STAT, {.buf = &ds}) == id) found = true;
  }
  EXPECT_TRUE(found);
  semid_ds ds = {};
  EXPECT_EQ(Ctl(id % 32768, 0, 20 /* SEM_STAT_ANY */, {.buf = &ds}), id);
  EXPECT_FAILS(Ctl(32767, 0, SEM_STAT, {.buf = &ds}), EINVAL);
}

TEST_F(SemTest, PermissionsOfOthers) {
  const int id = Make(1, 0604);
  if (geteuid() != 0) GTEST_SKIP() << "needs another user";
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    CHECK_CHILD(Ctl(id, 0, GETVAL) == 0);
    CHECK_CHILD(Ctl(id, 0, SETVAL, {.val = 1}) == -1 && errno == EACCES);
    CHECK_CHILD(Op(id, 0, 1) == -1 && errno == EACCES);
    CHECK_CHILD(Op(id, 0, 0) == 0);
    CHECK_CHILD(Ctl(id, 0, IPC_RMID) == -1 && errno == EPERM);
    semid_ds ds = {};
    CHECK_CHILD(Ctl(id, 0, IPC_STAT, {.buf = &ds}) == 0);
    CHECK_CHILD(Ctl(id, 0, IPC_SET, {.buf = &ds}) == -1 && errno == EPERM);
    return 0;
  })));
  const int closed = Make(1, 0600);
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    semid_ds ds = {};
    CHECK_CHILD(Ctl(closed, 0, IPC_STAT, {.buf = &ds}) == -1 && errno == EACCES);
    CHECK_CHILD(Ctl(closed, 0, GETVAL) == -1 && errno == EACCES);
    CHECK_CHILD(Ctl(closed, 0, GETNCNT) == -1 && errno == EACCES);
    CHECK_CHILD(Ctl(closed % 32768, 0, SEM_STAT, {.buf = &ds}) == -1 && errno == EACCES);
    CHECK_CHILD(Ctl(closed % 32768, 0, 20, {.buf = &ds}) == closed);
    return 0;
  })));
}

TEST_F(SemTest, ProcListsIt) {
  const int id = Make(5, 0644);
  char line[64];
  snprintf(line, sizeof(line), "%10d %10d  %4o %10d", 0, id, 0644, 5);
  EXPECT_NE(ReadFile("/proc/sysvipc/sem").find(line), std::string::npos)
      << ReadFile("/proc/sysvipc/sem");
}

}  // namespace
}  // namespace ringwall::test
