// maps, smaps and mem (fs/proc/task_mmu.c, mem of fs/proc/base.c).
#include <sys/sysmacros.h>

#include "fs/proc/internal.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall::proc {

namespace {

using Ull = unsigned long long;

// Names of mapped files as the current task sees them.
class Namer {
 public:
  Namer() {
    if (Task* current = Task::Current()) {
      if (RefPtr<FsContext> context = current->fs_ref()) {
        root_ = context->root();
        mounts_ = current->mounts_ref();
      }
    }
  }
  std::string Name(const Path& path) const {
    if (!mounts_) return {};
    return Escape(Vfs::FullName(path, root_, *mounts_), "\n");
  }

 private:
  Path root_;
  RefPtr<MountNamespace> mounts_;
};

// What a mapping is of.
struct Backing {
  uint64_t dev = 0, ino = 0;
  std::string name;
};

Backing BackingOf(const Vma& vma, const Namer& namer) {
  Backing b;
  if (vma.name != nullptr) b.name = vma.name;
  if (!vma.file || vma.file->maps_as_anonymous()) return b;
  Result<Attr> attr = Vfs::Stat(vma.file->path());
  if (attr.ok()) {
    b.dev = attr->dev;
    b.ino = attr->ino;
  }
  if (b.name.empty()) b.name = namer.Name(vma.file->path());
  return b;
}

void AppendVma(std::string* out, const Vma& vma, const Namer& namer) {
  const auto [dev, ino, name] = BackingOf(vma, namer);
  const size_t line = out->size();
  AppendFormat(out, "%08llx-%08llx %c%c%c%c %08llx %02x:%02x %llu ", Ull{vma.range.start.value()},
               Ull{vma.range.end.value()}, vma.prot & PROT_READ ? 'r' : '-',
               vma.prot & PROT_WRITE ? 'w' : '-', vma.prot & PROT_EXEC ? 'x' : '-',
               vma.shared ? 's' : 'p', Ull{vma.file ? vma.offset : 0}, major(dev), minor(dev),
               Ull{ino});
  if (!name.empty()) {
    // Names stand in one column where they can.
    constexpr size_t kNameColumn = 73;
    const size_t used = out->size() - line;
    if (used < kNameColumn) out->append(kNameColumn - used, ' ');
    *out += name;
  }
  *out += '\n';
}

// The page that every process can execute, and none read (vsyscall=xonly).
constexpr const char* kVsyscallLine =
    "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

struct Figures {
  uint64_t size = 0, rss = 0, anonymous = 0, dirty_private = 0, clean_private = 0, locked = 0;
  uint64_t dirty_shared = 0, clean_shared = 0;

