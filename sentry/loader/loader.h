// Loading a program into a fresh address space, or into that of the process that execs (fs/exec.c, fs/binfmt_elf.c): ELF64 static, PIE and
// with an interpreter, and `#!` scripts. Touches nothing of the caller, so that exec can fail.
#ifndef RINGWALL_SENTRY_LOADER_LOADER_H_
#define RINGWALL_SENTRY_LOADER_LOADER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "fs/vfs/vfs.h"
#include "platform/platform.h"
#include "sentry/abi/registers.h"
#include "sentry/mm/memory_manager.h"

namespace ringwall {

// Who the program will be, for the auxiliary vector.
struct ExecIdentity {
  Uid uid = 0, euid = 0;
  Gid gid = 0, egid = 0;
  bool secure = false;  // AT_SECURE
};

struct LoadArgs {
  Platform& platform;
  // The caller: finds interpreters, and its credentials are those before exec.
  const Walk& walk;
  // Opened for exec: a regular file that the caller may execute.
  RefPtr<File> file;
  std::string filename;  // AT_EXECFN, the process's name, and what a script's interpreter gets
  std::vector<std::string> argv, envp;
  MemoryLimits limits;
  bool randomize = true;  // not ADDR_NO_RANDOMIZE
  // `filename` will not be there for an interpreter (execveat of a close-on-exec descriptor).
  bool path_inaccessible = false;
  // AT_RSEQ_FEATURE_SIZE and AT_RSEQ_ALIGN, when rseq(2) works.
  uint64_t rseq_feature_size = 0, rseq_align = 0;
  // The identity after exec, when more than set-id bits decides (file capabilities). Called with
  // the program (not the script) and its set-id bits.
  std::function<ExecIdentity(File&, std::optional<Uid>, std::optional<Gid>)> identity;
  // Asked once the identity is known: the memory whose place the program may take, or null. Not
  // asked for a program that the caller may not read.
  std::function<MemoryManager*()> replaces;
};

struct LoadedImage {
  Ref<MemoryManager> mm;
  abi::Registers regs = {};  // all but rip, rsp, eflags and the segments are 0
  std::string comm;
  Ref<File> executable;  // of a script: its interpreter
  // Set-id bits that hold: not on a nosuid mount, not with no_new_privs.
  std::optional<Uid> setuid;
  std::optional<Gid> setgid;
  bool secure = false;
  // The caller may not read the executable: the process is not dumpable (would_dump).
  bool unreadable = false;

  // In place of other memory (mm->in_place()): nothing has been mapped yet; Commit() does it. When
  // it fails neither program is there any more.
  Result<void> Commit();
  std::vector<GuestRange> to_zero;
  std::vector<std::byte> stack;  // what lies at regs.rsp
};

// ENOEXEC, EACCES, ENOENT, ELIBBAD, ELOOP, E2BIG, EINVAL, ENOMEM, EIO.
Result<LoadedImage> LoadExecutable(LoadArgs args);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_LOADER_LOADER_H_
