#include <string.h>

#include "runsc/boot/boot.h"
#include "syscalls/table.h"

namespace ringwall {

std::vector<SyscallSupport> ListSyscalls() {
  std::vector<SyscallSupport> list;
  for (const SyscallRow& row : SyscallsX8664().rows()) {
    SyscallSupport line = {row.nr, row.name, "full", row.note};
    if (row.support == Support::kPartial) line.support = "partial";
    if (row.support == Support::kNone) {
      line.support = "none";
      line.note = std::string("answers ") + strerrorname_np(row.error) + (*row.note == '\0' ? "" : "; ") + row.note;
    }
    list.push_back(std::move(line));
  }
  return list;
}

}  // namespace ringwall
