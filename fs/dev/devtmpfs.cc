#include "fs/dev/devtmpfs.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fs/tmpfs/tmpfs.h"

namespace ringwall {

Result<Ref<FileSystem>> NewDevTmpfs() {
  TmpfsOptions options;
  options.mode = 0755;
  Ref<TmpfsFileSystem> fs = TmpfsFileSystem::Create(options);
  Ref<Inode> root = fs->root();

  struct Device {
    const char* name;
    unsigned major, minor;
  };
  static constexpr Device kDevices[] = {{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
                                        {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
  for (const Device& d : kDevices) {
    NewInode node;
    node.mode = S_IFCHR | 0666;
    node.rdev = makedev(d.major, d.minor);
    TRY(root->Mknod(d.name, node));
  }
  static constexpr const char* kLinks[][2] = {{"fd", "/proc/self/fd"},
                                              {"stdin", "/proc/self/fd/0"},
                                              {"stdout", "/proc/self/fd/1"},
                                              {"stderr", "/proc/self/fd/2"},
                                              {"core", "/proc/kcore"},
                                              {"ptmx", "pts/ptmx"}};
  for (const auto& link : kLinks) {
    TRY(root->Symlink(link[0], link[1], NewInode{S_IFLNK | 0777, 0, 0, 0}));
  }
  for (const char* name : {"pts", "shm", "mqueue"}) {
    TRY(root->Mkdir(name, NewInode{S_IFDIR | 0755, 0, 0, 0}));
  }
  Ref<Inode> net = TRY(root->Mkdir("net", NewInode{S_IFDIR | 0755, 0, 0, 0}));
  TRY(net->Mknod("tun", NewInode{S_IFCHR | 0666, 0, 0, makedev(10, 200)}));
  return Ref<FileSystem>(std::move(fs));
}

}  // namespace ringwall
