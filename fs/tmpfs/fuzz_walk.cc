// libFuzzer: path names and extended attributes as guests could pass them, by operations on a small
// tree of two mounts. Input: again and again a byte that chooses the operation, one for flags, one for
// the length of the name that follows.
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#include "fs/tmpfs/tmpfs.h"
#include "fs/vfs/vfs.h"
#include "sentry/base/check.h"

using namespace ringwall;

namespace {

constexpr size_t kMostOperations = 64;

class Tree {
 public:
  Tree()
      : fs_(TmpfsFileSystem::Create({.size = 1 << 20, .nr_inodes = 100})),
        mounts_(MakeRef<MountNamespace>(Mount::Make(Ref<FileSystem>(*fs_), 0, "tmpfs"))),
        root_(mounts_->root()),
        start_(root_) {
    static_cast<void>(Vfs::Mkdir(walk(), "d", 0777).ok());
    static_cast<void>(Vfs::Mkdir(walk(), "d/e", 0777).ok());
    static_cast<void>(Vfs::Symlink(walk(), "../d/./e//", "d/e/up").ok());
    static_cast<void>(Vfs::Symlink(walk(), "loop", "loop").ok());
    static_cast<void>(Vfs::Symlink(walk(), "/d", "abs").ok());
    static_cast<void>(Vfs::Open(walk(), "f", O_CREAT | O_RDWR, 0644, nullptr).ok());
    start_ = *Vfs::Lookup(walk(), "d", {});
  }
  ~Tree() {
    start_ = root_;
    fs_.reset();
  }

  void Step(uint8_t what, uint8_t flags, std::string_view name) {
    Walk w = walk();
    if ((flags & 0xe0) != 0) w.resolve = flags >> 3 & (RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH | RESOLVE_IN_ROOT);
    if ((w.resolve & RESOLVE_BENEATH) != 0) w.resolve &= ~uint64_t{RESOLVE_IN_ROOT};
    const size_t middle = name.size() / 2;
    const std::string_view one = name.substr(0, middle), two = name.substr(middle);
    switch (what % 14) {
      case 0: {
        const Result<Path> path = Vfs::Lookup(w, name, {.follow_last = (flags & 1) != 0, .directory = (flags & 2) != 0,
                                                        .allow_empty = (flags & 4) != 0});
        if (path.ok()) Use(*path, name);
        break;
      }
      case 1: Use(Vfs::Mkdir(w, name, flags)); break;
      case 2: Use(Vfs::Unlink(w, name)); break;
      case 3: Use(Vfs::Rmdir(w, name)); break;
      case 4: Use(Vfs::Symlink(w, one, two)); break;
      case 5: Use(Vfs::Rename(w, one, w, two, flags & 7)); break;
      case 6: Use(Vfs::Open(w, name, (flags & 1) != 0 ? O_CREAT | O_RDWR : O_RDONLY | O_DIRECTORY, 0644, nullptr)); break;
      case 7: Use(Vfs::Mknod(w, name, S_IFREG | 0600, 0)); break;
      case 8: {
        const Result<Path> path = Vfs::Lookup(w, one, {.follow_last = false});
        if (path.ok()) Use(Vfs::Link(*path, w, two));
        break;
      }
      case 9: Use(Vfs::SetXattr(*creds_, *path_, one, two, flags & 3)); break;
      case 10: Use(Vfs::GetXattr(*creds_, *path_, name)); break;
      case 11: Use(Vfs::RemoveXattr(*creds_, *path_, name)); break;
      case 12: Use(Vfs::SetXattr(*creds_, *path_, (flags & 1) != 0 ? kAcl : kDefaultAcl, name, 0)); break;
      default: {
        const Result<Path> path = Vfs::Lookup(w, name, {});
        if (path.ok()) path_ = *path;
        break;
      }
    }
  }

 private:
  static constexpr std::string_view kAcl = "system.posix_acl_access", kDefaultAcl = "system.posix_acl_default";

  Walk walk() { return {*creds_, *mounts_, root_, start_}; }
  template <typename T>
  void Use(const Result<T>& result) {
    RW_CHECK(result.ok() || (result.error_value() > 0 && result.error_value() < 4096));
  }
  void Use(const Path& path, std::string_view) {
    RW_CHECK(Vfs::Stat(path).ok());
    const std::string full = Vfs::FullName(path, root_, *mounts_);
    RW_CHECK(!full.empty());
    static_cast<void>(Vfs::ReadLink(path).ok());
    static_cast<void>(Vfs::ListXattr(*creds_, path).ok());
  }

  Ref<const Credentials> creds_ = Credentials::Root();
  RefPtr<TmpfsFileSystem> fs_;
  RefPtr<MountNamespace> mounts_;
  Path root_, start_;
  std::optional<Path> path_ = root_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Tree tree;
  for (size_t i = 0; i < kMostOperations && size >= 3; i++) {
    const size_t length = std::min<size_t>(data[2], size - 3);
    tree.Step(data[0], data[1], {reinterpret_cast<const char*>(data) + 3, length});
    data += 3 + length;
    size -= 3 + length;
  }
  return 0;
}
