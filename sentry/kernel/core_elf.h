// The format of core files (fs/binfmt_elf.c:elf_core_dump()): an ELF file with one segment of notes and
// one for each mapping.
#ifndef RINGWALL_SENTRY_KERNEL_CORE_ELF_H_
#define RINGWALL_SENTRY_KERNEL_CORE_ELF_H_

#include <cstddef>
#include <string>
#include <vector>

#include "sentry/kernel/core_dump.h"
#include "sentry/mm/memory_manager.h"

namespace ringwall {

class Task;

// A mapping, and how much of it the file gets.
struct CoreSegment {
  Vma vma;
  uint64_t size = 0;
};

// The bits of /proc/PID/coredump_filter.
struct CoreFilter {
  static constexpr uint32_t kAnonPrivate = 1, kAnonShared = 2, kMappedPrivate = 4, kMappedShared = 8,
                            kElfHeaders = 16;
};

// What of the dumper's mappings goes into the file. Blocks: asks files for their attributes.
std::vector<CoreSegment> ChooseCoreSegments(Task& dumper, uint32_t filter);

// The notes: of the dumper first, then of the other threads that have shown themselves. Precondition: all
// threads of the process but the dumper wait.
std::string CoreNotes(Task& dumper, const CoreDump& dump, const abi::SigInfo& info,
                      const std::vector<CoreSegment>& segments);

// The headers in front of the notes; `notes` is their size.
std::string CoreHeaders(const std::vector<CoreSegment>& segments, uint64_t notes);

// The memory itself, a bounded piece at a time: false when the sink takes no more. What cannot be read,
// and what is not in memory, is left out as a hole.
bool PutCoreMemory(MemoryManager& mm, const std::vector<CoreSegment>& segments, CoreSink& sink);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_CORE_ELF_H_
