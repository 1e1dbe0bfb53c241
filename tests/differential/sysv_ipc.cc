// Random calls on System V queues, semaphores and segments, as root and as others. Only objects that the walk
// has made are changed, and all are removed at its end.
#include <sys/msg.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <vector>

#include "tests/differential/random_calls.h"

namespace ringwall::test {
namespace {

constexpr int kObjects = 3;
int queues[kObjects] = {-1, -1, -1}, sets[kObjects] = {-1, -1, -1}, segments[kObjects] = {-1, -1, -1};
std::vector<int> made[3];  // every identifier, for the end
char* places;              // where segments may be attached: 16 pages that nothing else uses
constexpr size_t kPlaces = 16 * 4096;

const char* Who(pid_t pid) { return pid == 0 ? "0" : pid == getpid() ? "self" : "other"; }
// Never an identifier of somebody else's: numbers too high for this machine's, or below zero.
int Any(const int (&from)[kObjects]) { return OneIn(20) ? Pick(-1, 0x7ffffff0) : from[Below(kObjects)]; }
int Flags() { return IPC_CREAT | Pick(0600, 0600, 0666, 0644, 0, 0060, 0200, 0400); }
void As(uid_t uid) {
  syscall(SYS_setresgid, -1, uid, -1);
  syscall(SYS_setresuid, -1, uid, -1);
}
// The steps that follow are another user's, without capabilities, or root's again.
void Change() {
  const uid_t uid = Pick(0u, 0u, 1000u, 2000u);
  syscall(SYS_setresuid, -1, 0, -1);
  syscall(SYS_setresgid, -1, 0, -1);
  As(uid);
  Say("user %u", uid);
  Result(0);
}
void TellPerm(const ipc_perm& p) { printf(" %u:%u of %u:%u %o", p.uid, p.gid, p.cuid, p.cgid, p.mode); }

void Keep(int kind, int (&into)[kObjects], int id) {
  if (id < 0) return;
  int& slot = into[Below(kObjects)];
  made[kind].push_back(id);
  slot = id;
}
void MakeQueue() {
  const int flags = Flags();
  Say("msgget(%#o)", flags);
  const int id = msgget(IPC_PRIVATE, flags);
  Outcome(id);
  Keep(0, queues, id);
}
struct Message {
  long type;
  char text[9000];
};
void SendMessage() {
  static Message m;
  const int id = Any(queues);
  m.type = OneIn(12) ? Pick(0L, -1L, 1L << 40) : 1 + static_cast<long>(Below(5));
  memset(m.text, 'a' + static_cast<int>(Below(26)), sizeof(m.text));
  const size_t size = Pick(size_t{0}, size_t{1}, size_t{10}, size_t{100}, size_t{4048}, size_t{4049}, size_t{8192}, size_t{8193}, ~size_t{0});
  const bool bad = OneIn(20);
  Say("msgsnd(%d, %ld, %zu%s)", id == -1, m.type, size, bad ? " bad" : "");
  Result(syscall(SYS_msgsnd, id, bad ? reinterpret_cast<void*>(16) : &m, size, IPC_NOWAIT));
}
void ReceiveMessage() {
  static Message m;
  memset(&m, 0, sizeof(m));
  const int id = Any(queues);
  const long type = Pick(0L, 0L, 1L, 2L, 3L, -2L, -3L, -5L, 7L, static_cast<long>(1ul << 63));
  const size_t size = Pick(size_t{0}, size_t{1}, size_t{50}, size_t{9000}, size_t{9000}, size_t{9000}, ~size_t{0});
  int flags = IPC_NOWAIT;
  for (const int bit : {MSG_NOERROR, MSG_EXCEPT, MSG_COPY})
    if (OneIn(4)) flags |= bit;
  const bool bad = OneIn(20);
  Say("msgrcv(%d, %ld, %zu, %#x%s)", id == -1, type, size, flags, bad ? " bad" : "");
  const long r = syscall(SYS_msgrcv, id, bad ? reinterpret_cast<void*>(16) : &m, size, type, flags);
  if (r >= 0) printf(" type %ld %x", m.type, Checksum({m.text, static_cast<size_t>(r)}));
  Result(r);
}
void ControlQueue() {
  const int id = Any(queues), command = Pick(IPC_STAT, IPC_STAT, IPC_STAT, IPC_SET, IPC_SET, IPC_RMID, 77, -1);
  msqid_ds ds = {};
  if (command == IPC_SET) {
    ds.msg_perm.uid = Pick(0u, 1000u, 2000u, 0xffffffffu), ds.msg_perm.gid = Pick(0u, 1000u, 0xffffffffu);
    ds.msg_perm.mode = Pick(0600, 0666, 0777, 07777, 0, 0444);
    ds.msg_qbytes = Pick(16384u, 100u, 0u, 5000u, 17000u);
  }
  const bool bad = command != IPC_RMID && OneIn(15);
  Say("msgctl(%d, %d %lu%s)", id == -1, command, ds.msg_qbytes, bad ? " bad" : "");
  const long r = syscall(SYS_msgctl, id, command, bad ? reinterpret_cast<msqid_ds*>(16) : &ds);
  if (r == 0 && command == IPC_STAT) {
    TellPerm(ds.msg_perm);
    printf(" %lu messages %lu of %lu, %s %s %d%d%d", ds.msg_qnum, ds.msg_cbytes, ds.msg_qbytes, Who(ds.msg_lspid), Who(ds.msg_lrpid), ds.msg_stime != 0, ds.msg_rtime != 0, ds.msg_ctime != 0);
  }
  Result(r);
}
void MakeSet() {
  const int flags = Flags(), count = Pick(1, 2, 3, 4, 0, -1, 32000, 32001);
  Say("semget(%d, %#o)", count, flags);
  const int id = semget(IPC_PRIVATE, count, flags);
  Outcome(id);
  Keep(1, sets, id);
}
void Operate() {
  const int id = Any(sets);
  sembuf ops[4];
  const size_t n = Pick(1u, 1u, 2u, 3u, 0u, 501u);
  for (sembuf& op : ops) {
    op.sem_num = static_cast<uint16_t>(OneIn(15) ? 40000 : Below(4));
    op.sem_op = static_cast<int16_t>(OneIn(12) ? Pick(32767, -32768, 20000) : static_cast<int>(Below(7)) - 3);
    op.sem_flg = static_cast<int16_t>(IPC_NOWAIT | (OneIn(3) ? SEM_UNDO : 0));
  }
  const bool bad = OneIn(25);
  Say("semop(%d, %zu: %u %d %x, %u %d %x, %u %d %x)", id == -1, n, ops[0].sem_num, ops[0].sem_op, ops[0].sem_flg, ops[1].sem_num, ops[1].sem_op, ops[1].sem_flg, ops[2].sem_num, ops[2].sem_op, ops[2].sem_flg);
  if (OneIn(4)) {
    const timespec limit = {OneIn(5) ? -1 : 0, OneIn(5) ? 1000000000 : 0};
    printf(" timed %ld.%ld", limit.tv_sec, limit.tv_nsec);
    // Not to wait is not asked for: the time is over at once.
    for (sembuf& op : ops) op.sem_flg &= static_cast<int16_t>(~IPC_NOWAIT);
    return Result(syscall(SYS_semtimedop, id, ops, n, &limit));
  }
  Result(syscall(SYS_semop, id, bad ? reinterpret_cast<sembuf*>(16) : ops, n));
}
// What a process that ends has undone.
void Undo() {
  const int id = Any(sets), add = Pick(1, 2, 5, 1000);
  const pid_t pid = fork();
  if (pid == 0) {
    sembuf op = {0, static_cast<int16_t>(add), SEM_UNDO | IPC_NOWAIT};
    const long r = semop(id, &op, 1);
    _exit(r == 0 ? semctl(id, 0, GETVAL) & 0x7f : 200);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  Say("undo %d: %x", add, status);
  Result(semctl(id, 0, GETVAL));
}
void ControlSet() {
  const int id = Any(sets), number = OneIn(8) ? Pick(-1, 4, 40000) : static_cast<int>(Below(3));
  const int command = Pick(GETVAL, GETVAL, SETVAL, SETVAL, GETALL, GETALL, SETALL, GETPID, GETNCNT, GETZCNT, IPC_STAT, IPC_STAT, IPC_SET, IPC_RMID, 77, -1);
  semid_ds ds = {};
  uint16_t all[32000];
  for (int i = 0; i < 4; i++) all[i] = static_cast<uint16_t>(OneIn(12) ? 40000 : Below(10));
  for (size_t i = 4; i < std::size(all); i++) all[i] = 1;
  const int value = OneIn(6) ? Pick(-1, 32767, 32768) : static_cast<int>(Below(10));
  if (command == IPC_SET) ds.sem_perm.uid = Pick(0u, 1000u, 0xffffffffu), ds.sem_perm.gid = Pick(0u, 1000u), ds.sem_perm.mode = Pick(0600, 0666, 07777, 0);
  const uintptr_t argument = command == SETVAL ? static_cast<uintptr_t>(value) : OneIn(15) ? 16 : command == IPC_STAT || command == IPC_SET ? reinterpret_cast<uintptr_t>(&ds) : reinterpret_cast<uintptr_t>(all);
  Say("semctl(%d, %d, %d, %d)", id == -1, number, command, value);
  const long r = syscall(SYS_semctl, id, number, command, argument);
  if (r == 0 && command == GETALL && argument != 16) printf(" %u %u %u", all[0], all[1], all[2]);
  if (r == 0 && command == IPC_STAT) {
    TellPerm(ds.sem_perm);
    printf(" %lu semaphores %d %d", ds.sem_nsems, ds.sem_otime != 0, ds.sem_ctime != 0);
  }
  if (r > 0 && command == GETPID) return (void)printf(" = %s\n", Who(static_cast<pid_t>(r)));
  Result(r);
}
void MakeSegment() {
  const int flags = Flags() | (OneIn(8) ? SHM_NORESERVE : 0);
  const size_t size = Pick(size_t{1}, size_t{4096}, size_t{5000}, size_t{12288}, size_t{0}, ~size_t{0});
  Say("shmget(%zu, %#o)", size, flags);
  const int id = shmget(IPC_PRIVATE, size, flags);
  Outcome(id);
  Keep(2, segments, id);
}
void Attach() {
  const int id = Any(segments);
  int flags = 0;
  for (const int bit : {SHM_RND, SHM_REMAP, SHM_RDONLY, SHM_EXEC})
    if (OneIn(3)) flags |= bit;
  if (OneIn(20)) flags |= 1;
  char* at = places + 4096 * Below(14) + (OneIn(4) ? 100 : 0);
  if (OneIn(10)) at = Pick(static_cast<char*>(nullptr), reinterpret_cast<char*>(~uintptr_t{4095}));
  // Without REMAP a place in the middle of what is ours is taken; one that was unmapped is free.
  Say("shmat(%d, %#lx, %#x)", id == -1, at >= places && at < places + kPlaces ? at - places : at == nullptr ? -1 : -2, flags);
  const auto r = reinterpret_cast<intptr_t>(shmat(id, at, flags));
  if (r != -1 && at >= places && at < places + kPlaces) printf(" at %ld", r - reinterpret_cast<intptr_t>(places));
  Outcome(r == -1 ? -1 : 0);
  if (r != -1 && (at < places || at >= places + kPlaces)) shmdt(reinterpret_cast<void*>(r));
}
void Detach() {
  char* at = OneIn(10) ? Pick(static_cast<char*>(nullptr), reinterpret_cast<char*>(16), places + 1) : places + 4096 * Below(16);
  Say("shmdt(%#lx)", at >= places && at < places + kPlaces ? at - places : -1);
  Result(shmdt(at));
}
void Unmap() {
  const size_t at = 4096 * Below(14), length = 4096 * (1 + Below(2));
  Say("munmap(%zu, %zu)", at, length);
  Result(munmap(places + at, length));
}
void ControlSegment() {
  const int id = Any(segments), command = Pick(IPC_STAT, IPC_STAT, IPC_STAT, IPC_SET, IPC_RMID, IPC_RMID, SHM_LOCK, SHM_UNLOCK, 77, -1);
  shmid_ds ds = {};
  if (command == IPC_SET) ds.shm_perm.uid = Pick(0u, 1000u, 0xffffffffu), ds.shm_perm.gid = Pick(0u, 1000u), ds.shm_perm.mode = Pick(0600, 0666, 07777, 0);
  const bool bad = (command == IPC_STAT || command == IPC_SET) && OneIn(15);
  Say("shmctl(%d, %d%s)", id == -1, command, bad ? " bad" : "");
  const long r = syscall(SYS_shmctl, id, command, bad ? reinterpret_cast<shmid_ds*>(16) : &ds);
  if (r == 0 && command == IPC_STAT) {
    TellPerm(ds.shm_perm);
    printf(" %zu bytes %lu times %s %d%d", ds.shm_segsz, ds.shm_nattch, Who(ds.shm_cpid), ds.shm_atime != 0, ds.shm_ctime != 0);
  }
  Result(r);
}
// What the shells' ipcs reads, of our objects: the lines by identifier.
void ReadFiles() {
  const uint32_t kind = Below(3);
  const char* const names[] = {"msg", "sem", "shm"};
  const int id = kind == 0 ? queues[Below(kObjects)] : kind == 1 ? sets[Below(kObjects)] : segments[Below(kObjects)];
  char path[40], line[400];
  snprintf(path, sizeof(path), "/proc/sysvipc/%s", names[kind]);
  FILE* f = fopen(path, "re");
  Say("%s", path);
  while (f != nullptr && fgets(line, sizeof(line), f) != nullptr) {
    unsigned long v[14] = {};
    long key = 0;
    int number = -1;
    unsigned mode = 0;
    const int n = sscanf(line, "%ld %d %o %lu %lu %lu %lu %lu %lu %lu %lu", &key, &number, &mode, &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]);
    if (n < 4 || number != id) continue;
    printf(" %zu bytes mode %o %lu", strlen(line), mode, v[0]);
    if (kind == 0) printf(" %lu %d %d %lu %lu %lu %lu", v[1], v[2] != 0, v[3] != 0, v[4], v[5], v[6], v[7]);
    if (kind == 1) printf(" %lu %lu %lu %lu", v[1], v[2], v[3], v[4]);
    if (kind == 2) printf(" %d %lu %lu %lu %lu %lu", v[1] != 0, v[3], v[4], v[5], v[6], v[7]);
  }
  if (f != nullptr) fclose(f);
  Result(0);
}

constexpr Step kSteps[] = {Change, Change, MakeQueue, SendMessage, SendMessage, SendMessage, ReceiveMessage, ReceiveMessage, ReceiveMessage, ReceiveMessage, ControlQueue, ControlQueue, MakeSet, Operate, Operate, Operate, Operate, Undo, ControlSet, ControlSet, ControlSet, MakeSegment, Attach, Attach, Attach, Detach, Detach, Unmap, ControlSegment, ControlSegment, ReadFiles};

int Main(int argc, char** argv) {
  places = static_cast<char*>(mmap(nullptr, kPlaces, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  munmap(places, kPlaces / 2);
  DropRightToLimits();
  const int r = RunSteps(argc, argv, kSteps);
  syscall(SYS_setresuid, -1, 0, -1);
  for (const int id : made[0]) msgctl(id, IPC_RMID, nullptr);
  for (const int id : made[1]) semctl(id, 0, IPC_RMID);
  for (const int id : made[2]) shmctl(id, IPC_RMID, nullptr);
  return r;
}

}  // namespace
}  // namespace ringwall::test

int main(int argc, char** argv) { return ringwall::test::Main(argc, argv); }
