// The figures of one task or process: stat, status, statm, limits, and what its memory says of how
// it was started (fs/proc/array.c, fs/proc/base.c).
#include "fs/proc/cpu_list.h"
#include "fs/proc/internal.h"
#include "sentry/kernel/core_dump.h"

namespace ringwall::proc {

namespace {

using Ull = unsigned long long;

constexpr size_t kMaxStartText = 4 << 20;  // of arguments or environment shown

// What is under the TaskSet's lock, taken out at once.
struct Links {
  int ppid = 0, pgid = 0, sid = 0, tpgid = -1;
  uint32_t tty_nr = 0;
  RefPtr<const Pid> pgrp, session;
  int threads = 0;
  int exit_status = 0;
  bool zombie = false, did_exec = false;
  Rusage usage, children;
};

// The usage, which asks the host about each thread, only where it is shown.
Links LinksOf(const Subject& s, Task& t, bool with_usage) {
  Links l;
  TaskSet& set = s.kernel.tasks();
  MutexLock lock(set.mu);
  const ThreadGroup& tg = *s.tg;
  l.ppid = ParentPidLocked(tg, *s.ns);
  if (tg.pgrp) {
    l.pgrp = tg.pgrp->pid;
    l.session = tg.pgrp->session->pid;
    l.pgid = l.pgrp->In(*s.ns);
    l.sid = l.session->In(*s.ns);
    if (!HasTerminalLocked(tg)) l.tpgid = -1;
    else l.tty_nr = static_cast<uint32_t>(tg.pgrp->session->tty_rdev), l.tpgid = ForegroundGroupLocked(*tg.pgrp->session, *s.ns);
  }
  l.threads = static_cast<int>(tg.threads.size());
  l.zombie = tg.zombie;
  l.did_exec = tg.did_exec;
  l.exit_status = tg.exit_status;
  if (with_usage) l.usage = s.thread ? t.OwnRusage() : ProcessRusageLocked(tg);
  l.children = tg.waited_children;
  return l;
}

struct Handlers {
  abi::SigSet ignored = 0, caught = 0;
};

Handlers HandlersOf(const ThreadGroup& tg) {
  Handlers h;
  for (int signo = 1; signo <= abi::kSigMax; signo++) {
    const uint64_t handler = tg.actions().Get(signo).handler;
    if (handler == 1) h.ignored |= abi::SigBit(signo);
    if (handler > 1) h.caught |= abi::SigBit(signo);
  }
  return h;
}

const char* StateName(char state) {
  switch (state) {
    case 'S':
      return "S (sleeping)";
    case 'D':
      return "D (disk sleep)";
    case 'T':
      return "T (stopped)";
    case 't':
      return "t (tracing stop)";
    case 'Z':
      return "Z (zombie)";
    default:
      return "R (running)";
  }
}

// A command's name as status escapes it: newline and backslash.
std::string EscapeComm(const std::string& comm) {
  std::string out;
  for (const char c : comm) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\\') {
      out += "\\\\";
    } else {
      out += c;
    }
  }
  return out;
}

Result<std::string> ReadRange(MemoryManager& mm, GuestAddr start, GuestAddr end, size_t limit) {
  if (end <= start) return std::string();
  std::string text(std::min<uint64_t>(end - start, limit), '\0');
  Result<size_t> n =
      mm.CopyInPartial(start, std::as_writable_bytes(std::span(text.data(), text.size())));
  text.resize(n.ok() ? *n : 0);
  return text;
}

}  // namespace

Rusage ProcessRusageLocked(const ThreadGroup& tg) {
  Rusage sum = tg.exited_threads;
  for (const Task* t : tg.threads) {
    if (t->state() != 'Z') sum.Add(t->OwnRusage());
  }
  return sum;
}

