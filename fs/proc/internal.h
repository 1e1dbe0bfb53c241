// The parts of procfs. Internal to fs/proc.
//
// No generator here holds the TaskSet's lock while it asks a memory map or a mount namespace: those
// locks come first. It takes a reference to the task and goes on without.
#ifndef RINGWALL_FS_PROC_INTERNAL_H_
#define RINGWALL_FS_PROC_INTERNAL_H_

#include <atomic>
#include <string>
#include <vector>

#include "fs/proc/nodes.h"
#include "fs/vfs/locks.h"
#include "sentry/kernel/task.h"

namespace ringwall::proc {

// A process, or one thread of it, that may end at any time.
struct Subject {
  Kernel& kernel;
  Ref<PidNamespace> ns;  // whose numbers this /proc shows
  Ref<ThreadGroup> tg;
  int tid;      // in the first namespace
  bool thread;  // below task/: this thread and not the process

  // ESRCH once it is gone. A zombie is still there.
  Result<Ref<Task>> Get() const;
  // As this /proc shows them.
  int ShownTgid() const { return tg->pid->In(*ns); }
  int ShownTid(const Task& t) const { return thread ? t.pid().In(*ns) : ShownTgid(); }
};

// How the reader's user namespace calls an id.
Uid ShownUid(Uid uid);
Gid ShownGid(Gid gid);

// Whether the current task may look at `target` (PTRACE_MODE_READ_FSCREDS, _ATTACH). EACCES.
Result<void> MayLook(Task& target);
// Who owns the files of a task: root when it must not be looked at (not dumpable).
Owner OwnerOf(const Subject& subject);
// Of the directories that everybody may list: the task's, whatever it is.
Owner OwnerOfDirectory(const Subject& subject);

Ref<SyntheticInode> NewTaskDirectory(FileSystem& fs, Subject subject);
// The process of such a directory, if it is one and not a thread's.
RefPtr<ThreadGroup> ProcessOfDirectory(Inode& inode);
Ref<SyntheticInode> NewFdDirectory(FileSystem& fs, Subject subject, uint64_t ino);
Ref<SyntheticInode> NewFdinfoDirectory(FileSystem& fs, Subject subject, uint64_t ino);
Ref<SyntheticInode> NewMemFile(FileSystem& fs, Subject subject, uint64_t ino);

// Texts of /proc/PID.
Result<std::string> StatText(const Subject& s, Task& t);
Result<std::string> StatusText(const Subject& s, Task& t);
Result<std::string> StatmText(const Subject& s, Task& t);
Result<std::string> LimitsText(const Subject& s, Task& t);
Result<std::string> CmdlineText(const Subject& s, Task& t);
Result<std::string> EnvironText(const Subject& s, Task& t);
Result<std::string> AuxvText(const Subject& s, Task& t);
Result<std::string> MapsText(const Subject& s, Task& t);
// PROCMAP_QUERY of maps: one mapping without the text.
Result<int64_t> MapsIoctl(const Subject& s, Task& t, uint32_t cmd, uint64_t arg);
Result<std::string> SmapsText(const Subject& s, Task& t);
Result<std::string> SmapsRollupText(const Subject& s, Task& t);
Result<std::string> MountsText(const Subject& s, Task& t);
Result<std::string> MountinfoText(const Subject& s, Task& t);
Result<std::string> MountstatsText(const Subject& s, Task& t);

Result<std::string> ArchStatusText(const Subject& s, Task& t);
Result<std::string> AutogroupText(const Subject& s, Task& t);
Result<std::string> CoredumpFilterText(const Subject& s, Task& t);
Result<std::string> OomAdjText(const Subject& s, Task& t);
Result<std::string> IoText(const Subject& s, Task& t);
Result<std::string> NumaMapsText(const Subject& s, Task& t);
Result<std::string> SchedText(const Subject& s, Task& t);
Result<std::string> StackText(const Subject& s, Task& t);
Result<std::string> SyscallText(const Subject& s, Task& t);
Result<std::string> TimersText(const Subject& s, Task& t);
Result<std::string> ChildrenText(const Subject& s, Task& t);
Result<void> WriteAutogroup(const Subject& s, Task& t, std::string_view text);
Result<void> WriteClearRefs(const Subject& s, Task& t, std::string_view text);
Result<void> WriteCoredumpFilter(const Subject& s, Task& t, std::string_view text);
Result<void> WriteOomAdj(const Subject& s, Task& t, std::string_view text);
// EPERM: another's, without CAP_SYS_NICE.
Result<void> MaySetTimerSlack(const Subject& s, Task& t);
Result<void> WriteTimerSlack(const Subject& s, Task& t, std::string_view text);
Ref<SyntheticInode> NewPagemapFile(FileSystem& fs, Subject subject, uint64_t ino);
Ref<SyntheticInode> NewMapFilesDirectory(FileSystem& fs, Subject subject, uint64_t ino);
Ref<SyntheticInode> NewAttrDirectory(FileSystem& fs, Subject subject, uint64_t ino);
// A decimal number with white space around it. EINVAL.
Result<int64_t> ParseDecimal(std::string_view text);
// kstrtoint() and its kin: one number in C's notation (or decimal only), a newline after it at most. strip: white space around it is
// dropped. EINVAL; ERANGE: outside of [low, high], which is the type's range.
Result<int64_t> ParseInteger(std::string_view text, bool strip, int64_t low, int64_t high, bool decimal = false);

// A line of /proc/locks.
std::string LockLine(int number, const FileLocks::Listed& lock, uint64_t dev, uint64_t ino);

// Of the system.
void AddSystemFiles(StaticDirectory& root, Kernel& kernel);
void AddConfig(StaticDirectory& root);
// Interrupts, zones of memory, drivers of terminals: what a machine without any has.
struct PageCounts {
  uint64_t total, free, anon, file;
};
void AddHardware(StaticDirectory& root, const cpu_set_t& cpus, std::function<PageCounts()> pages);
// System V IPC: sysvipc/ and the limits in sys/kernel, each of the reader's namespace.
void AddIpcFiles(StaticDirectory& root);
void AddIpcSysctls(StaticDirectory& kernel);
void AddMqueueSysctls(StaticDirectory& fs);
void AddSysctls(StaticDirectory& sys, Kernel& kernel);
// A number of the whole sandbox that the root of the first user namespace may write. EINVAL outside of
// its range.
void AddNumber(StaticDirectory& dir, const char* name, std::atomic<int>* value, int low, int high,
               uint32_t permissions = 0644);
void AddSysctlValues(StaticDirectory& kernel, StaticDirectory& vm, StaticDirectory& fs);
std::string CpuinfoText(const cpu_set_t& cpus, uint64_t tsc_khz);

// CPU time of a whole process so far. With the TaskSet's lock held.
Rusage ProcessRusageLocked(const ThreadGroup& tg);
// "name" with what would break a line of a table as octal escapes: space, tab, newline, backslash
// and the characters of `more`.
std::string Escape(std::string_view name, std::string_view more);

inline constexpr int kTicksPerSecond = 100;
inline uint64_t ToTicks(uint64_t ns) { return ns / (1'000'000'000 / kTicksPerSecond); }

}  // namespace ringwall::proc

#endif  // RINGWALL_FS_PROC_INTERNAL_H_
