// Children that are root in a user namespace of their own, and have mounts there: what they test needs
// no privilege.
#ifndef RINGWALL_TESTS_UTIL_NAMESPACE_UTIL_H_
#define RINGWALL_TESTS_UTIL_NAMESPACE_UTIL_H_

#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include <string>

#include "tests/util/test_util.h"

namespace ringwall::test {

// Whether all of it went by one call into a file that is there, or with O_CREAT in `flags` need not be.
inline bool Write(const std::string& path, const std::string& text, int flags = 0) {
  Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, 0644));
  return fd.ok() && write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

// The calling child enters a user namespace in which it is root, and `more` namespaces.
inline void BecomeRootInside(int more = 0) {
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  // After a change of ids /proc/self is root's.
  CHECK_CHILD(prctl(PR_SET_DUMPABLE, 1) == 0);
  CHECK_CHILD(unshare(CLONE_NEWUSER | more) == 0);
  CHECK_CHILD(Write("/proc/self/setgroups", "deny"));
  CHECK_CHILD(Write("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1"));
  CHECK_CHILD(Write("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1"));
}

// A child in namespaces of its own with a fresh tmpfs as its working directory, whose mounts are
// private.
template <typename F>
int InTmpfs(const std::string& options, F body) {
  const TempDir dir;
  return InChild([&] {
    BecomeRootInside(CLONE_NEWNS);
    CHECK_CHILD(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
    CHECK_CHILD(mount("work", dir.path().c_str(), "tmpfs", 0, options.c_str()) == 0);
    CHECK_CHILD(chdir(dir.path().c_str()) == 0);
    return body();
  });
}

}  // namespace ringwall::test

#endif  // RINGWALL_TESTS_UTIL_NAMESPACE_UTIL_H_
