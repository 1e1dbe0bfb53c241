// What a new program finds on its stack: argc, argv, envp, the auxiliary vector and their strings
// (fs/exec.c:copy_strings, fs/binfmt_elf.c:create_elf_tables).
#ifndef RINGWALL_SENTRY_LOADER_STACK_IMAGE_H_
#define RINGWALL_SENTRY_LOADER_STACK_IMAGE_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "sentry/base/guest_addr.h"
#include "sentry/base/result.h"

namespace ringwall {

// Longest argument or environment string with its NUL (MAX_ARG_STRLEN).
inline constexpr size_t kMaxArgString = 128 << 10;

// How many bytes strings and pointers may take under this RLIMIT_STACK.
uint64_t ArgumentLimit(uint64_t stack_limit);

// E2BIG when argv and envp with the filename need more than that.
Result<void> CheckArguments(const std::string& filename, const std::vector<std::string>& argv,
                            const std::vector<std::string>& envp, uint64_t stack_limit);

struct AuxEntry {
  uint64_t type;
  uint64_t value;
};

struct StackArgs {
  GuestAddr top;               // the end of the stack mapping
  uint64_t random_offset = 0;  // how far below the strings the rest begins, below 8 KiB
  const std::string& filename;
  const std::vector<std::string>& argv;
  const std::vector<std::string>& envp;
  std::array<std::byte, 16> random_bytes;  // AT_RANDOM
  // In the order in which they are to appear. AT_EXECFN, AT_RANDOM and AT_PLATFORM get their values
  // here; AT_NULL is added.
  std::vector<AuxEntry> auxv;
};

struct StackImage {
  std::vector<std::byte> bytes;  // for [stack_pointer, top)
  GuestAddr stack_pointer;
  GuestAddr arg_start, arg_end, env_start, env_end;
  std::vector<uint64_t> auxv;  // as /proc/PID/auxv shows it
};

StackImage BuildStack(const StackArgs& args);

// Bytes from the stack pointer to the top that BuildStack needs at most.
uint64_t StackImageBound(const StackArgs& args);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_LOADER_STACK_IMAGE_H_
