// mounts, mountinfo, mountstats (fs/proc_namespace.c).
#include <sys/sysmacros.h>

#include "fs/proc/internal.h"

namespace ringwall::proc {

namespace {

std::string MountFlags(uint32_t flags) {
  std::string out;
  if (flags & MS_NOSUID) out += ",nosuid";
  if (flags & MS_NODEV) out += ",nodev";
  if (flags & MS_NOEXEC) out += ",noexec";
  if (flags & MS_NOATIME) out += ",noatime";
  if (flags & MS_NODIRATIME) out += ",nodiratime";
  if (flags & MS_RELATIME) out += ",relatime";
  if (flags & MS_NOSYMFOLLOW) out += ",nosymfollow";
  return out;
}

std::string Source(const Mount& m) {
  return Escape(m.source().empty() ? std::string_view("none") : std::string_view(m.source()), "#");
}

// The place of a mount's root in its own file system.
std::string RootOf(const Mount& m) {
  std::string name;
  RefPtr<Dentry> at(&m.root());
  for (;;) {
    RefPtr<Dentry> parent = at->parent();
    if (!parent) break;
    name.insert(0, "/" + at->name());
    at = std::move(parent);
  }
  return name.empty() ? "/" : Escape(name, "#");
}

// Calls f(info, mount point) for each mount below the task's root.
template <typename F>
Result<void> ForEachMount(Task& t, F&& f) {
  RefPtr<FsContext> context = t.fs_ref();
  if (!context) return Errno(EINVAL);
  const Path root = context->root();
  RefPtr<MountNamespace> ns = t.mounts_ref();
  if (!ns) return Errno(EINVAL);
  for (const MountNamespace::Info& info : ns->List()) {
    const Path top(RefPtr<Mount>(info.mount), RefPtr<Dentry>(&info.mount->root()));
    const std::string name = Vfs::FullName(top, root, *ns);
    if (name.empty() || name.front() != '/') continue;
    f(info, Escape(name, "#"));
  }
  return {};
}

}  // namespace

std::string Escape(std::string_view name, std::string_view more) {
  std::string out;
  for (const char c : name) {
    const bool table = more != "\n" && (c == ' ' || c == '\t' || c == '\n' || c == '\\');
    if (table || more.find(c) != std::string_view::npos) {
      AppendFormat(&out, "\\%03o", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out;
}

Result<std::string> MountsText(const Subject&, Task& t) {
  std::string out;
  TRY(ForEachMount(t, [&out](const MountNamespace::Info& info, const std::string& at) {
    const Mount& m = *info.mount;
    const std::string more = m.fs().mount_options();
    AppendFormat(&out, "%s %s %s %s%s%s%s 0 0\n", Source(m).c_str(), at.c_str(),
                 std::string(m.fs().type_name()).c_str(), m.read_only() ? "ro" : "rw",
                 MountFlags(m.flags()).c_str(), more.empty() ? "" : ",", more.c_str());
  }));
  return out;
}

Result<std::string> MountinfoText(const Subject&, Task& t) {
  std::string out;
  TRY(ForEachMount(t, [&out](const MountNamespace::Info& info, const std::string& at) {
    const Mount& m = *info.mount;
    const std::string more = m.fs().mount_options();
    const char* access = (m.flags() & MS_RDONLY) ? "ro" : "rw";
    const char* fs_access = m.fs().read_only() ? "ro" : "rw";
    AppendFormat(&out, "%d %d %u:%u %s %s %s%s", m.id(), info.parent_id, major(m.fs().dev()),
                 minor(m.fs().dev()), RootOf(m).c_str(), at.c_str(), access,
                 MountFlags(m.flags()).c_str());
    if (info.peer_group != 0) AppendFormat(&out, " shared:%d", info.peer_group);
    if (info.master_group != 0) AppendFormat(&out, " master:%d", info.master_group);
    if (info.unbindable) out += " unbindable";
    AppendFormat(&out, " - %s %s %s%s%s\n", std::string(m.fs().type_name()).c_str(),
                 Source(m).c_str(), fs_access, more.empty() ? "" : ",", more.c_str());
  }));
  return out;
}

Result<std::string> MountstatsText(const Subject&, Task& t) {
  std::string out;
  TRY(ForEachMount(t, [&out](const MountNamespace::Info& info, const std::string& at) {
    AppendFormat(&out, "device %s mounted on %s with fstype %s\n", Source(*info.mount).c_str(),
                 at.c_str(), std::string(info.mount->fs().type_name()).c_str());
  }));
  return out;
}

}  // namespace ringwall::proc
