// The files of /proc/PID that few programs read: what the scheduler, memory policy, page tables and
// security modules would say (fs/proc/base.c, array.c, task_mmu.c).
#include <dirent.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <span>

#include "fs/proc/internal.h"

namespace ringwall::proc {

namespace {

using Ull = unsigned long long;

}  // namespace

Result<int64_t> ParseDecimal(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ' || text.back() == '\0')) {
    text.remove_suffix(1);
  }
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return Errno(EINVAL);
  return value;
}

Result<int64_t> ParseInteger(std::string_view text, bool strip, int64_t low, int64_t high,
                             bool decimal) {
  constexpr std::string_view kSpace = " \t\n\v\f\r";
  text = text.substr(0, text.find('\0'));
  if (strip) {
    text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
    text = text.substr(0, text.find_last_not_of(kSpace) + 1);
  }
  if (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  const bool negative = !text.empty() && text.front() == '-' && low < 0;
  if (!text.empty() && (negative || text.front() == '+')) text.remove_prefix(1);
  int base = 10;
  if (decimal) {
    base = 10;
  } else if (text.size() > 2 && (text.starts_with("0x") || text.starts_with("0X"))) {
    base = 16;
    text.remove_prefix(2);
  } else if (text.size() > 1 && text.front() == '0') {
    base = 8;
  }
  if (text.empty() || text.front() == '-') return Errno(EINVAL);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (end != text.data() + text.size()) return Errno(EINVAL);
  if (error == std::errc::result_out_of_range) return Errno(ERANGE);
  if (error != std::errc()) return Errno(EINVAL);
  if (negative) value = -value;
  if (value < low || value > high) return Errno(ERANGE);
  return value;
}

// No thread has used AVX-512 as far as one can tell.
Result<std::string> ArchStatusText(const Subject&, Task&) {
  return std::string("AVX512_elapsed_ms:\t-1\n");
}

Result<std::string> AutogroupText(const Subject& s, Task&) {
  MutexLock lock(s.kernel.tasks().mu);
  if (!s.tg->pgrp) return std::string();
  const Session& session = *s.tg->pgrp->session;
  return Format("/autogroup-%d nice %d\n", session.sid, session.autogroup_nice.load());
}

// Remembered: the host has its own groups.
Result<void> WriteAutogroup(const Subject& s, Task&, std::string_view text) {
  const int64_t nice = TRY(ParseInteger(text, true, INT32_MIN, INT32_MAX));
  if (nice < -20 || nice > 19) return Errno(EINVAL);
  const Task* current = Task::Current();
  if (nice < 0 && (current == nullptr || !current->creds().Has(Capability::kSysNice))) {
    return Errno(EPERM);
  }
  MutexLock lock(s.kernel.tasks().mu);
  if (s.tg->pgrp) s.tg->pgrp->session->autogroup_nice.store(static_cast<int>(nice));
  return {};
}

// What it would reset, the host counts.
Result<void> WriteClearRefs(const Subject&, Task&, std::string_view text) {
  const int64_t kind = TRY(ParseInteger(text, true, INT32_MIN, INT32_MAX, true));
  if (kind < 1 || kind > 5) return Errno(EINVAL);
  return {};
}

Result<std::string> CoredumpFilterText(const Subject& s, Task& t) {
  if (!t.mm_ref()) return std::string();
  return Format("%08x\n", s.tg->coredump_filter.load());
}

Result<void> WriteCoredumpFilter(const Subject& s, Task& t, std::string_view text) {
  const int64_t value = TRY(ParseInteger(text, false, 0, UINT32_MAX));
  if (!t.mm_ref()) return Errno(ESRCH);
  s.tg->coredump_filter.store(static_cast<uint32_t>(value) & 0x1ff);
  return {};
}

// The old scale of oom_score_adj: -17 to 15.
Result<std::string> OomAdjText(const Subject& s, Task&) {
  const int adj = s.tg->oom_score_adj.load();
  return Format("%d\n", adj == 1000 ? 15 : adj * 17 / 1000);
}

Result<void> WriteOomAdj(const Subject& s, Task&, std::string_view text) {
  const int64_t value = TRY(ParseInteger(text, true, INT32_MIN, INT32_MAX));
  if ((value < -16 || value > 15) && value != -17) return Errno(EINVAL);
  const int adj = value == 15 ? 1000 : static_cast<int>(value * 1000 / 17);
  const Task* current = Task::Current();
  if (adj < s.tg->oom_score_adj.load() &&
      (current == nullptr || !current->creds().Has(Capability::kSysResource))) {
    return Errno(EACCES);
  }
  s.tg->oom_score_adj.store(adj);
  return {};
}

Result<std::string> IoText(const Subject& s, Task& t) {
  IoCounts sum;
  if (s.thread) {
    sum.Add(t.io);
  } else {
    MutexLock lock(s.kernel.tasks().mu);
    sum.Add(s.tg->exited_io);
    for (const Task* thread : s.tg->threads) sum.Add(thread->io);
  }
  return Format(
      "rchar: %llu\nwchar: %llu\nsyscr: %llu\nsyscw: %llu\nread_bytes: 0\nwrite_bytes: 0\n"
      "cancelled_write_bytes: 0\n",
      Ull{sum.rchar.load()}, Ull{sum.wchar.load()}, Ull{sum.syscr.load()}, Ull{sum.syscw.load()});
}

Result<std::string> NumaMapsText(const Subject&, Task& t) {
  std::string out;
  RefPtr<MemoryManager> mm = t.mm_ref();
  if (!mm) return out;
  Task* current = Task::Current();
  RefPtr<FsContext> context = current == nullptr ? nullptr : current->fs_ref();
  for (const Vma& vma : mm->List()) {
    AppendFormat(&out, "%08llx default", Ull{vma.range.start.value()});
    const bool file = vma.file && !vma.file->maps_as_anonymous();
    if (file && context) {
      out += " file=" + Escape(Vfs::FullName(vma.file->path(), context->root(),
                                             *current->mounts_ref()),
                               "=");
    } else if (vma.name != nullptr) {
      const std::string_view name = vma.name;
      if (name == "[heap]") out += " heap";
      if (name == "[stack]") out += " stack";
    }
    const uint64_t pages = mm->ResidentIn(vma.range) / kPageSize;
    if (pages != 0) {
      if (file) {
        AppendFormat(&out, " mapped=%llu N0=%llu", Ull{pages}, Ull{pages});
      } else {
        AppendFormat(&out, " anon=%llu dirty=%llu active=0 N0=%llu", Ull{pages}, Ull{pages},
                     Ull{pages});
      }
      out += " kernelpagesize_kB=4";
    }
    out += '\n';
  }
  return out;
}

Result<std::string> SchedText(const Subject& s, Task& t) {
  int threads = 0;
  {
    MutexLock lock(s.kernel.tasks().mu);
    threads = static_cast<int>(s.tg->threads.size());
  }
  const Rusage r = t.OwnRusage();
  const double ms = static_cast<double>(r.utime_ns + r.stime_ns) / 1e6;
  std::string out = Format("%s (%d, #threads: %d)\n", t.comm().c_str(), s.ShownTid(t), threads);
  out += "-------------------------------------------------------------------\n";
  AppendFormat(&out, "%-45s:%21.6f\n", "se.sum_exec_runtime", ms);
  AppendFormat(&out, "%-45s:%21llu\n", "nr_switches", Ull{r.voluntary + r.involuntary});
  AppendFormat(&out, "%-45s:%21llu\n", "nr_voluntary_switches", Ull{r.voluntary});
  AppendFormat(&out, "%-45s:%21llu\n", "nr_involuntary_switches", Ull{r.involuntary});
  const SchedPolicy p = t.sched.With([](const SchedPolicy& policy) { return policy; });
  const bool real_time = p.policy == SCHED_FIFO || p.policy == SCHED_RR;
  AppendFormat(&out, "%-45s:%21u\n", "policy", p.policy);
  AppendFormat(&out, "%-45s:%21d\n", "prio",
               real_time ? 99 - static_cast<int>(p.priority) : 120 + t.nice.load());
  return out;
}

// The Sentry's own stack is nobody's business.
Result<std::string> StackText(const Subject&, Task&) {
  const Task* current = Task::Current();
  if (current == nullptr || !current->creds().Has(Capability::kSysAdmin)) return Errno(EACCES);
  return std::string();
}

Result<std::string> SyscallText(const Subject&, Task& t) {
  if (&t != Task::Current()) {
    // By what it left when it went to sleep.
    if (t.state() != 'S' && t.state() != 'D') return std::string("running\n");
    const SleepingCall& c = t.sleeping_call;
    const Ull sp = c.sp.load(std::memory_order_relaxed), pc = c.pc.load(std::memory_order_relaxed);
    if (!t.in_syscall()) return Format("-1 0x%llx 0x%llx\n", sp, pc);
    std::string out = Format("%lld", static_cast<long long>(t.syscall_nr()));
    for (const auto& arg : c.args) AppendFormat(&out, " 0x%llx", Ull{arg.load(std::memory_order_relaxed)});
    AppendFormat(&out, " 0x%llx 0x%llx\n", sp, pc);
    return out;
  }
  const abi::Registers& r = t.regs();
  return Format("%lld 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx\n",
                static_cast<long long>(t.syscall_nr()), Ull{r.rdi}, Ull{r.rsi}, Ull{r.rdx},
                Ull{r.r10}, Ull{r.r8}, Ull{r.r9}, Ull{r.rsp}, Ull{r.rip});
}

Result<std::string> TimersText(const Subject&, Task&) { return std::string(); }

Result<void> MaySetTimerSlack(const Subject& s, Task& t) {
  const Task* current = Task::Current();
  if (current != nullptr && (&current->tg() == s.tg.get() ||
                             current->creds().HasIn(t.creds_ref()->user_ns(), Capability::kSysNice))) {
    return {};
  }
  return Errno(EPERM);
}
Result<void> WriteTimerSlack(const Subject& s, Task& t, std::string_view text) {
  const int64_t value = TRY(ParseInteger(text, false, 0, INT64_MAX, true));
  TRY(MaySetTimerSlack(s, t));
  t.timer_slack_ns = value == 0 ? 50000 : static_cast<uint64_t>(value);
  return {};
}

// The children that this very thread has made, and that are still its process's.
Result<std::string> ChildrenText(const Subject& s, Task& t) {
  std::string out;
  MutexLock lock(s.kernel.tasks().mu);
  for (const Ref<ThreadGroup>& child : s.tg->children) {
    if (child->parent_tid != t.tid()) continue;
    if (const int pid = child->pid->In(*s.ns)) AppendFormat(&out, "%d ", pid);
  }
  return out;
}

namespace {

// pagemap: a word for each page of the address space. The frames' numbers are the host's secret.
class PagemapFile final : public File {
 public:
  PagemapFile(const Path& path, uint32_t flags, Ref<MemoryManager> mm)
      : File(path, flags), mm_(std::move(mm)) {}
  bool seekable() const override { return true; }
  Result<int64_t> Seek(int64_t offset, int whence) override NO_THREAD_SAFETY_ANALYSIS {
    if (whence == SEEK_SET) return offset;
    if (whence == SEEK_CUR) return this->offset() + offset;
    return Errno(EINVAL);
  }
  Result<size_t> Read(IoDst& dst, uint64_t pos, int) override {
    constexpr uint64_t kUserPages = uint64_t{1} << 35;
    if (pos % kWord != 0 || dst.remaining() % kWord != 0) return Errno(EINVAL);
    if (mm_->users.load() == 0) return size_t{0};
    std::array<uint64_t, 512> words;
    GuestAddr hole_end(0);
    size_t done = 0;
    for (uint64_t page = pos / kWord; dst.remaining() >= kWord && page < kUserPages;) {
      const uint64_t n =
          std::min({dst.remaining() / kWord, uint64_t{words.size()}, kUserPages - page});
      const std::span<uint64_t> part = std::span(words).first(n);
      Describe(page, part, &hole_end);
      const size_t put = TRY(dst.Put(std::as_bytes(part)));
      done += put;
      if (put < part.size_bytes()) break;
      page += n;
    }
    return done;
  }

 private:
  static constexpr uint64_t kWord = 8;

  // The words of the pages from `page` on. What is alike is told at once: a program that reads the
  // whole file meets terabytes of nothing. *hole_end: what is unmapped up to there, once looked up.
  void Describe(uint64_t page, std::span<uint64_t> words, GuestAddr* hole_end) const {
    constexpr uint64_t kPresent = uint64_t{1} << 63, kFile = uint64_t{1} << 61,
                       kSoftDirty = uint64_t{1} << 55;
    const GuestAddr end((page + words.size()) * kPageSize);
    for (GuestAddr at(page * kPageSize); at < end;) {
      const auto fill = [&](GuestAddr to, uint64_t word) {
        const std::span<uint64_t> rest = words.subspan(at.value() / kPageSize - page);
        std::fill_n(rest.begin(), (to - at) / kPageSize, word);
        at = to;
      };
      if (at < *hole_end) {
        fill(std::min(end, *hole_end), 0);
        continue;
      }
      const std::optional<Vma> vma = mm_->Find(at);
      if (!vma) {
        *hole_end = words.size() == 1 ? end : NextMapping(at);
        continue;
      }
      const uint64_t word = kPresent | kSoftDirty | (vma->file || vma->shared ? kFile : 0);
      const GuestAddr to = std::min(end, vma->range.end);
      const uint64_t resident = mm_->ResidentIn({at, to});
      if (resident == 0 || resident == to - at) {
        fill(to, resident == 0 ? 0 : word);
        continue;
      }
      while (at < to) {
        const GuestAddr next = at + kPageSize;
        fill(next, mm_->ResidentIn({at, next}) != 0 ? word : 0);
      }
    }
  }

  // The start of the first mapping behind `at`, which is in none.
  GuestAddr NextMapping(GuestAddr at) const {
    GuestAddr next(~uint64_t{0} & ~(kPageSize - 1));
    for (const Vma& vma : mm_->List()) {
      if (vma.range.start > at) next = std::min(next, vma.range.start);
    }
    return next;
  }

  const Ref<MemoryManager> mm_;
};

class PagemapInode final : public SyntheticInode {
 public:
  PagemapInode(FileSystem& fs, Subject s, uint64_t ino)
      : SyntheticInode(fs, S_IFREG | 0400, ino), s_(std::move(s)) {}
  Owner owner() override { return OwnerOf(s_); }
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials&) override {
    Ref<Task> task = TRY(s_.Get());
    TRY(MayLook(*task));
    RefPtr<MemoryManager> mm = task->mm_ref();
    if (!mm) return Errno(ESRCH);
    return Ref<File>(MakeRef<PagemapFile>(path, flags, Ref<MemoryManager>(std::move(mm))));
  }

 private:
  const Subject s_;
};

// map_files/: a link for each mapping of a file.
class MapFilesDirectory final : public SyntheticDirectory {
 public:
  MapFilesDirectory(FileSystem& fs, Subject s, uint64_t ino)
      : SyntheticDirectory(fs, S_IFDIR | 0500, ino), s_(std::move(s)) {}
  Caching caching() const override { return Caching::kRevalidate; }
  Owner owner() override { return OwnerOf(s_); }
  Result<void> CheckOpen() override {
    Ref<Task> task = TRY(s_.Get());
    return MayLook(*task);
  }

  Result<Ref<Inode>> Lookup(std::string_view name) override {
    uint64_t start = 0, end = 0;
    // One spelling for each: dname_to_vma_addr takes no leading zeros.
    const size_t second = name.find('-') + 1;
    if (name.starts_with('0') || (second < name.size() && name[second] == '0')) return Errno(ENOENT);
    const char* const last = name.data() + name.size();
    const auto [dash, error] = std::from_chars(name.data(), last, start, 16);
    if (error != std::errc() || dash == last || *dash != '-') return Errno(ENOENT);
    const auto [stop, error2] = std::from_chars(dash + 1, last, end, 16);
    if (error2 != std::errc() || stop != last || end <= start) return Errno(ENOENT);
    const auto find = [s = s_, start, end]() -> Result<Path> {
      Ref<Task> task = TRY(s.Get());
      TRY(MayLook(*task));
      RefPtr<MemoryManager> mm = task->mm_ref();
      if (!mm) return Errno(ENOENT);
      const std::optional<Vma> vma = mm->Find(GuestAddr(start));
      if (!vma || vma->range.start.value() != start || vma->range.end.value() != end ||
          !vma->file || vma->file->maps_as_anonymous()) {
        return Errno(ENOENT);
      }
      return Path(vma->file->path());
    };
    TRY(find());
    LinkInode::Ops ops;
    ops.follow = [find]() -> Result<Path> {
      const Task* current = Task::Current();
      if (current == nullptr || !current->creds().Has(Capability::kCheckpointRestore)) {
        return Errno(EPERM);
      }
      return find();
    };
    ops.read = [find]() -> Result<std::string> {
      const Path path = TRY(find());
      Task* current = Task::Current();
      RefPtr<FsContext> context = current == nullptr ? nullptr : current->fs_ref();
      if (!context) return Errno(ESRCH);
      return Vfs::FullName(path, context->root(), *current->mounts_ref());
    };
    ops.owner = [s = s_] { return OwnerOf(s); };
    return Ref<Inode>(MakeRef<LinkInode>(fs(), InoOf(ino(), name), 0600u, std::move(ops)));
  }

  Result<std::vector<DirEntry>> Entries() override {
    Ref<Task> task = TRY(s_.Get());
    std::vector<DirEntry> all;
    RefPtr<MemoryManager> mm = task->mm_ref();
    if (!mm) return all;
    for (const Vma& vma : mm->List()) {
      if (!vma.file || vma.file->maps_as_anonymous()) continue;
      std::string name =
          Format("%llx-%llx", Ull{vma.range.start.value()}, Ull{vma.range.end.value()});
      const uint64_t child = InoOf(ino(), name);
      all.push_back({std::move(name), child, DT_LNK});
    }
    return all;
  }

 private:
  const Subject s_;
};

}  // namespace

