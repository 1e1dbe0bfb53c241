#include "runsc/container/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

HostResult<void> MakeDirectories(const std::string& path, mode_t mode) {
  for (size_t at = path.find('/', 1);; at = path.find('/', at + 1)) {
    const std::string part = path.substr(0, at);
    if (mkdir(part.c_str(), mode) != 0 && errno != EEXIST) return HostError::Last("make", part);
    if (at == std::string::npos) return {};
  }
}

HostResult<void> WriteFileAtomically(const std::string& path, const std::string& text) {
  const std::string fresh = path + ".new";
  {
    UniqueFd fd(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!fd || ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      return HostError::Last("write", fresh);
    }
  }
  if (rename(fresh.c_str(), path.c_str()) != 0) return HostError::Last("write", path);
  return {};
}

std::optional<uint64_t> ProcessStartTime(pid_t pid) {
  char text[1024];
  UniqueFd fd(::open(("/proc/" + std::to_string(pid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  const ssize_t n = RetryEintr([&] { return ::read(fd.get(), text, sizeof(text) - 1); });
  if (n <= 0) return std::nullopt;
  text[n] = '\0';
  // The name in field 2 may hold anything, also parentheses.
  const char* at = strrchr(text, ')');
  if (at == nullptr || at[1] == '\0' || at[2] == 'Z' || at[2] == 'X') return std::nullopt;
  for (int field = 2; field < 22; field++) {
    at = strchr(at + 1, ' ');
    if (at == nullptr) return std::nullopt;
  }
  return strtoull(at + 1, nullptr, 10);
}

std::string FormatTime(int64_t ns) {
  const time_t seconds = ns / 1'000'000'000;
  tm utc;
  gmtime_r(&seconds, &utc);
  char text[64];
  const size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
  snprintf(text + n, sizeof(text) - n, ".%09dZ", static_cast<int>(ns % 1'000'000'000));
  return text;
}

}  // namespace ringwall