Result<std::string> StatText(const Subject& s, Task& t) {
  const Links l = LinksOf(s, t, true);
  const Handlers h = HandlersOf(*s.tg);
  const Task::SignalSets sets = t.signal_sets();
  MemoryManager::Layout layout;
  MemoryManager::Usage memory;
  RefPtr<MemoryManager> mm = t.mm_ref();
  const bool permitted = MayLook(t).ok();
  if (mm) {
    memory = mm->usage();
    if (permitted) {
      layout = mm->layout();
    } else {
      layout.start_code = layout.end_code = GuestAddr(1);
    }
  }
  const uint64_t start =
      s.thread ? t.start_time_ns : s.tg->start_time_ns.load();
  const uint64_t origin = s.kernel.start_boottime_ns();
  const int nice = t.nice.load();
  constexpr uint32_t kRandomized = 0x00400000, kForkedNoExec = 0x40;  // PF_*
  const uint64_t rss_limit = s.tg->limit(RLIMIT_RSS);
  std::string out = Format("%d (%s) %c %d %d %d %u %d %u", s.ShownTid(t),
                           EscapeComm(t.comm()).c_str(), t.state(), l.ppid, l.pgid, l.sid, l.tty_nr, l.tpgid,
                           kRandomized | (l.did_exec ? 0 : kForkedNoExec));
  AppendFormat(&out, " %llu %llu %llu %llu", Ull{l.usage.minor_faults},
               Ull{l.children.minor_faults}, Ull{l.usage.major_faults},
               Ull{l.children.major_faults});
  AppendFormat(&out, " %llu %llu %llu %llu", Ull{ToTicks(l.usage.utime_ns)},
               Ull{ToTicks(l.usage.stime_ns)}, Ull{ToTicks(l.children.utime_ns)},
               Ull{ToTicks(l.children.stime_ns)});
  const SchedPolicy policy = t.sched.With([](const SchedPolicy& p) { return p; });
  const bool real_time = policy.policy == SCHED_FIFO || policy.policy == SCHED_RR;
  const int priority = real_time ? -1 - static_cast<int>(policy.priority) : 20 + nice;
  AppendFormat(&out, " %d %d %d 0 %llu %llu %llu %llu", priority, nice, l.threads,
               Ull{ToTicks(start > origin ? start - origin : 0)}, Ull{memory.size},
               Ull{memory.rss / kPageSize}, Ull{rss_limit});
  // The stack and instruction pointers of a running task are 0 on Linux too.
  AppendFormat(&out, " %llu %llu %llu 0 0", Ull{layout.start_code.value()},
               Ull{layout.end_code.value()}, Ull{layout.start_stack.value()});
  // Only standard signals fit here.
  constexpr uint64_t kLow = 0x7fffffff;
  AppendFormat(&out, " %llu %llu %llu %llu", Ull{sets.own & kLow}, Ull{sets.blocked & kLow},
               Ull{h.ignored & kLow}, Ull{h.caught & kLow});
  AppendFormat(&out, " 0 0 0 %d 0 %u %u 0 0 0", s.thread ? -1 : s.tg->exit_signal, policy.priority,
               policy.policy);
  AppendFormat(&out, " %llu %llu %llu %llu %llu %llu %llu %d\n", Ull{layout.start_data.value()},
               Ull{layout.end_data.value()}, Ull{layout.start_brk.value()},
               Ull{layout.arg_start.value()}, Ull{layout.arg_end.value()},
               Ull{layout.env_start.value()}, Ull{layout.env_end.value()},
               permitted ? l.exit_status : 0);
  return out;
}

Result<std::string> StatmText(const Subject&, Task& t) {
  RefPtr<MemoryManager> mm = t.mm_ref();
  if (!mm) return std::string("0 0 0 0 0 0 0\n");
  const MemoryManager::Usage u = mm->usage();
  return Format("%llu %llu %llu %llu 0 %llu 0\n", Ull{u.size / kPageSize}, Ull{u.rss / kPageSize},
                Ull{(u.rss_file + u.rss_shmem) / kPageSize}, Ull{u.exe / kPageSize},
                Ull{(u.data + u.stack) / kPageSize});
}

int TracerOf(const Subject& s, Task& t) {
  MutexLock lock(t.kernel().tasks().mu);
  return t.trace.tracer != nullptr ? t.trace.tracer->tg().pid->In(*s.ns) : 0;
}

