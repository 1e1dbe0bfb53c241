// overlay as a guest mounts it: directories by their names (fs/overlayfs/params.c, super.c).
#include "fs/overlay/guest_mount.h"

#include <optional>

#include "fs/overlay/overlay.h"
#include "fs/vfs/dentry.h"

namespace ringwall {

namespace {

constexpr size_t kMaxLowers = 500;

struct Names {
  std::vector<std::string> lowers;
  std::optional<std::string> upper, work;
  bool user_xattrs = false;
};

// The part up to an unescaped `stop`, without its backslashes.
std::string TakeName(std::string_view* text, char stop) {
  std::string name;
  while (!text->empty() && text->front() != stop) {
    if (text->front() == '\\' && text->size() > 1) text->remove_prefix(1);
    name += text->front();
    text->remove_prefix(1);
  }
  if (!text->empty()) text->remove_prefix(1);
  return name;
}

// One option, with its escapes still in it: they protect commas and colons alike.
std::string_view TakeOption(std::string_view* data) {
  size_t end = 0;
  while (end < data->size() && (*data)[end] != ',') end += (*data)[end] == '\\' ? 2 : 1;
  end = std::min(end, data->size());
  const std::string_view option = data->substr(0, end);
  data->remove_prefix(std::min(end + 1, data->size()));
  return option;
}

Result<Names> ParseNames(std::string_view data) {
  Names names;
  while (!data.empty()) {
    const std::string_view option = TakeOption(&data);
    if (option.empty()) continue;
    const size_t equals = std::min(option.find('='), option.size());
    const std::string_view key = option.substr(0, equals);
    std::string_view value = option.substr(std::min(equals + 1, option.size()));
    if (key == "lowerdir") {
      names.lowers.clear();
      while (!value.empty()) {
        std::string name = TakeName(&value, ':');
        if (name.empty() || names.lowers.size() == kMaxLowers) return Errno(EINVAL);
        names.lowers.push_back(std::move(name));
      }
    } else if (key == "lowerdir+") {
      names.lowers.push_back(TakeName(&value, '\0'));
    } else if (key == "upperdir") {
      names.upper = TakeName(&value, '\0');
    } else if (key == "workdir") {
      names.work = TakeName(&value, '\0');
    } else if (key == "userxattr") {
      names.user_xattrs = true;
    } else if (key != "index" && key != "redirect_dir" && key != "metacopy" && key != "xino" &&
               key != "nfs_export" && key != "volatile" && key != "default_permissions" &&
               key != "uuid") {
      // Those make no difference here; others are not known.
      return Errno(EINVAL);
    }
  }
  return names;
}

Result<Path> FindDirectory(const Walk& walk, const std::string& name) {
  const Path path = TRY(Vfs::Lookup(walk, name, {}));
  if (!path.dentry().is_directory()) return Errno(ENOTDIR);
  return path;
}

// Keeps a layer's file system going whoever unmounts it (clone_private_mount).
Path HoldLayer(const Path& dir) {
  Mount& m = dir.mount();
  RefPtr<Mount> own =
      MakeRef<Mount>(Ref<FileSystem>(m.fs()), Ref<Dentry>(dir.dentry_ref()), m.flags(), m.source());
  return Path(std::move(own), dir.dentry_ref());
}

std::string Escaped(const std::string& name) {
  std::string out;
  for (const char c : name) {
    if (c == ':' || c == ',' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

Result<Ref<FileSystem>> MountOverlay(const NewFsArgs& args) {
  const Names names = TRY(ParseNames(args.data));
  if (names.lowers.empty()) return Errno(EINVAL);
  // Without an upper directory it is read-only, and one layer alone makes no sense.
  if (!names.upper && names.lowers.size() < 2) return Errno(EINVAL);
  if (names.upper.has_value() && !names.work) return Errno(EINVAL);
  OverlayOptions options;
  if (names.user_xattrs) options.xattr_prefix = "user.overlay.";
  std::vector<Ref<Inode>> lowers;
  for (const std::string& name : names.lowers) {
    const Path lower = TRY(FindDirectory(args.walk, name));
    options.mount_options += (lowers.empty() ? "lowerdir=" : ":") + Escaped(name);
    lowers.push_back(Ref<Inode>(lower.dentry().inode()));
    options.held.push_back(HoldLayer(lower));
  }
  RefPtr<Inode> upper;
  if (names.upper) {
    const Path top = TRY(FindDirectory(args.walk, *names.upper));
    const Path work = TRY(FindDirectory(args.walk, *names.work));
    if (top.mount().read_only()) return Errno(EINVAL);
    // On one mount, neither inside the other.
    if (&top.mount() != &work.mount() || top.dentry().IsDescendantOf(work.dentry()) ||
        work.dentry().IsDescendantOf(top.dentry())) {
      return Errno(EINVAL);
    }
    // Its marks would mean something to the overlay below (ovl_dentry_remote()).
    if (top.dentry().inode()->fs().type_name() == "overlay") return Errno(EINVAL);
    Result<void> made = Vfs::Mkdir(args.walk, *names.work + "/work", 0);
    if (!made.ok() && !made.error().Is(EEXIST)) return made.error();
    upper = top.dentry().inode();
    options.mount_options += ",upperdir=" + Escaped(*names.upper) + ",workdir=" + Escaped(*names.work);
    options.held.push_back(HoldLayer(top));
  }
  if (names.user_xattrs) options.mount_options += ",userxattr";
  const bool read_only = !upper;
  Ref<OverlayFileSystem> fs =
      TRY(OverlayFileSystem::Create(std::move(upper), std::move(lowers), std::move(options)));
  if (read_only) fs->set_read_only(true);
  return Ref<FileSystem>(std::move(fs));
}

}  // namespace ringwall
