#include <elf.h>
#include <link.h>
#include <sys/mman.h>

#include "sentry/base/resident.h"

namespace ringwall {

namespace {

int ForgetSegments(dl_phdr_info* info, size_t, void*) {
  constexpr uintptr_t kPageMask = 4095;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) continue;
    const uintptr_t start = (info->dlpi_addr + segment.p_vaddr) & ~kPageMask;
    const uintptr_t end = (info->dlpi_addr + segment.p_vaddr + segment.p_memsz + kPageMask) & ~kPageMask;
    // SAFETY: the segment cannot be written, so its pages are those of the file: what is forgotten
    // comes back the same. (Relocated constants are in a writable segment.)
    madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED);
  }
  return 1;  // the program itself comes first; libraries, where there are any, stay
}

}  // namespace

void ForgetCode() { dl_iterate_phdr(ForgetSegments, nullptr); }

}  // namespace ringwall