Result<std::string> StatusText(const Subject& s, Task& t) {
  const Links l = LinksOf(s, t, false);
  const Handlers h = HandlersOf(*s.tg);
  const Task::SignalSets sets = t.signal_sets();
  Ref<const Credentials> c = t.creds_ref();
  const int tgid = s.ShownTgid();
  const int tid = s.ShownTid(t);
  std::string out = Format("Name:\t%s\n", EscapeComm(t.comm()).c_str());
  if (RefPtr<FsContext> fs = t.fs_ref()) AppendFormat(&out, "Umask:\t%#04o\n", fs->umask());
  AppendFormat(&out, "State:\t%s\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t%d\n",
               StateName(t.state()), tgid, tid, l.ppid, TracerOf(s, t));
  AppendFormat(&out, "Uid:\t%u\t%u\t%u\t%u\n", ShownUid(c->ruid), ShownUid(c->euid),
               ShownUid(c->suid), ShownUid(c->fsuid));
  AppendFormat(&out, "Gid:\t%u\t%u\t%u\t%u\n", ShownGid(c->rgid), ShownGid(c->egid),
               ShownGid(c->sgid), ShownGid(c->fsgid));
  RefPtr<FdTable> fds = t.fds_ref();
  AppendFormat(&out, "FDSize:\t%d\nGroups:\t", fds ? fds->size_hint() : 0);
  for (const Gid g : c->groups) AppendFormat(&out, "%u ", ShownGid(g));
  if (c->groups.empty()) out += ' ';
  const auto levels = [&](const char* name, const Pid* pid) {
    out += name;
    if (pid != nullptr) {
      for (const int number : pid->From(*s.ns)) AppendFormat(&out, "\t%d", number);
    }
  };
  levels("\nNStgid:", s.tg->pid.get());
  levels("\nNSpid:", s.thread ? &t.pid() : s.tg->pid.get());
  levels("\nNSpgid:", l.pgrp.get());
  levels("\nNSsid:", l.session.get());
  out += "\nKthread:\t0\n";
  if (RefPtr<MemoryManager> mm = t.mm_ref()) {
    const MemoryManager::Usage u = mm->usage();
    const auto kb = [&out](const char* name, uint64_t bytes) {
      AppendFormat(&out, "%s:\t%8llu kB\n", name, Ull{bytes / 1024});
    };
    kb("VmPeak", std::max(u.peak_size, u.size));
    kb("VmSize", u.size);
    kb("VmLck", u.locked);
    kb("VmPin", 0);
    kb("VmHWM", std::max(u.peak, u.rss));
    kb("VmRSS", u.rss);
    kb("RssAnon", u.rss_anon);
    kb("RssFile", u.rss_file);
    kb("RssShmem", u.rss_shmem);
    kb("VmData", u.data);
    kb("VmStk", u.stack);
    kb("VmExe", u.exe);
    kb("VmLib", u.lib);
    // One page table for each 2 MiB that is resident, at least: the host does not say.
    kb("VmPTE", (u.rss / (2 << 20) + 1) * kPageSize);
    kb("VmSwap", 0);
    kb("HugetlbPages", 0);
    {
      MutexLock lock(s.tg->siglock);
      AppendFormat(&out, "CoreDumping:\t%d\n", IsDumpingCore(*s.tg) ? 1 : 0);
    }
    out += "THP_enabled:\t1\nuntag_mask:\t0xffffffffffffffff\n";
  }
  AppendFormat(&out, "Threads:\t%d\nSigQ:\t%zu/%llu\n", l.threads, sets.queued,
               Ull{s.tg->limit(RLIMIT_SIGPENDING)});
  AppendFormat(&out, "SigPnd:\t%016llx\nShdPnd:\t%016llx\nSigBlk:\t%016llx\n", Ull{sets.own},
               Ull{sets.shared}, Ull{sets.blocked});
  AppendFormat(&out, "SigIgn:\t%016llx\nSigCgt:\t%016llx\n", Ull{h.ignored}, Ull{h.caught});
  AppendFormat(&out, "CapInh:\t%016llx\nCapPrm:\t%016llx\nCapEff:\t%016llx\n",
               Ull{c->cap_inheritable}, Ull{c->cap_permitted}, Ull{c->cap_effective});
  AppendFormat(&out, "CapBnd:\t%016llx\nCapAmb:\t%016llx\n", Ull{c->cap_bounding},
               Ull{c->cap_ambient});
  const RefPtr<const SeccompChain> filters = t.seccomp_chain();
  AppendFormat(&out, "NoNewPrivs:\t%d\nSeccomp:\t%d\nSeccomp_filters:\t%d\n", c->no_new_privs,
               t.seccomp.mode.load(), filters ? filters->depth : 0);
  out += "Speculation_Store_Bypass:\tvulnerable\nSpeculationIndirectBranch:\talways enabled\n";
  const cpu_set_t cpus = t.affinity();
  AppendFormat(&out, "Cpus_allowed:\t%s\nCpus_allowed_list:\t%s\n", CpuMask(cpus).c_str(),
               CpuList(cpus).c_str());
  const Rusage own = t.OwnRusage();
  AppendFormat(&out,
               "Mems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t%llu\n"
               "nonvoluntary_ctxt_switches:\t%llu\n",
               Ull{own.voluntary}, Ull{own.involuntary});
  return out;
}