  void Add(const Figures& o) {
    size += o.size;
    rss += o.rss;
    anonymous += o.anonymous;
    dirty_private += o.dirty_private;
    clean_private += o.clean_private;
    dirty_shared += o.dirty_shared;
    clean_shared += o.clean_shared;
    locked += o.locked;
  }
};

// What is resident is known, who shares it is not: private memory counts as this process's own, and
// file pages as clean ones.
Figures FiguresOf(const MemoryManager& mm, const Vma& vma) {
  Figures f;
  f.size = vma.range.end - vma.range.start;
  f.rss = mm.ResidentIn(vma.range);
  if (vma.locked) f.locked = f.rss;
  if (!vma.file) {
    f.anonymous = f.dirty_private = f.rss;
  } else if (vma.shared) {
    f.clean_shared = f.rss;
  } else if (vma.prot & PROT_WRITE) {
    f.anonymous = f.dirty_private = f.rss;
  } else {
    f.clean_private = f.rss;
  }
  return f;
}

void AppendFigures(std::string* out, const Figures& f, bool rollup) {
  const auto kb = [out](const char* name, uint64_t bytes) {
    AppendFormat(out, "%-16s%8llu kB\n", name, Ull{bytes / 1024});
  };
  if (!rollup) {
    kb("Size:", f.size);
    kb("KernelPageSize:", kPageSize);
    kb("MMUPageSize:", kPageSize);
  }
  kb("Rss:", f.rss);
  kb("Pss:", f.rss);
  kb("Pss_Dirty:", f.dirty_private + f.dirty_shared);
  if (rollup) {
    kb("Pss_Anon:", f.anonymous);
    kb("Pss_File:", f.rss - f.anonymous);
    kb("Pss_Shmem:", 0);
  }
  kb("Shared_Clean:", f.clean_shared);
  kb("Shared_Dirty:", f.dirty_shared);
  kb("Private_Clean:", f.clean_private);
  kb("Private_Dirty:", f.dirty_private);
  kb("Referenced:", f.rss);
  kb("Anonymous:", f.anonymous);
  for (const char* unknown :
       {"KSM:", "LazyFree:", "AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:",
        "Shared_Hugetlb:", "Private_Hugetlb:", "Swap:", "SwapPss:"}) {
    kb(unknown, 0);
  }
  kb("Locked:", f.locked);
}

std::string FlagsOf(const Vma& vma) {
  std::string flags;
  const auto add = [&flags](bool on, const char* name) {
    if (on) flags += name, flags += ' ';
  };
  add(vma.prot & PROT_READ, "rd");
  add(vma.prot & PROT_WRITE, "wr");
  add(vma.prot & PROT_EXEC, "ex");
  add(vma.shared && (!vma.file || vma.file->writable()), "sh");
  add(vma.max_prot & PROT_READ, "mr");
  add(vma.max_prot & PROT_WRITE, "mw");
  add(vma.max_prot & PROT_EXEC, "me");
  add(vma.shared, "ms");
  add(vma.grows_down, "gd");
  add(vma.locked, "lo");
  add(vma.dont_fork, "dc");
  add(vma.lock_on_fault, "lf");
  add(!vma.file, "ac");
  add(vma.wipe_on_fork, "wf");
  add(vma.dont_dump, "dd");
  add(vma.sealed, "sl");
  return flags;
}

// struct procmap_query, include/uapi/linux/fs.h.
struct MapQuery {
  uint64_t size, flags, addr;
  uint64_t start, end, vma_flags, page_size, offset, inode;
  uint32_t dev_major, dev_minor, name_size, build_id_size;
  uint64_t name_addr, build_id_addr;
};
static_assert(GuestAbi<MapQuery> && sizeof(MapQuery) == 104);
constexpr uint64_t kQueryRead = 1, kQueryWrite = 2, kQueryExec = 4, kQueryShared = 8,
                   kQueryOrNext = 0x10, kQueryFile = 0x20, kQueryKinds = 0xf, kQueryAll = 0x3f;

uint64_t QueryFlagsOf(const Vma& vma) {
  return ((vma.prot & PROT_READ) != 0 ? kQueryRead : 0) |
         ((vma.prot & PROT_WRITE) != 0 ? kQueryWrite : 0) |
         ((vma.prot & PROT_EXEC) != 0 ? kQueryExec : 0) | (vma.shared ? kQueryShared : 0);
}

// The mapping that holds the address, or with kQueryOrNext the first behind it, that is all that
// `flags` ask for. ENOENT.
Result<Vma> FindMapping(const MemoryManager& mm, uint64_t addr, uint64_t flags) {
  for (Vma& vma : mm.List()) {
    if (vma.range.end.value() <= addr) continue;
    const bool or_next = (flags & kQueryOrNext) != 0;
    if (vma.range.start.value() > addr && !or_next) break;
    const uint64_t kinds = flags & kQueryKinds;
    const bool fits = (QueryFlagsOf(vma) & kinds) == kinds &&
                      ((flags & kQueryFile) == 0 || vma.file);
    if (fits) return std::move(vma);
    if (!or_next) break;
  }
  return Errno(ENOENT);
}

// The first `*size` bytes of a structure that may be of an older or newer kernel. EINVAL when it ends
// before what is asked, E2BIG when there is more than is known here.
Result<MapQuery> CopyInQuery(Task& t, GuestAddr from, uint64_t* size) {
  *size = TRY(UserIn<uint64_t>(from).CopyIn(t));
  if (*size > kPageSize) return Errno(E2BIG);
  if (*size < offsetof(MapQuery, start)) return Errno(EINVAL);
  std::vector<std::byte> bytes = TRY(UserIn<std::byte>(from).CopyInArray(t, *size));
  for (size_t i = sizeof(MapQuery); i < bytes.size(); ++i) {
    if (bytes[i] != std::byte{0}) return Errno(E2BIG);
  }
  MapQuery q = {};
  memcpy(&q, bytes.data(), std::min(bytes.size(), sizeof(q)));
  return q;
}

class MemFile final : public File {
 public:
  MemFile(const Path& path, uint32_t flags, Ref<MemoryManager> mm)
      : File(path, flags), mm_(std::move(mm)) {}
  bool seekable() const override { return true; }
  Result<int64_t> Seek(int64_t offset, int whence) override NO_THREAD_SAFETY_ANALYSIS {
    // Addresses: the sign does not matter, and there is no end.
    if (whence == SEEK_SET) return offset;
    if (whence == SEEK_CUR) return this->offset() + offset;
    return Errno(EINVAL);
  }

