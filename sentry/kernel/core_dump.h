// Core files (core(5), fs/coredump.c): what becomes of a process that a signal with a core dump ends.
// One of its threads stops the others, names and opens the file, or starts the program that
// kernel.core_pattern pipes to, and writes the process's memory and registers in ELF's format
// (core_elf.h). The memory map is not locked meanwhile: nobody is left to change it, but other
// processes that share it.
#ifndef RINGWALL_SENTRY_KERNEL_CORE_DUMP_H_
#define RINGWALL_SENTRY_KERNEL_CORE_DUMP_H_

#include <atomic>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/vfs/file.h"
#include "sentry/abi/registers.h"
#include "sentry/abi/signal.h"
#include "sentry/auth/credentials.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"

namespace ringwall {

class Task;
class ThreadGroup;

// The sysctls: one set for the whole sandbox. Thread-safe.
class CoreSettings {
 public:
  static CoreSettings& Get();

  static constexpr size_t kMaxPattern = 127;
  std::string pattern() const {
    return pattern_.With([](const std::string& s) { return s; });
  }
  // Longer ones are cut.
  void set_pattern(std::string_view pattern);

  std::atomic<int> uses_pid{0}, pipe_limit{0};
  // What exec of a set-id program and a change of ids make of a process: 0, 1 or 2 (fs.suid_dumpable).
  std::atomic<int> suid_dumpable{0};

  // Makes a pipe. Set by whoever has pipes, once, before the first process.
  struct Pipe {
    Ref<File> reader, writer;
  };
  using PipeMaker = Result<Pipe> (*)();
  std::atomic<PipeMaker> make_pipe{nullptr};
  std::atomic<int> pipes{0};  // dumps to programs that are under way

 private:
  Guarded<std::string, LockClass::kLeaf> pattern_{"core"};
};

// What format_corename() needs to know of a process.
struct CoreNameFacts {
  int pid = 0, tid = 0;                // in the process's pid namespace
  int first_pid = 0, first_tid = 0;    // in the first one
  Uid uid = 0;
  Gid gid = 0;
  int dumpable = 1, signo = 0, cpu = 0;
  int64_t time = 0;
  uint64_t limit = 0;
  std::string hostname, comm;
  std::optional<std::string> executable;  // its path
};
struct CoreName {
  bool pipe = false;
  std::string file;               // unless it is a pipe
  std::vector<std::string> argv;  // of the program, if it is
};
// Nothing when the pattern names no program behind its '|'.
std::optional<CoreName> FormatCoreName(std::string_view pattern, bool uses_pid, const CoreNameFacts& facts);

// What a thread shows of itself before it waits.
struct CoreThread {
  abi::Registers regs;
  std::vector<std::byte> xstate;  // empty: could not be had
};

// A dump under way. Lives on the stack of the thread that writes it; under the group's siglock until no
// thread is waited for any more.
struct CoreDump {
  Task& dumper;
  int signo = 0;
  size_t awaited = 0;
  std::map<const Task*, CoreThread> threads = {};
  std::atomic<bool> killed{false};  // by SIGKILL, which ends the writing
};

// SIGKILL for a process that may be at it: what is written by now is all there will be. With its siglock
// held; any thread.
void StopCoreDump(const ThreadGroup& tg);
// With the siglock held.
bool IsDumpingCore(const ThreadGroup& tg);

// Where the bytes go: counts them, makes holes and stops at the limit. Not thread-safe.
class CoreSink {
 public:
  // limit: of RLIMIT_CORE, for bytes that are written; size_limit: of RLIMIT_FSIZE.
  CoreSink(Task& t, const CoreDump& dump, File& file, uint64_t limit, uint64_t size_limit)
      : task_(t), dump_(dump), file_(file), limit_(limit), size_limit_(size_limit) {}
  // Whether all was written: not beyond a limit, when the file takes no more, or after SIGKILL. Waits for
  // the reader of a pipe.
  bool Put(std::span<const std::byte> bytes);
  // Zeros: a hole where the file can have one.
  bool Skip(uint64_t n);
  // Makes the file as long as its last hole wants it.
  bool Finish();

 private:
  bool Write(std::span<const std::byte> bytes);

  Task& task_;
  const CoreDump& dump_;
  File& file_;
  const uint64_t limit_, size_limit_;
  uint64_t written_ = 0, pos_ = 0, skipped_ = 0;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_CORE_DUMP_H_
