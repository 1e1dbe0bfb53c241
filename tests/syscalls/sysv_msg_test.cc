// System V message queues.
#include <limits.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/time.h>
#include <time.h>

#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

struct Message {
  long type;
  char text[64];
};

class MsgTest : public ::testing::Test {
 protected:
  MsgTest() : id_(msgget(IPC_PRIVATE, 0600)) {}
  ~MsgTest() override { msgctl(id_, IPC_RMID, nullptr); }
  int Send(long type, const std::string& text, int flags = 0) {
    Message m = {type, {}};
    memcpy(m.text, text.data(), text.size());
    return msgsnd(id_, &m, text.size(), flags);
  }
  // The text received, or "!" and the errno's name.
  std::string Receive(long type, int flags = IPC_NOWAIT, size_t room = sizeof(Message::text)) {
    Message m = {};
    const ssize_t n = msgrcv(id_, &m, room, type, flags);
    if (n < 0) return "!" + ErrnoName(errno);
    last_type_ = m.type;
    return std::string(m.text, static_cast<size_t>(n));
  }
  msqid_ds Stat() {
    msqid_ds ds = {};
    EXPECT_OK(msgctl(id_, IPC_STAT, &ds));
    return ds;
  }
  const int id_;
  long last_type_ = 0;
};

