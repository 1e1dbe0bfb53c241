#include "sentry/loader/loader.h"

#include <cpuid.h>
#include <elf.h>
#include <sys/auxv.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "fs/vfs/inotify.h"
#include "sentry/base/check.h"
#include "sentry/loader/elf.h"
#include "sentry/loader/script.h"
#include "sentry/loader/stack_image.h"

// Debian 12's elf.h ends before these.
#ifndef AT_RSEQ_FEATURE_SIZE
#define AT_RSEQ_FEATURE_SIZE 27
#define AT_RSEQ_ALIGN 28
#endif

namespace ringwall {

namespace {

// Interpreters of interpreters: the sixth rewrite fails.
constexpr int kMaxScriptDepth = 5;
// The first read of a file: mostly holds all headers and the interpreter's name.
constexpr size_t kHeadSize = 2048;
constexpr uint64_t kStackExtra = 32 * kPageSize;
constexpr uint64_t kEflagsInterrupts = 0x200;

// The first bytes of a file, read once.
struct FileHead {
  std::array<std::byte, kHeadSize> bytes;
  size_t size = 0;
  std::span<const std::byte> span() const { return std::span(bytes).first(size); }
};

Result<size_t> ReadAt(File& file, uint64_t offset, std::span<std::byte> out) {
  size_t done = 0;
  while (done < out.size()) {
    SpanDst dst(out.subspan(done));
    const size_t n = TRY(file.Read(dst, offset + done, 0));
    if (n == 0) break;
    done += n;
  }
  if (done != 0) NotifyFile(file, IN_ACCESS);
  return done;
}

Result<FileHead> ReadHead(File& file) {
  FileHead head;
  head.size = TRY(ReadAt(file, 0, head.bytes));
  return head;
}

// Bytes [offset, offset+size): from the head when it has them. EIO when the file is shorter.
Result<std::vector<std::byte>> ReadRange(File& file, const FileHead& head, uint64_t offset,
                                         size_t size) {
  std::vector<std::byte> bytes(size);
  if (offset <= head.size && size <= head.size - offset) {
    std::copy_n(head.bytes.begin() + static_cast<ptrdiff_t>(offset), size, bytes.begin());
    return bytes;
  }
  const size_t n = TRY(ReadAt(file, offset, bytes));
  if (n != size) return Errno(EIO);
  return bytes;
}

// open_exec().
Result<Ref<File>> OpenExec(const Walk& walk, std::string_view name) {
  const Path path = TRY(Vfs::Lookup(walk, name, LookupFlags{}));
  if (!path.dentry().inode()->is_regular()) return Errno(EACCES);
  if ((path.mount().flags() & MS_NOEXEC) != 0) return Errno(EACCES);
  return Vfs::OpenPath(walk, path, O_RDONLY | kOpenForExec, nullptr);
}

Result<ElfImage> ReadElf(File& file, const FileHead& head) {
  const ElfHeader header = TRY(ParseElfHeader(head.span()));
  const auto table = ReadRange(file, head, header.table_offset, header.table_size());
  if (!table.ok()) return Errno(ENOEXEC);
  return ParseElfSegments(header, *table);
}

std::string BaseName(const std::string& name) {
  const size_t slash = name.rfind('/');
  return slash == std::string::npos ? name : name.substr(slash + 1);
}

uint64_t RandomBelow(uint64_t n) {
  uint64_t value = 0;
  RW_CHECK(::getrandom(&value, sizeof(value), 0) == sizeof(value));
  return value % n;
}

// Set-id bits that hold.
struct SetIds {
  std::optional<Uid> uid;
  std::optional<Gid> gid;
};

// Does one exec; its members are what the steps leave for the next ones.
class Loader {
 public:
  explicit Loader(LoadArgs& args) : args_(args) {}
  Result<LoadedImage> Run();

 private:
  Result<void> ResolveScripts();
  Result<void> ReadInterpreter();
  Result<GuestAddr> ChooseBase(MemoryManager& mm, const ElfImage& elf, bool interpreter);
  Result<void> MapElf(MemoryManager& mm, File& file, const ElfImage& elf, uint64_t bias);
  Result<void> MapSegment(MemoryManager& mm, File& file, const ElfSegment& segment, uint64_t bias);
  void SetLayout(MemoryManager& mm, uint64_t bias, const StackImage& stack);
  ExecIdentity Identity(const SetIds& set) const;
  Result<Ref<MemoryManager>> MakeMap(bool unreadable);
  std::vector<AuxEntry> Auxv(const MemoryManager& mm, const ExecIdentity& id, uint64_t bias) const;
  Result<StackImage> MakeStack(MemoryManager& mm, std::vector<AuxEntry> auxv);

