#include "sentry/kernel/core_elf.h"

#include <elf.h>
#include <sys/mman.h>
#include <sys/procfs.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "platform/xsave_layout.h"
#include "platform/xstate.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/shared_anon.h"

namespace ringwall {

namespace {

constexpr uint32_t kNoteSigInfo = 0x53494749, kNoteFile = 0x46494c45, kNoteXState = 0x202,
                   kNoteXSaveLayout = 0x205;
constexpr size_t kFxsave = 512, kSwBytes = 464;
constexpr size_t kPieceSize = 64 << 10;
// The page of vsyscalls: every process has it, though it is none of its mappings.
constexpr uint64_t kVsyscall = 0xffffffffff600000;
// Beyond this much of one mapping only what the host has in memory is read: run-times reserve terabytes.
constexpr uint64_t kReadWhole = 256 << 20;

void Append(std::string* out, const void* data, size_t size) {
  out->append(static_cast<const char*>(data), size);
}

void AddNote(std::string* out, std::string_view owner, uint32_t type, const void* data, size_t size) {
  const Elf64_Nhdr header = {static_cast<uint32_t>(owner.size()) + 1, static_cast<uint32_t>(size), type};
  Append(out, &header, sizeof(header));
  out->append(owner);
  out->append(4 - owner.size() % 4, '\0');
  Append(out, data, size);
  out->append((4 - size % 4) % 4, '\0');
}

bool IsShared(const Vma& vma) { return vma.shared && vma.file; }

bool StartsAsElf(MemoryManager& mm, const Vma& vma) {
  std::array<std::byte, SELFMAG> magic;
  return mm.ForceRead(vma.range.start, magic) == magic.size() && memcmp(magic.data(), ELFMAG, SELFMAG) == 0;
}

// Whether a private mapping has pages of its own, as far as that can be found out: who may write may have
// written; else memory without a file is there or not, and a file's shows whether it differs from the
// file, as what a program relocates and then protects does. Code is not looked at.
bool HasOwnPages(MemoryManager& mm, const Vma& vma) {
  if ((vma.prot & PROT_WRITE) != 0) return true;
  if (!vma.file) return mm.ResidentIn(vma.range) != 0;
  if ((vma.prot & PROT_EXEC) != 0) return false;
  std::vector<std::byte> here(kPieceSize), there(kPieceSize);
  for (uint64_t done = 0; done < vma.range.size(); done += kPieceSize) {
    const size_t piece = std::min<uint64_t>(kPieceSize, vma.range.size() - done);
    const size_t n = mm.ForceRead(vma.range.start + done, std::span<std::byte>(here).first(piece));
    std::fill(there.begin(), there.end(), std::byte{0});
    size_t got = 0;
    while (got < n) {
      SpanDst dst{std::span<std::byte>(there).subspan(got, n - got)};
      const Result<size_t> more = vma.file->Read(dst, vma.offset + done + got, 0);
      if (!more.ok() || *more == 0) break;
      got += *more;
    }
    if (memcmp(here.data(), there.data(), n) != 0) return true;
    if (n < piece) break;
  }
  return false;
}

// vma_dump_size().
uint64_t DumpSize(MemoryManager& mm, const Vma& vma, uint32_t filter) {
  const uint64_t whole = vma.range.size();
  const std::string_view name = vma.name == nullptr ? "" : vma.name;
  if (name == "[vdso]" || name == "[vvar]") return whole;
  if (vma.dont_dump) return 0;
  uint32_t mode = 0;
  bool nameless = true;
  if (vma.file && !IsSharedAnon(*vma.file)) {
    if (const Result<Attr> attr = vma.file->inode().GetAttr(); attr.ok()) {
      mode = attr->mode;
      nameless = attr->nlink == 0;
    }
  }
  if (IsShared(vma)) {
    return (filter & (nameless ? CoreFilter::kAnonShared : CoreFilter::kMappedShared)) != 0 ? whole : 0;
  }
  if ((filter & CoreFilter::kAnonPrivate) != 0 && HasOwnPages(mm, vma)) return whole;
  if (!vma.file) return 0;
  if ((filter & CoreFilter::kMappedPrivate) != 0) return whole;
  if ((filter & CoreFilter::kElfHeaders) == 0 || vma.offset != 0) return 0;
  return (mode & 0111) != 0 || StartsAsElf(mm, vma) ? kPageSize : 0;
}

timeval ToTimeval(uint64_t ns) {
  return {static_cast<time_t>(ns / 1'000'000'000), static_cast<suseconds_t>(ns % 1'000'000'000 / 1000)};
}

struct Family {
  int ppid = 0, pgrp = 0, sid = 0;
};

Family FamilyOf(Task& t, const PidNamespace& ns) {
  MutexLock lock(t.kernel().tasks().mu);
  const ThreadGroup& tg = t.tg();
  Family f;
  f.ppid = ParentPidLocked(tg, ns);
  if (tg.pgrp) {
    f.pgrp = tg.pgrp->pid->In(ns);
    f.sid = tg.pgrp->session->pid->In(ns);
  }
  return f;
}

void AddStatus(std::string* out, Task& t, Task& dumper, const CoreThread& thread, int signo) {
  const PidNamespace& ns = dumper.pid_ns();
  const Family family = FamilyOf(t, ns);
  const Task::SignalSets sets = t.signal_sets();
  elf_prstatus s = {};
  s.pr_info.si_signo = signo;
  s.pr_cursig = static_cast<int16_t>(signo);
  s.pr_sigpend = sets.own;
  s.pr_sighold = sets.blocked;
  s.pr_pid = t.pid().In(ns);
  s.pr_ppid = family.ppid;
  s.pr_pgrp = family.pgrp;
  s.pr_sid = family.sid;
  Rusage used = t.OwnRusage(), children;
  {
    MutexLock lock(t.kernel().tasks().mu);
    children = t.tg().waited_children;
    if (t.tg().leader == &t) {
      used = t.tg().exited_threads;
      for (const Task* each : t.tg().threads) used.Add(each->OwnRusage());
    }
  }
  s.pr_utime = ToTimeval(used.utime_ns);
  s.pr_stime = ToTimeval(used.stime_ns);
  s.pr_cutime = ToTimeval(children.utime_ns);
  s.pr_cstime = ToTimeval(children.stime_ns);
  static_assert(sizeof(s.pr_reg) == sizeof(thread.regs));
  memcpy(&s.pr_reg, &thread.regs, sizeof(s.pr_reg));
  s.pr_fpvalid = thread.xstate.empty() ? 0 : 1;
  AddNote(out, "CORE", NT_PRSTATUS, &s, sizeof(s));
}

void AddFloating(std::string* out, const CoreThread& thread) {
  if (thread.xstate.size() < kFxsave) return;
  std::vector<std::byte> x = thread.xstate;
  memset(x.data() + kSwBytes, 0, kFxsave - kSwBytes);
  AddNote(out, "CORE", NT_PRFPREG, x.data(), kFxsave);
  // Where debuggers look for XCR0.
  const uint64_t features = XStateFeatures();
  memcpy(x.data() + kSwBytes, &features, sizeof(features));
  AddNote(out, "LINUX", kNoteXState, x.data(), x.size());
}

void AddProcess(std::string* out, Task& dumper) {
  Task* leader;
  {
    MutexLock lock(dumper.kernel().tasks().mu);
    leader = dumper.tg().leader;
  }
  const Family family = FamilyOf(dumper, dumper.pid_ns());
  elf_prpsinfo p = {};
  p.pr_sname = 'R';
  p.pr_nice = static_cast<char>(dumper.nice.load());
  const UserNamespace& ns = dumper.creds().user_ns();
  p.pr_uid = ns.ShowUid(dumper.creds().ruid);
  p.pr_gid = ns.ShowGid(dumper.creds().rgid);
  constexpr uint64_t kRandomized = 0x400000, kSignaled = 0x400, kDumpsCore = 0x200;  // PF_*
  p.pr_flag = kRandomized | kSignaled | kDumpsCore;
  p.pr_pid = dumper.vtgid();
  p.pr_ppid = family.ppid;
  p.pr_pgrp = family.pgrp;
  p.pr_sid = family.sid;
  const std::string comm = (leader == nullptr ? dumper : *leader).comm();
  memcpy(p.pr_fname, comm.data(), std::min(comm.size(), sizeof(p.pr_fname) - 1));
  const MemoryManager::Layout layout = dumper.mm().layout();
  const uint64_t length = layout.arg_end < layout.arg_start ? 0 : layout.arg_end - layout.arg_start;
  const auto args = std::as_writable_bytes(std::span(p.pr_psargs))
                        .first(std::min<uint64_t>(length, sizeof(p.pr_psargs) - 1));
  if (Result<size_t> n = dumper.mm().CopyInPartial(layout.arg_start, args); n.ok()) {
    std::replace(p.pr_psargs, p.pr_psargs + *n, '\0', ' ');
  }
  AddNote(out, "CORE", NT_PRPSINFO, &p, sizeof(p));
}

// fill_files_note(): count, page size, where each lies and in which page of its file; then the names.
void AddFiles(std::string* out, Task& dumper, const std::vector<CoreSegment>& segments) {
  std::vector<uint64_t> words = {0, kPageSize};
  std::string names;
  const Path root = dumper.fs().root();
  for (const CoreSegment& segment : segments) {
    const Vma& vma = segment.vma;
    if (!vma.file) continue;
    words[0]++;
    words.insert(words.end(), {vma.range.start.value(), vma.range.end.value(), vma.offset / kPageSize});
    names += Vfs::FullName(vma.file->path(), root, dumper.mounts());
    names += '\0';
  }
  std::string data(reinterpret_cast<const char*>(words.data()), words.size() * sizeof(uint64_t));
  data += names;
  AddNote(out, "CORE", kNoteFile, data.data(), data.size());
}

// dump_xsave_layout_desc(): where in NT_X86_XSTATE each extended feature lies.
void AddXSaveLayout(std::string* out) {
  std::vector<uint32_t> words;
  for (uint32_t feature = 2; feature < 63; feature++) {
    if ((XStateFeatures() >> feature & 1) == 0) continue;
    const XStatePart part = XStatePartOf(feature);
    words.insert(words.end(), {feature, part.size, part.offset, 0});
  }
  if (!words.empty()) AddNote(out, "LINUX", kNoteXSaveLayout, words.data(), words.size() * sizeof(uint32_t));
}

Elf64_Phdr SegmentHeader(const CoreSegment& s, uint64_t offset) {
  Elf64_Phdr p = {};
  p.p_type = PT_LOAD;
  p.p_flags = static_cast<uint32_t>(((s.vma.prot & PROT_READ) != 0 ? PF_R : 0) |
                                    ((s.vma.prot & PROT_WRITE) != 0 ? PF_W : 0) |
                                    ((s.vma.prot & PROT_EXEC) != 0 ? PF_X : 0));
  p.p_offset = offset;
  p.p_vaddr = s.vma.range.start.value();
  p.p_filesz = s.size;
  p.p_memsz = s.vma.range.size();
  p.p_align = kPageSize;
  return p;
}

bool IsZero(std::span<const std::byte> page) {
  return page[0] == std::byte{0} && memcmp(page.data(), page.data() + 1, page.size() - 1) == 0;
}

// Which pages of [at, at + n pages) are to be read.
std::vector<uint8_t> WantedPages(MemoryManager& mm, const CoreSegment& s, GuestAddr at, size_t n) {
  std::vector<uint8_t> pages(n, 1);
  // A look at a hole of a shared mapping would fill it.
  if (!IsShared(s.vma) && s.size <= kReadWhole) return pages;
  if (!mm.address_space().Mincore({at, at + n * kPageSize}, pages).ok()) pages.assign(n, 0);
  return pages;
}

bool PutSegment(MemoryManager& mm, const CoreSegment& s, std::span<std::byte> buffer, CoreSink& sink) {
  for (uint64_t done = 0; done < s.size;) {
    const uint64_t piece = std::min<uint64_t>(s.size - done, buffer.size());
    const size_t pages = piece / kPageSize;
    const GuestAddr at = s.vma.range.start + done;
    done += piece;
    const std::vector<uint8_t> wanted = WantedPages(mm, s, at, pages);
    const bool any = std::any_of(wanted.begin(), wanted.end(), [](uint8_t p) { return (p & 1) != 0; });
    size_t read = 0;
    if (any) {
      const Result<size_t> n = mm.CopyInPartial(at, buffer.first(piece));
      read = n.ok() ? *n / kPageSize : 0;
    }
    for (size_t i = 0; i < pages; i++) {
      const std::span<std::byte> page = buffer.subspan(i * kPageSize, kPageSize);
      bool there = any && (wanted[i] & 1) != 0;
      if (there && i >= read) there = mm.ForceRead(at + i * kPageSize, page) == kPageSize;
      if (there && !IsZero(page)) {
        if (!sink.Put(page)) return false;
      } else if (!sink.Skip(kPageSize)) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace

std::vector<CoreSegment> ChooseCoreSegments(Task& dumper, uint32_t filter) {
  std::vector<CoreSegment> segments;
  for (Vma& vma : dumper.mm().List()) {
    CoreSegment s;
    s.size = DumpSize(dumper.mm(), vma, filter);
    s.vma = std::move(vma);
    segments.push_back(std::move(s));
  }
  CoreSegment gate;
  gate.vma.range = {GuestAddr(kVsyscall), GuestAddr(kVsyscall + kPageSize)};
  gate.vma.prot = PROT_EXEC;
  gate.size = kPageSize;
  segments.push_back(std::move(gate));
  return segments;
}

std::string CoreNotes(Task& dumper, const CoreDump& dump, const abi::SigInfo& info,
                      const std::vector<CoreSegment>& segments) {
  std::vector<Task*> others;
  {
    MutexLock lock(dumper.kernel().tasks().mu);
    for (Task* t : dumper.tg().threads) {
      if (t != &dumper && dump.threads.contains(t)) others.push_back(t);
    }
  }
  std::string out;
  const CoreThread& own = dump.threads.at(&dumper);
  AddStatus(&out, dumper, dumper, own, info.signo);
  AddProcess(&out, dumper);
  AddNote(&out, "CORE", kNoteSigInfo, &info, sizeof(info));
  const std::vector<uint64_t> auxv = dumper.mm().auxv();
  AddNote(&out, "CORE", NT_AUXV, auxv.data(), auxv.size() * sizeof(uint64_t));
  AddFiles(&out, dumper, segments);
  AddFloating(&out, own);
  for (Task* t : others) {
    const CoreThread& thread = dump.threads.at(t);
    AddStatus(&out, *t, dumper, thread, info.signo);
    AddFloating(&out, thread);
  }
  AddXSaveLayout(&out);
  return out;
}

std::string CoreHeaders(const std::vector<CoreSegment>& segments, uint64_t notes) {
  const size_t count = segments.size() + 1;
  // More headers than fit into their count: it is in a section header then.
  const bool many = count >= PN_XNUM;
  Elf64_Ehdr e = {};
  memcpy(e.e_ident, ELFMAG, SELFMAG);
  e.e_ident[EI_CLASS] = ELFCLASS64;
  e.e_ident[EI_DATA] = ELFDATA2LSB;
  e.e_ident[EI_VERSION] = EV_CURRENT;
  e.e_type = ET_CORE;
  e.e_machine = EM_X86_64;
  e.e_version = EV_CURRENT;
  e.e_phoff = e.e_ehsize = sizeof(Elf64_Ehdr);
  e.e_phentsize = sizeof(Elf64_Phdr);
  e.e_phnum = static_cast<uint16_t>(many ? PN_XNUM : count);
  uint64_t offset = sizeof(Elf64_Ehdr) + count * sizeof(Elf64_Phdr);
  Elf64_Phdr note = {};
  note.p_type = PT_NOTE;
  note.p_offset = offset;
  note.p_filesz = notes;
  note.p_align = 4;
  std::string headers(reinterpret_cast<const char*>(&note), sizeof(note));
  offset = (offset + notes + kPageSize - 1) & ~(kPageSize - 1);
  for (const CoreSegment& s : segments) {
    const Elf64_Phdr p = SegmentHeader(s, offset);
    Append(&headers, &p, sizeof(p));
    offset += s.size;
  }
  if (many) {
    e.e_shoff = offset;
    e.e_shentsize = sizeof(Elf64_Shdr);
    e.e_shnum = 1;
  }
  return std::string(reinterpret_cast<const char*>(&e), sizeof(e)) + headers;
}

bool PutCoreMemory(MemoryManager& mm, const std::vector<CoreSegment>& segments, CoreSink& sink) {
  std::vector<std::byte> buffer(kPieceSize);
  for (const CoreSegment& s : segments) {
    if (s.vma.range.start.value() == kVsyscall) {
      if (!sink.Skip(s.size)) return false;
    } else if (!PutSegment(mm, s, buffer, sink)) {
      return false;
    }
  }
  if (segments.size() + 1 < PN_XNUM) return true;
  Elf64_Shdr section = {};
  section.sh_size = 1;
  section.sh_info = static_cast<uint32_t>(segments.size() + 1);
  return sink.Put(std::as_bytes(std::span(&section, 1)));
}

}  // namespace ringwall