  Result<size_t> Read(IoDst& dst, uint64_t pos, int) override {
    if (dst.remaining() == 0 || mm_->users.load() == 0) return size_t{0};
    size_t done = 0;
    std::byte chunk[kPageSize];
    while (dst.remaining() > 0) {
      const size_t want = std::min(dst.remaining(), sizeof(chunk) - ((pos + done) & kPageMask));
      const size_t got = mm_->ForceRead(GuestAddr(pos + done), std::span(chunk, want));
      if (got == 0) break;
      Result<size_t> put = dst.Put(std::span(chunk, got));
      if (!put.ok()) return done != 0 ? Result<size_t>(done) : Result<size_t>(put.error());
      done += *put;
      if (*put < want) break;
    }
    if (done == 0) return Errno(EIO);
    return done;
  }

  Result<size_t> Write(IoSrc& src, uint64_t* pos, int) override {
    if (src.remaining() == 0 || mm_->users.load() == 0) return size_t{0};
    size_t done = 0;
    std::byte chunk[kPageSize];
    while (src.remaining() > 0) {
      const size_t want = std::min(src.remaining(), sizeof(chunk) - (*pos & kPageMask));
      Result<size_t> got = src.Get(std::span(chunk, want));
      if (!got.ok()) return done != 0 ? Result<size_t>(done) : Result<size_t>(got.error());
      const size_t put = mm_->ForceWrite(GuestAddr(*pos), std::span(chunk, *got));
      if (put == 0) break;
      done += put;
      *pos += put;
      if (put < want) break;
    }
    if (done == 0) return Errno(EIO);
    return done;
  }

 private:
  const Ref<MemoryManager> mm_;
};

class MemInode final : public SyntheticInode {
 public:
  MemInode(FileSystem& fs, Subject s, uint64_t ino)
      : SyntheticInode(fs, S_IFREG | 0600, ino), s_(std::move(s)) {}
  Owner owner() override { return OwnerOf(s_); }
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials&) override {
    Ref<Task> task = TRY(s_.Get());
    Task* current = Task::Current();
    if (current != nullptr && !Ptrace::MayAccess(*current, *task, PtraceAccess::kAttachFs).ok()) {
      return Errno(EACCES);
    }
    RefPtr<MemoryManager> mm = task->mm_ref();
    if (!mm) return Errno(ESRCH);
    return Ref<File>(MakeRef<MemFile>(path, flags, Ref<MemoryManager>(std::move(mm))));
  }

 private:
  const Subject s_;
};

}  // namespace

Result<std::string> MapsText(const Subject&, Task& t) {
  std::string out;
  RefPtr<MemoryManager> mm = t.mm_ref();
  if (!mm) return out;
  const Namer namer;
  for (const Vma& vma : mm->List()) AppendVma(&out, vma, namer);
  out += kVsyscallLine;
  return out;
}