Ref<SyntheticInode> NewPagemapFile(FileSystem& fs, Subject subject, uint64_t ino) {
  return MakeRef<PagemapInode>(fs, std::move(subject), ino);
}

Ref<SyntheticInode> NewMapFilesDirectory(FileSystem& fs, Subject subject, uint64_t ino) {
  return MakeRef<MapFilesDirectory>(fs, std::move(subject), ino);
}

// attr/: no security module is there to answer.
Ref<SyntheticInode> NewAttrDirectory(FileSystem& fs, Subject subject, uint64_t ino) {
  Ref<StaticDirectory> dir = MakeRef<StaticDirectory>(fs, ino);
  TextStyle style = kTaskStyle;
  style.seeks = TextStyle::Seeks::kSmall;
  dir->set_style(style);
  const auto none = []() -> Result<std::string> { return Errno(EINVAL); };
  // Nobody may write another's.
  const auto refuse = [s = subject](std::string_view) -> Result<void> {
    const Task* current = Task::Current();
    return Errno(current != nullptr && &current->tg() == s.tg.get() ? EINVAL : EPERM);
  };
  dir->set_owner([s = subject] { return OwnerOfDirectory(s); });
  for (const char* name : {"current", "exec", "fscreate", "keycreate", "sockcreate"}) {
    dir->AddFile(name, none, 0666, refuse);
  }
  dir->AddFile("prev", none, 0444);
  return dir;
}

}  // namespace ringwall::proc
