#include "sentry/kernel/exec_creds.h"

#include <sys/mount.h>

#include <cstring>

#include "fs/vfs/mount.h"

namespace ringwall {

namespace {

constexpr uint32_t kNoRoot = 1, kKeepCaps = 1u << 4;

// The capabilities that count for who executes the file. nullopt: it has none.
std::optional<FileCaps> CapsOf(const Credentials& old, File& program) {
  if (!MaySetId(old, program.path())) return std::nullopt;
  const Result<std::string> bytes = program.inode().GetXattr("security.capability");
  if (!bytes.ok()) return std::nullopt;
  std::optional<FileCaps> caps = FileCaps::Parse(*bytes);
  if (!caps) return std::nullopt;
  if (caps->root) {
    // Of a namespace whose root gave them: that one and those below it.
    for (const UserNamespace* ns = &old.user_ns(); ns != nullptr; ns = ns->parent()) {
      if (ns->UidIn(0) == caps->root) return caps;
    }
    return std::nullopt;
  }
  return old.user_ns().parent() == nullptr ? caps : std::nullopt;
}

}  // namespace

std::optional<FileCaps> FileCaps::Parse(std::string_view bytes) {
  uint32_t words[6] = {};
  if (bytes.size() < sizeof(uint32_t) || bytes.size() > sizeof(words)) return std::nullopt;
  memcpy(words, bytes.data(), bytes.size());
  FileCaps caps;
  caps.effective = (words[0] & 1) != 0;
  caps.permitted = words[1];
  caps.inheritable = words[2];
  switch (words[0] & 0xff000000) {
    case 0x01000000:
      if (bytes.size() != 12) return std::nullopt;
      return caps;
    case 0x03000000:
      if (bytes.size() != 24) return std::nullopt;
      caps.root = words[5];
      break;
    case 0x02000000:
      if (bytes.size() != 20) return std::nullopt;
      break;
    default:
      return std::nullopt;
  }
  caps.permitted |= uint64_t{words[3]} << 32;
  caps.inheritable |= uint64_t{words[4]} << 32;
  caps.permitted &= kAllCapabilities;
  caps.inheritable &= kAllCapabilities;
  return caps;
}

bool MaySetId(const Credentials& creds, const Path& path) {
  if (!path.mount_ref()) return false;
  return (path.mount().flags() & MS_NOSUID) == 0 &&
         creds.user_ns().IsWithin(path.mount().fs().user_ns());
}

Result<ExecCredentials> CredentialsForExec(const Credentials& old, File& program,
                                           std::optional<Uid> setuid, std::optional<Gid> setgid) {
  Ref<Credentials> c = old.Copy();
  const UserNamespace& ns = old.user_ns();
  const bool ids_count = !old.no_new_privs && MaySetId(old, program.path());
  // Ids that the namespace cannot name are not taken on.
  if (setuid && ids_count && ns.UidOut(*setuid)) c->euid = *setuid;
  if (setgid && ids_count && ns.GidOut(*setgid)) c->egid = *setgid;

  const Uid root = ns.UidIn(0).value_or(kInvalidId);
  const bool root_counts = (c->securebits & kNoRoot) == 0;
  const bool real_root = c->ruid == root, effective_root = c->euid == root;
  const bool made_root = !real_root && effective_root;
  // Root gets everything whatever the file says, unless it is root by the file's bits only.
  std::optional<FileCaps> caps;
  if (!root_counts || !effective_root || made_root) caps = CapsOf(old, program);

  c->cap_permitted = 0;
  bool effective = false;
  if (caps) {
    c->cap_permitted = (c->cap_bounding & caps->permitted) | (c->cap_inheritable & caps->inheritable);
    effective = caps->effective;
    if (effective && (caps->permitted & ~c->cap_permitted) != 0) return Errno(EPERM);
  }
  if (root_counts && !(caps && made_root)) {
    if (real_root || effective_root) c->cap_permitted = c->cap_bounding | c->cap_inheritable;
    if (effective_root) effective = true;
  }

  const bool id_changes = c->euid != old.ruid || c->egid != old.rgid;
  const bool gains = (c->cap_permitted & ~old.cap_permitted) != 0;
  if ((id_changes || gains) && old.no_new_privs) {
    // No more than before, and maybe less.
    c->euid = c->ruid;
    c->egid = c->rgid;
    c->cap_permitted &= old.cap_permitted;
  }
  c->suid = c->fsuid = c->euid;
  c->sgid = c->fsgid = c->egid;
  if (caps || id_changes) c->cap_ambient = 0;
  c->cap_permitted |= c->cap_ambient;
  c->cap_effective = effective ? c->cap_permitted : c->cap_ambient;
  c->securebits &= ~kKeepCaps;
  const bool secure =
      id_changes ||
      (!real_root && (effective || (c->cap_permitted & ~c->cap_ambient) != 0));
  return ExecCredentials{std::move(c), secure};
}

}  // namespace ringwall