Result<int64_t> MapsIoctl(const Subject& s, Task& t, uint32_t cmd, uint64_t arg) {
  constexpr uint32_t kQuery = 0xc0686611;  // PROCMAP_QUERY
  if (cmd != kQuery) return Errno(ENOTTY);
  uint64_t size = 0;
  MapQuery q = TRY(CopyInQuery(t, GuestAddr(arg), &size));
  if ((q.flags & ~kQueryAll) != 0) return Errno(EINVAL);
  if ((q.name_size == 0) != (q.name_addr == 0)) return Errno(EINVAL);
  if ((q.build_id_size == 0) != (q.build_id_addr == 0)) return Errno(EINVAL);
  Ref<Task> target = TRY(s.Get());
  const RefPtr<MemoryManager> mm = target->mm_ref();
  if (!mm) return Errno(ESRCH);
  const Vma vma = TRY(FindMapping(*mm, q.addr, q.flags));
  const Backing backing = BackingOf(vma, Namer());
  q.start = vma.range.start.value();
  q.end = vma.range.end.value();
  q.vma_flags = QueryFlagsOf(vma);
  q.page_size = kPageSize;
  q.offset = vma.file ? vma.offset : 0;
  q.inode = backing.ino;
  q.dev_major = major(backing.dev);
  q.dev_minor = minor(backing.dev);
  q.build_id_size = 0;  // as of a file without one
  if (q.name_size != 0) {
    const size_t with_nul = backing.name.empty() ? 0 : backing.name.size() + 1;
    if (with_nul > q.name_size) return Errno(ENAMETOOLONG);
    q.name_size = static_cast<uint32_t>(with_nul);
    const std::span<const char> bytes(backing.name.c_str(), with_nul);
    if (with_nul != 0) TRY(t.CopyOut(GuestAddr(q.name_addr), std::as_bytes(bytes)));
  }
  const auto out = std::as_bytes(std::span(&q, 1));
  TRY(t.CopyOut(GuestAddr(arg), out.first(std::min<uint64_t>(size, out.size()))));
  return 0;
}

Result<std::string> SmapsText(const Subject&, Task& t) {
  std::string out;
  RefPtr<MemoryManager> mm = t.mm_ref();
  if (!mm) return out;
  const Namer namer;
  for (const Vma& vma : mm->List()) {
    AppendVma(&out, vma, namer);
    AppendFigures(&out, FiguresOf(*mm, vma), false);
    const bool thp = !vma.file && vma.range.end - vma.range.start >= (2 << 20);
    AppendFormat(&out, "THPeligible:    %8d\nVmFlags: %s\n", thp, FlagsOf(vma).c_str());
  }
  out += kVsyscallLine;
  AppendFigures(&out, Figures{.size = kPageSize}, false);
  out += "THPeligible:           0\nVmFlags: ex \n";
  return out;
}

Result<std::string> SmapsRollupText(const Subject&, Task& t) {
  RefPtr<MemoryManager> mm = t.mm_ref();
  if (!mm) return Errno(ESRCH);
  Figures sum;
  const std::vector<Vma> vmas = mm->List();
  for (const Vma& vma : vmas) sum.Add(FiguresOf(*mm, vma));
  std::string out;
  const GuestRange all =
      vmas.empty() ? GuestRange{} : GuestRange{vmas.front().range.start, vmas.back().range.end};
  AppendFormat(&out, "%08llx-%08llx ---p 00000000 00:00 0 ", Ull{all.start.value()}, Ull{all.end.value()});
  out.append(out.size() < 73 ? 73 - out.size() : 0, ' ');
  out += "[rollup]\n";
  AppendFigures(&out, sum, true);
  return out;
}

Ref<SyntheticInode> NewMemFile(FileSystem& fs, Subject subject, uint64_t ino) {
  return MakeRef<MemInode>(fs, std::move(subject), ino);
}

}  // namespace ringwall::proc
