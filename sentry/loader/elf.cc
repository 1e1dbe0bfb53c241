#include "sentry/loader/elf.h"

#include <elf.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "platform/platform.h"
#include "sentry/base/guest_addr.h"

namespace ringwall {

namespace {

// More program headers than fit in 64 KiB are refused, as on Linux.
constexpr size_t kMaxTableSize = 65536;
constexpr uint64_t kPathMaxWithNul = 4096;

template <typename T>
T Load(std::span<const std::byte> bytes) {
  T value;
  memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

int ProtOf(uint32_t flags) {
  return ((flags & PF_R) != 0 ? PROT_READ : 0) | ((flags & PF_W) != 0 ? PROT_WRITE : 0) |
         ((flags & PF_X) != 0 ? PROT_EXEC : 0);
}

Result<ElfSegment> ParseLoad(const Elf64_Phdr& p) {
  if (p.p_filesz > p.p_memsz || p.p_memsz > kStubStart || p.p_vaddr > kStubStart - p.p_memsz) {
    return Errno(EINVAL);
  }
  if (((p.p_vaddr ^ p.p_offset) & kPageMask) != 0) return Errno(EINVAL);
  if (p.p_offset > INT64_MAX || p.p_filesz > INT64_MAX - p.p_offset - kPageSize) {
    return Errno(EINVAL);
  }
  return ElfSegment{p.p_vaddr, p.p_offset, p.p_filesz, p.p_memsz, ProtOf(p.p_flags)};
}

}  // namespace

Result<ElfHeader> ParseElfHeader(std::span<const std::byte> file_start) {
  static_assert(sizeof(Elf64_Ehdr) == kElfHeaderSize);
  if (file_start.size() < kElfHeaderSize) return Errno(ENOEXEC);
  const auto e = Load<Elf64_Ehdr>(file_start);
  if (memcmp(e.e_ident, ELFMAG, SELFMAG) != 0 || e.e_ident[EI_CLASS] != ELFCLASS64) {
    return Errno(ENOEXEC);
  }
  if (e.e_type != ET_EXEC && e.e_type != ET_DYN) return Errno(ENOEXEC);
  if (e.e_machine != EM_X86_64) return Errno(ENOEXEC);
  if (e.e_phentsize != kElfProgramHeaderSize || e.e_phnum == 0) return Errno(ENOEXEC);
  const ElfHeader header{e.e_type == ET_DYN, e.e_entry, e.e_phoff, e.e_phnum};
  if (header.table_size() > kMaxTableSize) return Errno(ENOEXEC);
  if (header.table_offset > uint64_t{INT64_MAX} - header.table_size()) return Errno(ENOEXEC);
  return header;
}

Result<ElfImage> ParseElfSegments(const ElfHeader& header, std::span<const std::byte> table) {
  static_assert(sizeof(Elf64_Phdr) == kElfProgramHeaderSize);
  if (table.size() < header.table_size()) return Errno(ENOEXEC);
  ElfImage image{.header = header};
  for (size_t i = 0; i < header.table_count; ++i) {
    const auto p = Load<Elf64_Phdr>(table.subspan(i * kElfProgramHeaderSize));
    switch (p.p_type) {
      case PT_INTERP:
        if (image.interpreter) break;  // the first one counts
        if (p.p_filesz > kPathMaxWithNul || p.p_filesz < 2 || p.p_offset > INT64_MAX) {
          return Errno(ENOEXEC);
        }
        image.interpreter = ElfImage::Interpreter{p.p_offset, p.p_filesz};
        break;
      case PT_GNU_STACK:
        image.executable_stack = (p.p_flags & PF_X) != 0;
        break;
      case PT_LOAD: {
        const ElfSegment load = TRY(ParseLoad(p));
        if (p.p_align > kPageSize && std::has_single_bit(p.p_align)) {
          image.alignment = std::max<uint64_t>(image.alignment, p.p_align);
        }
        if (load.offset <= header.table_offset &&
            header.table_offset - load.offset < load.file_size) {
          image.table_vaddr = header.table_offset - load.offset + load.vaddr;
        }
        if (load.mem_size == 0) break;
        const uint64_t start = load.vaddr & ~kPageMask;
        const uint64_t end = (load.vaddr + load.mem_size + kPageMask) & ~kPageMask;
        image.start = image.loads.empty() ? start : std::min(image.start, start);
        image.end = std::max(image.end, end);
        image.loads.push_back(load);
        break;
      }
      default:
        break;
    }
  }
  if (image.loads.empty()) return Errno(EINVAL);
  return image;
}

}  // namespace ringwall