Result<std::string> LimitsText(const Subject& s, Task&) {
  struct Row {
    const char* name;
    const char* unit;
    int resource;
  };
  static constexpr Row kRows[] = {
      {"Max cpu time", "seconds", RLIMIT_CPU},
      {"Max file size", "bytes", RLIMIT_FSIZE},
      {"Max data size", "bytes", RLIMIT_DATA},
      {"Max stack size", "bytes", RLIMIT_STACK},
      {"Max core file size", "bytes", RLIMIT_CORE},
      {"Max resident set", "bytes", RLIMIT_RSS},
      {"Max processes", "processes", RLIMIT_NPROC},
      {"Max open files", "files", RLIMIT_NOFILE},
      {"Max locked memory", "bytes", RLIMIT_MEMLOCK},
      {"Max address space", "bytes", RLIMIT_AS},
      {"Max file locks", "locks", RLIMIT_LOCKS},
      {"Max pending signals", "signals", RLIMIT_SIGPENDING},
      {"Max msgqueue size", "bytes", RLIMIT_MSGQUEUE},
      {"Max nice priority", nullptr, RLIMIT_NICE},
      {"Max realtime priority", nullptr, RLIMIT_RTPRIO},
      {"Max realtime timeout", "us", RLIMIT_RTTIME},
  };
  const Rlimits limits = s.tg->rlimits.With([](const Rlimits& r) { return r; });
  std::string out = Format("%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit",
                           "Units");
  const auto number = [](uint64_t value) {
    return value == ~uint64_t{0} ? std::string("unlimited") : Format("%llu", Ull{value});
  };
  for (const Row& row : kRows) {
    const Rlimits::Limit& limit = limits.limits[static_cast<size_t>(row.resource)];
    AppendFormat(&out, "%-25s %-20s %-20s ", row.name, number(limit.soft).c_str(),
                 number(limit.hard).c_str());
    if (row.unit != nullptr) AppendFormat(&out, "%-10s", row.unit);
    out += '\n';
  }
  return out;
}

Result<std::string> CmdlineText(const Subject&, Task& t) {
  RefPtr<MemoryManager> mm = t.mm_ref();
  if (!mm) return std::string();
  const MemoryManager::Layout l = mm->layout();
  std::string text = TRY(ReadRange(*mm, l.arg_start, l.arg_end, kMaxStartText));
  // A program that wrote over the NUL at the end has set a title, which may go on into the place of
  // the environment.
  if (!text.empty() && text.back() != '\0' && l.env_start == l.arg_end) {
    const std::string rest = TRY(ReadRange(*mm, l.env_start, l.env_end, kPageSize));
    text += rest;
    text.resize(std::min(text.size(), text.find('\0')));
  }
  return text;
}

Result<std::string> EnvironText(const Subject&, Task& t) {
  RefPtr<MemoryManager> mm = t.mm_ref();
  if (!mm) return std::string();
  const MemoryManager::Layout l = mm->layout();
  return ReadRange(*mm, l.env_start, l.env_end, kMaxStartText);
}

Result<std::string> AuxvText(const Subject&, Task& t) {
  RefPtr<MemoryManager> mm = t.mm_ref();
  if (!mm) return std::string();
  const std::vector<uint64_t> auxv = mm->auxv();
  return std::string(reinterpret_cast<const char*>(auxv.data()), auxv.size() * sizeof(uint64_t));
}

}  // namespace ringwall::proc
