#include "fs/vfs/special_files.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <vector>

namespace ringwall {

namespace {

struct Driver {
  uint32_t type, major, first_minor, count;
  OpenSpecialFn open;
};

struct Registry {
  std::vector<Driver> drivers;
  OpenSpecialFn fifo = nullptr;
};

Registry& registry() {
  static auto* r = new Registry;
  return *r;
}

}  // namespace

void RegisterDevice(uint32_t type, uint32_t major, uint32_t first_minor, uint32_t count,
                    OpenSpecialFn open) {
  registry().drivers.push_back({type, major, first_minor, count, open});
}

void RegisterFifo(OpenSpecialFn open) { registry().fifo = open; }

Result<Ref<File>> OpenSpecial(Inode& inode, const Path& path, uint32_t flags,
                              const Credentials& creds, uint64_t rdev) {
  if (inode.type() == S_IFIFO) {
    if (registry().fifo == nullptr) return Errno(ENXIO);
    return registry().fifo(inode, path, flags, creds, rdev);
  }
  const uint32_t dev_major = major(rdev), dev_minor = minor(rdev);
  for (const Driver& d : registry().drivers) {
    if (d.type == inode.type() && d.major == dev_major && dev_minor >= d.first_minor &&
        dev_minor - d.first_minor < d.count) {
      return d.open(inode, path, flags, creds, rdev);
    }
  }
  return Errno(ENXIO);
}

}  // namespace ringwall
