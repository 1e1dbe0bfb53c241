// The `#!` line of a script, by the rules of Linux's fs/binfmt_script.c. Hostile input.
#ifndef RINGWALL_SENTRY_LOADER_SCRIPT_H_
#define RINGWALL_SENTRY_LOADER_SCRIPT_H_

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "sentry/base/result.h"

namespace ringwall {

// How much of a file execve looks at to tell what it is (BINPRM_BUF_SIZE).
inline constexpr size_t kExecHeadSize = 256;

struct Script {
  std::string interpreter;
  std::optional<std::string> argument;  // all of the rest of the line
};

bool IsScript(std::span<const std::byte> file_start);

// `file_start`: the file's first bytes, at most kExecHeadSize are looked at. ENOEXEC when there is
// no interpreter or its name does not fit.
Result<Script> ParseScript(std::span<const std::byte> file_start);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_LOADER_SCRIPT_H_
