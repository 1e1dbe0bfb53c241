// Mounts that a child makes in namespaces of its own, below its working directory, and what /proc says of them.
#ifndef RINGWALL_TESTS_UTIL_MOUNT_UTIL_H_
#define RINGWALL_TESTS_UTIL_MOUNT_UTIL_H_

#include <sys/mount.h>

#include <initializer_list>
#include <sstream>
#include <string>
#include <vector>

#include "tests/util/namespace_util.h"
#include "tests/util/test_util.h"

namespace ringwall::test {

// Runs body in a tmpfs.
template <typename F>
int InMounts(F body) {
  return InTmpfs("mode=755", body);
}

inline void Mkdirs(std::initializer_list<const char*> names) {
  for (const char* name : names) CHECK_CHILD(mkdir(name, 0755) == 0);
}

inline void Touch(const char* name) {
  Fd fd(open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  CHECK_CHILD(fd.ok());
}

inline bool Exists(const std::string& name) { return access(name.c_str(), F_OK) == 0; }

struct MountLine {
  int id = 0, parent = 0;
  std::string dev, root, at, options, optional, type, source, super_options;
};

inline std::vector<MountLine> Mountinfo() {
  std::vector<MountLine> all;
  std::istringstream in(ReadFile("/proc/self/mountinfo"));
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream fields(line);
    MountLine m;
    fields >> m.id >> m.parent >> m.dev >> m.root >> m.at >> m.options;
    std::string word;
    while (fields >> word && word != "-") m.optional += (m.optional.empty() ? "" : " ") + word;
    fields >> m.type >> m.source >> m.super_options;
    all.push_back(m);
  }
  return all;
}

// The last mount on a path (below the working directory).
inline MountLine LineOf(const std::string& name) {
  char cwd[4096];
  CHECK_CHILD(getcwd(cwd, sizeof(cwd)) != nullptr);
  const std::string at = name.empty() ? std::string(cwd) : std::string(cwd) + "/" + name;
  MountLine found;
  for (const MountLine& m : Mountinfo()) {
    if (m.at == at) found = m;
  }
  return found;
}

inline int Count(const std::string& name) {
  char cwd[4096];
  CHECK_CHILD(getcwd(cwd, sizeof(cwd)) != nullptr);
  int n = 0;
  for (const MountLine& m : Mountinfo()) n += m.at == std::string(cwd) + "/" + name ? 1 : 0;
  return n;
}

#define CHECK_FAILS(call, error) CHECK_CHILD((errno = 0, (call) == -1 && errno == (error)))

}  // namespace ringwall::test

#endif  // RINGWALL_TESTS_UTIL_MOUNT_UTIL_H_
