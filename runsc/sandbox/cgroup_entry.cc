#include "runsc/sandbox/cgroup_entry.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "runsc/sandbox/namespaces.h"
#include "sentry/base/result.h"

namespace ringwall {

CgroupEntry::CgroupEntry(const std::vector<std::string>& directories) : directories_(directories) {
  size_t opened = 0;
  for (const std::string& directory : directories_) {
    UniqueFd tasks(::open((directory + "/tasks").c_str(), O_WRONLY | O_CLOEXEC));
    if (tasks) {
      tasks_.push_back(std::move(tasks));
      opened++;
    } else if (errno == ENOENT && !unified_) {
      unified_.reset(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      opened += unified_.valid() ? 1 : 0;
    }
  }
  complete_ = opened == directories_.size();
}

bool CgroupEntry::EnterSelf() {
  for (const UniqueFd& tasks : tasks_) {
    // "0" is whoever writes, and only then the kernel takes no lock against threads that come and go.
    if (::write(tasks.get(), "0", 1) != 1) return false;
  }
  return true;
}

pid_t CgroupEntry::Clone(uint64_t namespace_flags) {
  inside_ = false;
  UniqueFd told, teller;
  int pair[2];
  if (empty() || !complete_ || pipe2(pair, O_CLOEXEC) != 0) return CloneProcess(namespace_flags);
  told.reset(pair[0]);
  teller.reset(pair[1]);
  bool born = true;
  pid_t pid = -1;
  if (unified_) pid = CloneProcess(namespace_flags, unified_.get());
  if (pid < 0) {
    // Refused perhaps for the namespaces, which the second try tells.
    born = !unified_.valid();
    pid = CloneProcess(namespace_flags);
  }
  if (pid < 0) return pid;
  if (pid == 0) {
    if (born && EnterSelf()) RetryEintr([&] { return ::write(teller.get(), "y", 1); });
    tasks_.clear();
    unified_.reset();
    return 0;
  }
  teller.reset();
  char answer = 0;
  inside_ = RetryEintr([&] { return ::read(told.get(), &answer, 1); }) == 1;
  return pid;
}

HostResult<void> CgroupEntry::Finish(pid_t child) const {
  if (inside_) return {};
  for (const std::string& directory : directories_) {
    const std::string path = directory + "/cgroup.procs", number = std::to_string(child);
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd) return HostError::Last("open", path);
    if (::write(fd.get(), number.data(), number.size()) != static_cast<ssize_t>(number.size())) {
      return HostError::Last("write \"" + number + "\" to", path);
    }
  }
  return {};
}

}  // namespace ringwall
