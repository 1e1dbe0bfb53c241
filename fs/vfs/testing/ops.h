// The same file operations on a Ringwall file system and on the host's own, as text that can be
// compared: Linux is the oracle of the tests here. Each operation answers "ok ..." or the name of
// the errno.
#ifndef RINGWALL_FS_VFS_TESTING_OPS_H_
#define RINGWALL_FS_VFS_TESTING_OPS_H_

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "fs/vfs/vfs.h"

namespace ringwall::testing {

class Ops {
 public:
  virtual ~Ops() = default;
  virtual std::string Mkdir(const std::string& path, uint32_t mode) = 0;
  virtual std::string Rmdir(const std::string& path) = 0;
  virtual std::string Unlink(const std::string& path) = 0;
  virtual std::string Symlink(const std::string& target, const std::string& path) = 0;
  virtual std::string Link(const std::string& from, const std::string& to, bool follow) = 0;
  virtual std::string Rename(const std::string& from, const std::string& to, uint32_t flags) = 0;
  virtual std::string Mknod(const std::string& path, uint32_t mode) = 0;
  // Opens, writes `data` unless it is empty, reads up to 100 bytes if readable, closes.
  virtual std::string Open(const std::string& path, uint32_t flags, uint32_t mode,
                           const std::string& data) = 0;
  virtual std::string Stat(const std::string& path, bool follow) = 0;
  virtual std::string ReadLink(const std::string& path) = 0;
  virtual std::string Truncate(const std::string& path, uint64_t size) = 0;
  virtual std::string Chmod(const std::string& path, uint32_t mode) = 0;
  virtual std::string SetXattr(const std::string& path, const std::string& name,
                               const std::string& value, int flags) = 0;
  virtual std::string GetXattr(const std::string& path, const std::string& name) = 0;
  // The names in a directory with their types, sorted.
  virtual std::string List(const std::string& path) = 0;
};

// Paths are resolved from the root of the namespace. Nothing is copied: they must outlive it.
std::unique_ptr<Ops> MakeVfsOps(MountNamespace& mounts, const Credentials& creds);
// The host's, from the caller's root directory.
std::unique_ptr<Ops> MakeHostOps();

// Runs body on a thread whose root directory is a fresh, empty directory of the host (on tmpfs if
// there is one), umask 0. Returns false when the host does not permit it.
bool InHostSandbox(const std::function<void()>& body);

// One random operation on names from a small set, described by its text for messages.
struct RandomOp {
  std::string text;
  std::function<std::string(Ops&)> run;
};
RandomOp MakeRandomOp(std::mt19937& random);

// The whole tree as text: names, types, modes, link counts, sizes, contents. Sizes of directories
// are left out, their link counts if not asked for.
std::string DescribeTree(Ops& ops, const std::string& path, bool directory_links);

}  // namespace ringwall::testing

#endif  // RINGWALL_FS_VFS_TESTING_OPS_H_
