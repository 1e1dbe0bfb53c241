// Reading ELF64 executables for x86-64: what execve needs, no more. The bytes are a guest's and so
// hostile; everything here works on a copy of them and checks every number before use. Read Linux's
// fs/binfmt_elf.c before editing.
#ifndef RINGWALL_SENTRY_LOADER_ELF_H_
#define RINGWALL_SENTRY_LOADER_ELF_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sentry/base/result.h"

namespace ringwall {

inline constexpr size_t kElfHeaderSize = 64;
inline constexpr size_t kElfProgramHeaderSize = 56;

// The ELF header: what kind of file, and where its program headers are.
struct ElfHeader {
  bool position_independent = false;  // ET_DYN
  uint64_t entry = 0;
  uint64_t table_offset = 0;  // of the program headers
  uint16_t table_count = 0;

  size_t table_size() const { return size_t{table_count} * kElfProgramHeaderSize; }
};

// One PT_LOAD. vaddr and offset agree within a page; [vaddr, vaddr+mem_size) is user space.
struct ElfSegment {
  uint64_t vaddr = 0;
  uint64_t offset = 0;
  uint64_t file_size = 0;
  uint64_t mem_size = 0;  // at least file_size
  int prot = 0;
};

struct ElfImage {
  ElfHeader header;
  std::vector<ElfSegment> loads;  // in the file's order, not empty
  // PT_INTERP: where the interpreter's name is, its NUL included.
  struct Interpreter {
    uint64_t offset = 0;
    uint64_t size = 0;
  };
  std::optional<Interpreter> interpreter;
  bool executable_stack = false;  // PT_GNU_STACK with PF_X
  uint64_t alignment = 0;         // the largest p_align of a PT_LOAD; a power of two or 0
  uint64_t table_vaddr = 0;       // where the program headers get mapped; 0 when nowhere
  // Whole pages that hold all segments.
  uint64_t start = 0, end = 0;
};

// ENOEXEC when it is not an executable of this machine.
Result<ElfHeader> ParseElfHeader(std::span<const std::byte> file_start);

// `table`: header.table_size() bytes from header.table_offset. ENOEXEC; EINVAL for segments that no
// mapping can show.
Result<ElfImage> ParseElfSegments(const ElfHeader& header, std::span<const std::byte> table);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_LOADER_ELF_H_
