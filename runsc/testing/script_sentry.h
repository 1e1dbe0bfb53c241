// A Sentry without stubs: system calls come from a script, guest memory is pages of this process.
// Everything above the platform is what `runsc boot` runs; so that fuzzers and TSan reach it all.
//
// Calls that would sleep are ended by a signal instead (EINTR), so a script of one task never waits.
#ifndef RINGWALL_RUNSC_TESTING_SCRIPT_SENTRY_H_
#define RINGWALL_RUNSC_TESTING_SCRIPT_SENTRY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "platform/platform.h"

namespace ringwall::testing {

// What a script may use: this much readable and writable memory from here on. The end of it is the
// stack.
inline constexpr uint64_t kScriptMemory = 0x1000'0000, kScriptMemorySize = 1 << 20;
inline constexpr uint64_t kScriptStack = kScriptMemory + kScriptMemorySize - 4096;

struct ScriptCall {
  uint64_t nr = 0;
  uint64_t args[6] = {};
};

// The system calls of one task. Called on the task's own thread.
class Script {
 public:
  virtual ~Script() = default;
  // The next call, after the one before returned `last`; none: exit_group(0).
  virtual std::optional<ScriptCall> Next(AddressSpace& memory, int64_t last) = 0;
  // Of a task that this one makes by clone; null: the new one ends its process at once.
  virtual std::unique_ptr<Script> OfChild() { return nullptr; }
};

// Runs a process with nothing open in a copy of a tree of tmpfs, /proc, /sys and /dev, in a /tmp and a
// network namespace that are fresh, and ends what it has left. One at a time. Its wait status.
int RunScript(std::unique_ptr<Script> script);

}  // namespace ringwall::testing

#endif  // RINGWALL_RUNSC_TESTING_SCRIPT_SENTRY_H_