  LoadArgs& args_;
  RefPtr<File> file_;
  FileHead head_;
  ElfImage elf_;
  RefPtr<File> interpreter_;
  ElfImage interpreter_elf_;
  GuestAddr interpreter_base_;
  // Ends of segments' file bytes within a page: zeroed once all is mapped.
  std::vector<GuestRange> to_zero_;
};

Result<void> Loader::ResolveScripts() {
  file_ = args_.file;
  std::string script_path = args_.filename;
  for (int depth = 0;; ++depth) {
    if (depth > kMaxScriptDepth) return Errno(ELOOP);
    head_ = TRY(ReadHead(*file_));
    if (!IsScript(head_.span())) return {};
    Script script = TRY(ParseScript(head_.span()));
    if (args_.path_inaccessible) return Errno(ENOENT);
    std::vector<std::string> argv;
    argv.push_back(script.interpreter);
    if (script.argument) argv.push_back(std::move(*script.argument));
    argv.push_back(script_path);
    if (!args_.argv.empty()) {
      argv.insert(argv.end(), std::make_move_iterator(args_.argv.begin() + 1),
                  std::make_move_iterator(args_.argv.end()));
    }
    args_.argv = std::move(argv);
    script_path = script.interpreter;
    if (script.interpreter.empty()) return Errno(EACCES);  // opens the working directory
    file_ = TRY(OpenExec(args_.walk, script.interpreter));
  }
}

Result<void> Loader::ReadInterpreter() {
  const ElfImage::Interpreter where = *elf_.interpreter;
  const std::vector<std::byte> bytes = TRY(ReadRange(*file_, head_, where.offset, where.size));
  if (bytes.back() != std::byte{0}) return Errno(ENOEXEC);
  std::string name(bytes.size(), '\0');
  memcpy(name.data(), bytes.data(), bytes.size());
  name.resize(name.find('\0'));
  interpreter_ = TRY(OpenExec(args_.walk, name));
  const FileHead head = TRY(ReadHead(*interpreter_));
  if (head.size < kElfHeaderSize) return Errno(EIO);
  Result<ElfImage> elf = ReadElf(*interpreter_, head);
  if (!elf.ok()) return elf.error().Is(ENOEXEC) ? Errno(ELIBBAD) : elf.error();
  interpreter_elf_ = std::move(*elf);
  return {};
}

// Where vaddr 0 of a file goes is this minus elf.start.
Result<GuestAddr> Loader::ChooseBase(MemoryManager& mm, const ElfImage& elf, bool interpreter) {
  if (!elf.header.position_independent) return GuestAddr(elf.start);
  const uint64_t size = elf.end - elf.start;
  const uint64_t alignment = std::max(elf.alignment, kPageSize);
  if (!interpreter && elf.interpreter) {
    // vaddr, not the mapping's start, is what Linux puts at the aligned place.
    const GuestAddr base = mm.ChoosePieBase(size, alignment);
    if (base.value() + size < size || base + size > kTaskSize) return Errno(ENOMEM);
    return base;
  }
  return mm.FindFree(size, alignment);
}

Result<void> Loader::MapElf(MemoryManager& mm, File& file, const ElfImage& elf, uint64_t bias) {
  for (const ElfSegment& segment : elf.loads) TRY(MapSegment(mm, file, segment, bias));
  return {};
}

// elf_load().
Result<void> Loader::MapSegment(MemoryManager& mm, File& file, const ElfSegment& segment,
                                uint64_t bias) {
  const uint64_t vaddr = segment.vaddr + bias;
  const uint64_t in_page = vaddr & kPageMask;
  GuestAddr mapped = GuestAddr(vaddr).PageDown();
  const GuestAddr file_end(vaddr + segment.file_size), end(vaddr + segment.mem_size);
  if (segment.file_size != 0) {
    MmapRequest request{.hint = mapped, .length = segment.file_size + in_page};
    request.prot = segment.prot;
    request.flags = MAP_PRIVATE | MAP_FIXED;
    request.file = RefPtr<File>(&file);
    request.offset = segment.offset - in_page;
    const GuestAddr at = TRY(mm.Mmap(request, args_.limits));
    mapped = at + *PageUp(request.length);
    // Linux zeroes only what the program could have written itself.
    const bool writable = (segment.prot & PROT_WRITE) != 0;
    if (end > file_end && file_end < mapped && writable) to_zero_.push_back({file_end, mapped});
  }
  if (end > mapped) {
    MmapRequest request{.hint = mapped, .length = end - mapped};
    request.prot = PROT_READ | PROT_WRITE | (segment.prot & PROT_EXEC);
    request.flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS;
    const GuestAddr at = TRY(mm.Mmap(request, args_.limits));
    RW_DCHECK(at == mapped);
    static_cast<void>(at);
  }
  return {};
}

ExecIdentity Loader::Identity(const SetIds& set) const {
  if (args_.identity) return args_.identity(*file_, set.uid, set.gid);
  const Credentials& old = args_.walk.creds;
  ExecIdentity id{old.ruid, set.uid.value_or(old.euid), old.rgid, set.gid.value_or(old.egid)};
  id.secure = id.euid != id.uid || id.egid != id.gid;
  return id;
}

std::vector<AuxEntry> Loader::Auxv(const MemoryManager& mm, const ExecIdentity& id,
                                   uint64_t bias) const {
  std::vector<AuxEntry> aux;
  const GuestRange vdso = const_cast<MemoryManager&>(mm).address_space().vdso();
  if (!vdso.empty()) aux.push_back({AT_SYSINFO_EHDR, vdso.start.value()});
  aux.push_back({AT_MINSIGSTKSZ, ::getauxval(AT_MINSIGSTKSZ)});
  // CPUID.1:EDX, as Linux has it; libc's getauxval gives something else.
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  __get_cpuid(1, &eax, &ebx, &ecx, &edx);
  aux.push_back({AT_HWCAP, edx});
  aux.push_back({AT_PAGESZ, kPageSize});
  aux.push_back({AT_CLKTCK, 100});
  aux.push_back({AT_PHDR, elf_.table_vaddr == 0 ? 0 : elf_.table_vaddr + bias});
  aux.push_back({AT_PHENT, kElfProgramHeaderSize});
  aux.push_back({AT_PHNUM, elf_.header.table_count});
  aux.push_back({AT_BASE, interpreter_base_.value()});
  aux.push_back({AT_FLAGS, 0});
  aux.push_back({AT_ENTRY, elf_.header.entry + bias});
  aux.push_back({AT_UID, id.uid});
  aux.push_back({AT_EUID, id.euid});
  aux.push_back({AT_GID, id.gid});
  aux.push_back({AT_EGID, id.egid});
  aux.push_back({AT_SECURE, id.secure ? 1u : 0u});
  aux.push_back({AT_RANDOM, 0});
  aux.push_back({AT_HWCAP2, ::getauxval(AT_HWCAP2)});
  aux.push_back({AT_EXECFN, 0});
  aux.push_back({AT_PLATFORM, 0});
  if (args_.rseq_feature_size != 0) {
    aux.push_back({AT_RSEQ_FEATURE_SIZE, args_.rseq_feature_size});
    aux.push_back({AT_RSEQ_ALIGN, args_.rseq_align});
  }
  return aux;
}

// Maps the stack and makes what will lie on it.
Result<StackImage> Loader::MakeStack(MemoryManager& mm, std::vector<AuxEntry> auxv) {
  StackArgs stack{.top = mm.ChooseStackTop(args_.limits),
                  .random_offset = args_.randomize ? RandomBelow(8192) : 0,
                  .filename = args_.filename,
                  .argv = args_.argv,
                  .envp = args_.envp,
                  .random_bytes = {},
                  .auxv = std::move(auxv)};
  RW_CHECK(::getrandom(stack.random_bytes.data(), stack.random_bytes.size(), 0) ==
           static_cast<ssize_t>(stack.random_bytes.size()));
  StackImage image = BuildStack(stack);
  const uint64_t used = *PageUp(image.bytes.size()) + kStackExtra;
  const int exec = elf_.executable_stack ? PROT_EXEC : 0;
  const GuestRange range =
      TRY(mm.MapStack(stack.top, PROT_READ | PROT_WRITE | exec, used, args_.limits));
  static_cast<void>(range);
  return image;
}

void Loader::SetLayout(MemoryManager& mm, uint64_t bias, const StackImage& stack) {
  uint64_t start_code = ~uint64_t{0}, end_code = 0, start_data = 0, end_data = 0, brk = 0;
  for (const ElfSegment& s : elf_.loads) {
    const uint64_t file_end = s.vaddr + s.file_size;
    if ((s.prot & PROT_EXEC) != 0) {
      start_code = std::min(start_code, s.vaddr);
      end_code = std::max(end_code, file_end);
    }
    start_data = std::max(start_data, s.vaddr);
    end_data = std::max(end_data, file_end);
    brk = std::max(brk, s.vaddr + s.mem_size);
  }
  if (end_code == 0) start_code = 0;
  MemoryManager::Layout layout;
  layout.start_code = GuestAddr(start_code + bias);
  layout.end_code = GuestAddr(end_code + bias);
  layout.start_data = GuestAddr(start_data + bias);
  layout.end_data = GuestAddr(end_data + bias);
  layout.start_stack = stack.stack_pointer;
  layout.arg_start = stack.arg_start;
  layout.arg_end = stack.arg_end;
  layout.env_start = stack.env_start;
  layout.env_end = stack.env_end;
  mm.set_layout(layout);
  // A static PIE lies among the mappings, where a heap could not grow: it gets the place of a PIE.
  const bool moved = elf_.header.position_independent && !elf_.interpreter;
  mm.SetBrkStart(moved ? kElfDynBase : GuestAddr(*PageUp(brk + bias) + kPageSize));
}

Result<Ref<MemoryManager>> Loader::MakeMap(bool unreadable) {
  MemoryManager* const old = args_.replaces && !unreadable ? args_.replaces() : nullptr;
  if (old != nullptr) return MemoryManager::CreateInPlace(*old, args_.limits, args_.randomize);
  return MemoryManager::Create(args_.platform, args_.limits, args_.randomize);
}

Result<LoadedImage> Loader::Run() {
  if (args_.argv.empty()) args_.argv.push_back("");
  TRY(CheckArguments(args_.filename, args_.argv, args_.envp, args_.limits.stack));
  TRY(ResolveScripts());
  TRY(CheckArguments(args_.filename, args_.argv, args_.envp, args_.limits.stack));
  elf_ = TRY(ReadElf(*file_, head_));
  if (elf_.interpreter) TRY(ReadInterpreter());

  const Attr attr = TRY(file_->inode().GetAttr());
  const Credentials& creds = args_.walk.creds;
  const Path& path = file_->path();
  const bool nosuid = path.mount_ref() && (path.mount().flags() & MS_NOSUID) != 0;
  SetIds set;
  if (!nosuid && !creds.no_new_privs) {
    if ((attr.mode & S_ISUID) != 0) set.uid = attr.uid;
    if ((attr.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP)) set.gid = attr.gid;
  }
  const bool unreadable = !Vfs::CheckAccess(creds, path, kMayRead).ok();
  const ExecIdentity identity = Identity(set);
  Ref<MemoryManager> mm = TRY(MakeMap(unreadable));
  LoadedImage image{.mm = mm, .executable = Ref<File>(file_)};
  image.setuid = set.uid;
  image.setgid = set.gid;
  image.unreadable = unreadable;
  image.secure = identity.secure;

  // All of it is one order to the stub.
  mm->DeferMappings();
  const GuestAddr base = TRY(ChooseBase(*mm, elf_, false));
  const uint64_t bias = base.value() - elf_.start;
  TRY(MapElf(*mm, *file_, elf_, bias));
  uint64_t entry = elf_.header.entry + bias;
  if (interpreter_) {
    const GuestAddr at = TRY(ChooseBase(*mm, interpreter_elf_, true));
    const uint64_t interpreter_bias = at.value() - interpreter_elf_.start;
    TRY(MapElf(*mm, *interpreter_, interpreter_elf_, interpreter_bias));
    interpreter_->AllowWriting();
    interpreter_base_ = GuestAddr(interpreter_bias);
    entry = interpreter_elf_.header.entry + interpreter_bias;
  }
  if (entry >= kTaskSize.value()) return Errno(EINVAL);
  StackImage stack = TRY(MakeStack(*mm, Auxv(*mm, identity, bias)));
  SetLayout(*mm, bias, stack);
  image.to_zero = std::move(to_zero_);
  image.stack = std::move(stack.bytes);
  mm->set_executable(file_);
  mm->set_auxv(std::move(stack.auxv));
  image.regs.rip = entry;
  image.regs.rsp = stack.stack_pointer.value();
  image.regs.eflags = kEflagsInterrupts;
  image.regs.cs = abi::kUserCs;
  image.regs.ss = abi::kUserSs;
  image.regs.orig_rax = ~uint64_t{0};
  image.comm = BaseName(args_.filename).substr(0, 15);
  if (!mm->in_place()) TRY(image.Commit());
  return image;
}

}  // namespace

Result<void> LoadedImage::Commit() {
  TRY(mm->FinishMappings());
  static constexpr std::array<std::byte, kPageSize> kZeros = {};
  for (const GuestRange range : to_zero) {
    TRY(mm->CopyOut(range.start, std::span(kZeros).first(range.size())));
  }
  return mm->CopyOut(GuestAddr(regs.rsp), stack);
}

Result<LoadedImage> LoadExecutable(LoadArgs args) { return Loader(args).Run(); }

}  // namespace ringwall
