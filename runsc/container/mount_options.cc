#include <sys/mount.h>

#include <algorithm>

#include "runsc/container/convert.h"

#ifndef MS_LAZYTIME
#define MS_LAZYTIME (1 << 25)
#endif

namespace ringwall {
namespace {

struct Option {
  const char* name;
  uint64_t set, clear;
};

constexpr Option kFlags[] = {
    {"async", 0, MS_SYNCHRONOUS},
    {"atime", 0, MS_NOATIME},
    {"defaults", 0, 0},
    {"dev", 0, MS_NODEV},
    {"diratime", 0, MS_NODIRATIME},
    {"dirsync", MS_DIRSYNC, 0},
    {"exec", 0, MS_NOEXEC},
    {"iversion", MS_I_VERSION, 0},
    {"lazytime", MS_LAZYTIME, 0},
    {"loud", 0, MS_SILENT},
    {"mand", MS_MANDLOCK, 0},
    {"noatime", MS_NOATIME, 0},
    {"nodev", MS_NODEV, 0},
    {"nodiratime", MS_NODIRATIME, 0},
    {"noexec", MS_NOEXEC, 0},
    {"noiversion", 0, MS_I_VERSION},
    {"nolazytime", 0, MS_LAZYTIME},
    {"nomand", 0, MS_MANDLOCK},
    {"norelatime", 0, MS_RELATIME},
    {"nostrictatime", 0, MS_STRICTATIME},
    {"nosuid", MS_NOSUID, 0},
    {"relatime", MS_RELATIME, 0},
    {"remount", MS_REMOUNT, 0},
    {"ro", MS_RDONLY, 0},
    {"rro", MS_RDONLY, 0},
    {"ratime", 0, MS_NOATIME},
    {"rdev", 0, MS_NODEV},
    {"rdiratime", 0, MS_NODIRATIME},
    {"rexec", 0, MS_NOEXEC},
    {"rnoatime", MS_NOATIME, 0},
    {"rnodev", MS_NODEV, 0},
    {"rnodiratime", MS_NODIRATIME, 0},
    {"rnoexec", MS_NOEXEC, 0},
    {"rnorelatime", 0, MS_RELATIME},
    {"rnostrictatime", 0, MS_STRICTATIME},
    {"rnosuid", MS_NOSUID, 0},
    {"rrelatime", MS_RELATIME, 0},
    {"rrw", 0, MS_RDONLY},
    {"rstrictatime", MS_STRICTATIME, 0},
    {"rsuid", 0, MS_NOSUID},
    {"rw", 0, MS_RDONLY},
    {"silent", MS_SILENT, 0},
    {"strictatime", MS_STRICTATIME, 0},
    {"suid", 0, MS_NOSUID},
    {"sync", MS_SYNCHRONOUS, 0},
};

constexpr Option kPropagation[] = {
    {"private", MS_PRIVATE, 0},
    {"rprivate", MS_PRIVATE | MS_REC, 0},
    {"rshared", MS_SHARED | MS_REC, 0},
    {"rslave", MS_SLAVE | MS_REC, 0},
    {"runbindable", MS_UNBINDABLE | MS_REC, 0},
    {"shared", MS_SHARED, 0},
    {"slave", MS_SLAVE, 0},
    {"unbindable", MS_UNBINDABLE, 0},
};

const Option* Find(const Option* first, const Option* last, const std::string& name) {
  const Option* found =
      std::find_if(first, last, [&](const Option& option) { return name == option.name; });
  return found == last ? nullptr : found;
}

}  // namespace

MountOptions ParseMountOptions(const std::vector<std::string>& options) {
  MountOptions out;
  for (const std::string& option : options) {
    if (option == "bind" || option == "rbind") {
      out.bind = true;
      out.recursive |= option == "rbind";
    } else if (option == "idmap" || option == "ridmap") {
      out.id_mapped = true;
    } else if (const Option* flag = Find(std::begin(kFlags), std::end(kFlags), option)) {
      out.flags = (out.flags & ~flag->clear) | flag->set;
    } else if (const Option* kind = Find(std::begin(kPropagation), std::end(kPropagation),
                                         option)) {
      out.propagation = kind->set;
    } else {
      if (!out.data.empty()) out.data += ',';
      out.data += option;
    }
  }
  return out;
}

}  // namespace ringwall
