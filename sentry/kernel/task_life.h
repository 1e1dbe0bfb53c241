// TaskLife: the parts of exit and wait that change the links of several processes (kernel/exit.c).
// TaskSet's lock held throughout.
#ifndef RINGWALL_SENTRY_KERNEL_TASK_LIFE_H_
#define RINGWALL_SENTRY_KERNEL_TASK_LIFE_H_

#include "sentry/kernel/task.h"

namespace ringwall {

struct CoreDump;

class TaskLife {
 public:
  // The last thread has ended: its children are handed on, its session loses its leader.
  static void GroupDied(ThreadGroup& tg);
  // Once no thread is left, not even for a tracer: the process becomes a zombie and its parent or
  // tracer is told, or it is gone at once.
  static void MaybeZombie(ThreadGroup& tg);
  // A process whose zombie was waited for.
  // `waited`: by a parent, whose children's times then grow by this one's.
  static void Reap(ThreadGroup& tg, bool waited = false);
  // A thread other than the leader that its tracer has waited for.
  static void ReapThread(Task& t);
  // Ends the tracing of `t`, which may be a zombie.
  static void DetachLocked(Task& t);
  // Its tracer, which is not its parent, has waited for a zombie: now the parent may.
  static void HandToParent(ThreadGroup& tg);
  static void ReapZombiesOf(ThreadGroup& tg);
  // Tells inits that wait for the last task of their namespaces that one with these numbers is gone.
  static void WakeEndingInit(const Pid& pid);
  // A host thread waits for the end of this process (Kernel::WaitForExit), or no more. Few ever do, so
  // none is woken by the end of the others.
  static void AwaitFromOutside(const ThreadGroup& tg, bool waits);
  // Tells the tracer that `t` has ended.
  static void TellTracerOfExit(Task& t);

  // --- Core dumps (core_dump.cc). The task's own thread, without locks.
  // Shows the registers of a task that ends to a thread of its process that dumps core, if one does, and
  // waits until that is done.
  static void JoinCoreDump(Task& t);
  // A signal is about to end t's process: writes its core file if there is to be one. WCOREFLAG if it did,
  // else 0. Blocks.
  static int DumpCore(Task& t, const abi::SigInfo& info);

 private:
  static bool StopForCoreDump(Task& t, CoreDump& dump);
  static bool TellParent(ThreadGroup& tg);  // true: nobody will wait
  static void Tell(Task& t, ThreadGroup& to, int signo, int status);
  static ThreadGroup* NewParent(ThreadGroup& tg);
  // The process groups that `tg` links to another group of their session, as a parent outside of its
  // child's group or as such a child: its end may make orphans of them.
  static std::vector<RefPtr<ProcessGroup>> GroupsHeldBy(const ThreadGroup& tg);
  // A stopped group without anyone to continue it gets SIGHUP and SIGCONT.
  static void HangUpIfOrphaned(ProcessGroup& pg);
  static void LeaveGroup(ThreadGroup& tg);
  static bool IsAwaitedFromOutside(const ThreadGroup& tg);
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_TASK_LIFE_H_
