#include "sentry/strace/strace.h"

#include <inttypes.h>
#include <string.h>

#include <set>
#include <string>

#include "sentry/base/log.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

constexpr size_t kStringShown = 64;

void AppendString(Task& t, uint64_t addr, std::string* out) {
  if (addr == 0) {
    *out += "NULL";
    return;
  }
  // Strings longer than what is shown are cut; CopyInString refuses them, so read bytes.
  char buffer[kStringShown + 1] = {};
  Result<size_t> n =
      t.mm().CopyInPartial(GuestAddr(addr), std::as_writable_bytes(std::span(buffer, kStringShown)));
  char text[32];
  if (!n.ok()) {
    snprintf(text, sizeof(text), "%#" PRIx64, addr);
    *out += text;
    return;
  }
  const size_t length = strnlen(buffer, *n);
  *out += '"';
  for (size_t i = 0; i < length; i++) {
    const unsigned char c = static_cast<unsigned char>(buffer[i]);
    if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
      *out += buffer[i];
    } else {
      snprintf(text, sizeof(text), "\\x%02x", c);
      *out += text;
    }
  }
  *out += length == kStringShown ? "\"..." : "\"";
}

std::string Arguments(Task& t, const SyscallRow* row, const RawArgs& args) {
  const char* format = row != nullptr ? row->format : "xxxxxx";
  std::string out;
  for (size_t i = 0; i < 6 && format[i] != '\0'; i++) {
    if (i != 0) out += ", ";
    char text[32];
    switch (format[i]) {
      case 's':
        AppendString(t, args[i], &out);
        continue;
      case 'd':
      case 'f':
        snprintf(text, sizeof(text), "%d", static_cast<int32_t>(args[i]));
        break;
      case 'l':
        snprintf(text, sizeof(text), "%" PRId64, static_cast<int64_t>(args[i]));
        break;
      case 'u':
        snprintf(text, sizeof(text), "%" PRIu64, args[i]);
        break;
      case 'm':
        snprintf(text, sizeof(text), "%#o", static_cast<uint32_t>(args[i]));
        break;
      default:
        snprintf(text, sizeof(text), "%#" PRIx64, args[i]);
        break;
    }
    out += text;
  }
  return out;
}

}  // namespace

bool StraceWanted(Kernel& kernel, uint64_t nr) {
  const SyscallRow* row = kernel.syscalls().Find(nr);
  return kernel.StraceWanted(row != nullptr ? row->name : "");
}

void StraceEnter(Task& t, const SyscallRow* row, const RawArgs& args) {
  LogMessage(LogLevel::kInfo, "[%d] %s E %s(%s)", t.tid(), t.comm().c_str(),
             row != nullptr ? row->name : "?", Arguments(t, row, args).c_str());
}

void StraceExit(Task& t, const SyscallRow* row, const RawArgs& args,
                const Result<int64_t>& result) {
  const char* name = row != nullptr ? row->name : "?";
  const std::string shown = t.alive() ? Arguments(t, row, args) : std::string("...");
  if (result.ok()) {
    LogMessage(LogLevel::kInfo, "[%d] %s X %s(%s) = %#" PRIx64, t.tid(), t.comm().c_str(), name,
               shown.c_str(), static_cast<uint64_t>(*result));
  } else {
    const int e = result.error().value();
    const char* text = e < kErestartSys ? strerrorname_np(e) : "ERESTART";
    LogMessage(LogLevel::kInfo, "[%d] %s X %s(%s) = -%s", t.tid(), t.comm().c_str(), name,
               shown.c_str(), text != nullptr ? text : "?");
  }
}

void LogUnsupported(Task& t, const SyscallRow* row, uint64_t nr, const RawArgs& args) {
  static Guarded<std::set<std::pair<std::string, uint64_t>>, LockClass::kLeaf> said;
  const std::string comm = t.comm();
  const bool fresh = said.With([&](auto& set) {
    return set.size() < 4096 && set.emplace(comm, nr).second;
  });
  if (!fresh) return;
  RW_LOG(kInfo, "%s[%d]: unsupported system call %s (%" PRIu64 ") with %s", comm.c_str(), t.tid(),
         row != nullptr ? row->name : "unknown", nr, Arguments(t, row, args).c_str());
}

}  // namespace ringwall
