#include "runsc/sandbox/caller.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sentry/base/log.h"

namespace ringwall {

BootCaps DefaultCaps(uid_t uid) {
  BootCaps caps;
  caps.bounding = kAllCaps;
  if (uid == 0) caps.effective = caps.permitted = kAllCaps;
  return caps;
}

HostResult<BootProcess> CallersProcess() {
  BootProcess process;
  for (char** variable = environ; *variable != nullptr; variable++) {
    process.envp.emplace_back(*variable);
  }
  char directory[PATH_MAX];
  if (getcwd(directory, sizeof(directory)) == nullptr) {
    // Removed meanwhile, or in a directory that may not be read.
    RW_LOG(kWarning, "the current directory has no name (%m); the program starts in /");
    directory[0] = '\0';
  }
  // "(unreachable)..." when it lies outside our root.
  process.cwd = directory[0] == '/' ? directory : "/";
  process.uid = geteuid();
  process.gid = getegid();
  process.groups.resize(NGROUPS_MAX);
  const int groups = getgroups(NGROUPS_MAX, process.groups.data());
  process.groups.resize(groups < 0 ? 0 : static_cast<size_t>(groups));
  process.caps = DefaultCaps(process.uid);
  errno = 0;
  const int nice = getpriority(PRIO_PROCESS, 0);
  if (errno == 0) process.nice = nice;
  process.umask = umask(0);
  umask(*process.umask);
  for (int resource = 0; resource < static_cast<int>(RLIMIT_NLIMITS); resource++) {
    rlimit limit;
    if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) continue;
    process.rlimits.push_back({resource, limit.rlim_cur, limit.rlim_max});
  }
  for (int signal = 1; signal <= 64; signal++) {
    struct sigaction action;
    if (sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) {
      process.ignored_signals |= uint64_t{1} << (signal - 1);
    }
  }
  sigset_t blocked;
  sigprocmask(SIG_SETMASK, nullptr, &blocked);
  for (int signal = 1; signal <= 64; signal++) {
    if (sigismember(&blocked, signal) == 1) process.blocked_signals |= uint64_t{1} << (signal - 1);
  }
  return process;
}

void SetVariable(std::vector<std::string>& envp, const std::string& variable) {
  const size_t equals = variable.find('=');
  const std::string name = variable.substr(0, equals) + "=";
  std::string whole = variable;
  if (equals == std::string::npos) {
    const char* value = getenv(variable.c_str());
    if (value == nullptr) return;
    whole = name + value;
  }
  for (std::string& known : envp) {
    if (known.compare(0, name.size(), name) == 0) {
      known = whole;
      return;
    }
  }
  envp.push_back(whole);
}

int RlimitByName(const std::string& name) {
  static constexpr std::pair<const char*, int> kNames[] = {
      {"AS", RLIMIT_AS},           {"CORE", RLIMIT_CORE},
      {"CPU", RLIMIT_CPU},         {"DATA", RLIMIT_DATA},
      {"FSIZE", RLIMIT_FSIZE},     {"LOCKS", RLIMIT_LOCKS},
      {"MEMLOCK", RLIMIT_MEMLOCK}, {"MSGQUEUE", RLIMIT_MSGQUEUE},
      {"NICE", RLIMIT_NICE},       {"NOFILE", RLIMIT_NOFILE},
      {"NPROC", RLIMIT_NPROC},     {"RSS", RLIMIT_RSS},
      {"RTPRIO", RLIMIT_RTPRIO},   {"RTTIME", RLIMIT_RTTIME},
      {"SIGPENDING", RLIMIT_SIGPENDING}, {"STACK", RLIMIT_STACK}};
  const char* bare = name.c_str();
  if (strncmp(bare, "RLIMIT_", 7) == 0) bare += 7;
  for (const auto& [known, number] : kNames) {
    if (strcasecmp(bare, known) == 0) return number;
  }
  return -1;
}

HostResult<BootRlimit> ParseUlimit(const std::string& text) {
  const HostError bad = HostError::Message("--ulimit: \"" + text +
                                           "\" is not NAME=SOFT[:HARD], for example nofile=1024");
  const size_t equals = text.find('=');
  if (equals == std::string::npos) return bad;
  BootRlimit limit;
  limit.resource = RlimitByName(text.substr(0, equals));
  if (limit.resource < 0) return bad;
  const auto number = [](const std::string& digits, uint64_t* out) {
    if (digits == "unlimited" || digits == "-1") return *out = RLIM_INFINITY, true;
    char* end = nullptr;
    errno = 0;
    *out = strtoull(digits.c_str(), &end, 10);
    return !digits.empty() && *end == '\0' && errno == 0 && digits[0] != '-';
  };
  const std::vector<std::string> values = Split(text.substr(equals + 1), ':');
  if (values.size() > 2 || !number(values[0], &limit.soft) ||
      !number(values.back(), &limit.hard) || limit.soft > limit.hard) {
    return bad;
  }
  return limit;
}

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

}  // namespace ringwall