TEST_F(MsgTest, GetByKey) {
  const key_t key = 0x52580000 + (getpid() & 0xffff);
  EXPECT_FAILS(msgget(key, 0600), ENOENT);
  const int id = msgget(key, IPC_CREAT | IPC_EXCL | 0600);
  ASSERT_OK(id);
  EXPECT_EQ(msgget(key, 0), id);
  EXPECT_EQ(msgget(key, IPC_CREAT | 0600), id);
  EXPECT_FAILS(msgget(key, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
  EXPECT_OK(msgctl(id, IPC_RMID, nullptr));
  EXPECT_FAILS(msgget(key, 0600), ENOENT);
  EXPECT_FAILS(msgctl(id, IPC_RMID, nullptr), EINVAL);
}

TEST_F(MsgTest, FirstInFirstOut) {
  EXPECT_OK(Send(3, "a"));
  EXPECT_OK(Send(1, "bb"));
  EXPECT_OK(Send(2, ""));
  EXPECT_EQ(Receive(0), "a");
  EXPECT_EQ(last_type_, 3);
  EXPECT_EQ(Receive(0), "bb");
  EXPECT_EQ(Receive(0), "");
  EXPECT_EQ(last_type_, 2);
  EXPECT_EQ(Receive(0), "!ENOMSG");
}

TEST_F(MsgTest, ByType) {
  for (long type : {5, 3, 4, 3}) EXPECT_OK(Send(type, std::to_string(type)));
  EXPECT_EQ(Receive(4), "4");
  EXPECT_EQ(Receive(7), "!ENOMSG");
  EXPECT_EQ(Receive(-2), "!ENOMSG");
  EXPECT_EQ(Receive(-5), "3");
  EXPECT_EQ(Receive(3, IPC_NOWAIT | MSG_EXCEPT), "5");
  EXPECT_EQ(Receive(3, IPC_NOWAIT | MSG_EXCEPT), "!ENOMSG");
  EXPECT_EQ(Receive(LONG_MIN), "3");
}

TEST_F(MsgTest, TooSmallBuffer) {
  EXPECT_OK(Send(1, "0123456789"));
  EXPECT_EQ(Receive(0, IPC_NOWAIT, 4), "!E2BIG");
  EXPECT_EQ(Stat().msg_qnum, 1u);
  EXPECT_EQ(Receive(0, IPC_NOWAIT | MSG_NOERROR, 4), "0123");
  EXPECT_EQ(Stat().msg_qnum, 0u);
}

TEST_F(MsgTest, CopyLeavesItThere) {
  EXPECT_OK(Send(7, "one"));
  EXPECT_OK(Send(8, "two"));
  if (Receive(0, MSG_COPY | IPC_NOWAIT) == "!ENOSYS") GTEST_SKIP() << "kernel without MSG_COPY";
  EXPECT_EQ(Receive(1, MSG_COPY | IPC_NOWAIT), "two");
  EXPECT_EQ(last_type_, 8);
  EXPECT_EQ(Receive(2, MSG_COPY | IPC_NOWAIT), "!ENOMSG");
  EXPECT_EQ(Receive(0, MSG_COPY), "!EINVAL");
  EXPECT_EQ(Receive(0, MSG_COPY | MSG_EXCEPT | IPC_NOWAIT), "!EINVAL");
  EXPECT_EQ(Stat().msg_qnum, 2u);
}

TEST_F(MsgTest, BadArguments) {
  Message m = {1, {}};
  EXPECT_FAILS(msgsnd(-1, &m, 1, 0), EINVAL);
  EXPECT_FAILS(msgsnd(id_, &m, 8193, 0), EINVAL);
  EXPECT_FAILS(msgsnd(id_, &m, static_cast<size_t>(-1), 0), EINVAL);
  m.type = 0;
  EXPECT_FAILS(msgsnd(id_, &m, 1, 0), EINVAL);
  m.type = -1;
  EXPECT_FAILS(msgsnd(id_, &m, 1, 0), EINVAL);
  EXPECT_FAILS(syscall(SYS_msgsnd, id_, BadAddress(), 1, 0), EFAULT);
  EXPECT_FAILS(msgrcv(-1, &m, 1, 0, IPC_NOWAIT), EINVAL);
  EXPECT_FAILS(msgrcv(id_, &m, static_cast<size_t>(-1), 0, IPC_NOWAIT), EINVAL);
  EXPECT_FAILS(msgctl(id_, 12345, nullptr), EINVAL);
  EXPECT_FAILS(msgctl(-1, IPC_STAT, nullptr), EINVAL);
  EXPECT_FAILS(syscall(SYS_msgctl, id_, IPC_STAT, BadAddress()), EFAULT);
  EXPECT_FAILS(syscall(SYS_msgctl, id_, IPC_SET, BadAddress()), EFAULT);
  EXPECT_OK(Send(1, "x"));
  EXPECT_FAILS(syscall(SYS_msgrcv, id_, BadAddress(), 8, 0, 0), EFAULT);
  EXPECT_EQ(Stat().msg_qnum, 0u);  // it is gone all the same
}

TEST_F(MsgTest, FullQueueBlocksAndIsEagain) {
  msqid_ds ds = Stat();
  EXPECT_EQ(ds.msg_qbytes, 16384u);
  ds.msg_qbytes = 100;
  EXPECT_OK(msgctl(id_, IPC_SET, &ds));
  EXPECT_OK(Send(1, std::string(60, 'a')));
  EXPECT_FAILS(Send(1, std::string(60, 'b'), IPC_NOWAIT), EAGAIN);
  EXPECT_OK(Send(1, std::string(40, 'c'), IPC_NOWAIT));
  EXPECT_FAILS(Send(1, "d", IPC_NOWAIT), EAGAIN);
  std::thread sender([&] { EXPECT_OK(Send(2, std::string(50, 'e'))); });
  EXPECT_EQ(Receive(0, 0), std::string(60, 'a'));
  sender.join();
  EXPECT_EQ(Receive(2), std::string(50, 'e'));
}

TEST_F(MsgTest, EmptyMessagesCountToo) {
  msqid_ds ds = Stat();
  ds.msg_qbytes = 3;
  EXPECT_OK(msgctl(id_, IPC_SET, &ds));
  for (int i = 0; i < 3; ++i) EXPECT_OK(Send(1, "", IPC_NOWAIT));
  EXPECT_FAILS(Send(1, "", IPC_NOWAIT), EAGAIN);
}

TEST_F(MsgTest, ReceiverWaits) {
  std::thread sender([&] {
    EXPECT_OK(Send(1, "not this"));
    EXPECT_OK(Send(2, "this"));
  });
  EXPECT_EQ(Receive(2, 0), "this");
  sender.join();
}

TEST_F(MsgTest, RemovalEndsWaits) {
  Pipe ready;
  std::thread receiver([&] {
    Message m;
    EXPECT_EQ(write(ready.writer.get(), "x", 1), 1);
    const ssize_t n = msgrcv(id_, &m, 1, 0, 0);
    // EINVAL when the removal came before the call.
    EXPECT_TRUE(n == -1 && (errno == EIDRM || errno == EINVAL)) << ErrnoName(errno);
  });
  char c;
  EXPECT_EQ(read(ready.reader.get(), &c, 1), 1);
  EXPECT_OK(msgctl(id_, IPC_RMID, nullptr));
  receiver.join();
}

TEST_F(MsgTest, FiguresFollow) {
  const time_t before = time(nullptr);
  msqid_ds ds = Stat();
  EXPECT_EQ(ds.msg_stime, 0);
  EXPECT_EQ(ds.msg_rtime, 0);
  EXPECT_GE(ds.msg_ctime, before - 1);
  EXPECT_EQ(ds.msg_lspid, 0);
  EXPECT_OK(Send(1, "abcde"));
  ds = Stat();
  EXPECT_EQ(ds.__msg_cbytes, 5u);
  EXPECT_EQ(ds.msg_qnum, 1u);
  EXPECT_EQ(ds.msg_lspid, getpid());
  EXPECT_GE(ds.msg_stime, before - 1);
  Receive(0);
  ds = Stat();
  EXPECT_EQ(ds.__msg_cbytes, 0u);
  EXPECT_EQ(ds.msg_lrpid, getpid());
  EXPECT_GE(ds.msg_rtime, before - 1);
}

TEST_F(MsgTest, InfoCommands) {
  msginfo info = {};
  const int highest = msgctl(0, IPC_INFO, reinterpret_cast<msqid_ds*>(&info));
  EXPECT_OK(highest);
  EXPECT_EQ(info.msgmax, 8192);
  EXPECT_EQ(info.msgmnb, 16384);
  EXPECT_EQ(info.msgssz, 16);
  EXPECT_OK(Send(1, "abc"));
  EXPECT_OK(msgctl(0, MSG_INFO, reinterpret_cast<msqid_ds*>(&info)));
  EXPECT_GE(info.msgpool, 1);
  EXPECT_GE(info.msgmap, 1);
  EXPECT_GE(info.msgtql, 3);
  msqid_ds ds = {};
  EXPECT_EQ(msgctl(id_ % 32768, MSG_STAT, &ds), id_);
  EXPECT_EQ(ds.msg_qnum, 1u);
  EXPECT_EQ(msgctl(id_ % 32768, 13 /* MSG_STAT_ANY */, &ds), id_);
  EXPECT_FAILS(msgctl(32767, MSG_STAT, &ds), EINVAL);
}

TEST_F(MsgTest, PermissionsOfOthers) {
  if (geteuid() != 0) GTEST_SKIP() << "needs another user";
  msqid_ds ds = Stat();
  ds.msg_perm.mode = 0602;
  EXPECT_OK(msgctl(id_, IPC_SET, &ds));
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    CHECK_CHILD(Send(1, "x") == 0);
    CHECK_CHILD(Receive(0) == "!EACCES");
    msqid_ds own = {};
    CHECK_CHILD(msgctl(id_, IPC_STAT, &own) == -1 && errno == EACCES);
    CHECK_CHILD(msgctl(id_, IPC_RMID, nullptr) == -1 && errno == EPERM);
    const int mine = msgget(IPC_PRIVATE, 0600);
    CHECK_CHILD(mine >= 0 && msgctl(mine, IPC_STAT, &own) == 0);
    own.msg_qbytes = 16385;
    CHECK_CHILD(msgctl(mine, IPC_SET, &own) == -1 && errno == EPERM);
    own.msg_qbytes = 10;
    CHECK_CHILD(msgctl(mine, IPC_SET, &own) == 0);
    CHECK_CHILD(msgctl(mine, IPC_RMID, nullptr) == 0);
    return 0;
  })));
}

TEST_F(MsgTest, SignalInterruptsAWait) {
  EXPECT_TRUE(Exited(InChild([&] {
    struct sigaction sa = {};
    sa.sa_handler = [](int) {};
    sa.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &sa, nullptr);
    itimerval timer = {{0, 5000}, {0, 5000}};
    setitimer(ITIMER_REAL, &timer, nullptr);
    Message m;
    CHECK_CHILD(msgrcv(id_, &m, 1, 0, 0) == -1 && errno == EINTR);
    return 0;
  })));
}

TEST_F(MsgTest, ProcListsIt) {
  EXPECT_OK(Send(1, "abcd"));
  char line[64];
  snprintf(line, sizeof(line), "%10d %10d  %4o  %10d %10d %5d", 0, id_, 0600, 4, 1, getpid());
  EXPECT_NE(ReadFile("/proc/sysvipc/msg").find(line), std::string::npos)
      << ReadFile("/proc/sysvipc/msg");
}

}  // namespace
}  // namespace ringwall::test
