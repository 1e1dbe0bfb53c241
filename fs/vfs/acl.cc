#include "fs/vfs/acl.h"

#include <cstring>

namespace ringwall {

namespace {

constexpr uint32_t kVersion = 2;
constexpr uint16_t kUserObj = 1, kUser = 2, kGroupObj = 4, kGroup = 8, kMask = 16, kOther = 32;

struct EntryAbi {
  uint16_t tag, perm;
  uint32_t id;
};
static_assert(sizeof(EntryAbi) == 8);

}  // namespace

Result<std::optional<PosixAcl>> PosixAcl::Parse(std::string_view bytes, const UserNamespace& ns) {
  if (bytes.empty()) return std::optional<PosixAcl>();
  uint32_t version;
  if (bytes.size() < sizeof(version)) return Errno(EINVAL);
  memcpy(&version, bytes.data(), sizeof(version));
  if (version != kVersion) return Errno(EOPNOTSUPP);
  bytes.remove_prefix(sizeof(version));
  if (bytes.size() % sizeof(EntryAbi) != 0) return Errno(EINVAL);
  PosixAcl acl;
  for (; !bytes.empty(); bytes.remove_prefix(sizeof(EntryAbi))) {
    EntryAbi e;
    memcpy(&e, bytes.data(), sizeof(e));
    Entry entry{e.tag, e.perm, kInvalidId};
    if (e.tag == kUser || e.tag == kGroup) {
      const std::optional<uint32_t> id = e.tag == kUser ? ns.UidIn(e.id) : ns.GidIn(e.id);
      if (!id) return Errno(EINVAL);
      entry.id = *id;
    }
    acl.entries_.push_back(entry);
  }
  if (acl.entries_.empty()) return std::optional<PosixAcl>();
  if (!acl.Valid()) return Errno(EINVAL);
  return std::optional<PosixAcl>(std::move(acl));
}

// One entry of each kind in their order; named ones need a mask (posix_acl_valid).
bool PosixAcl::Valid() const {
  uint16_t next = kUserObj;
  bool needs_mask = false;
  for (const Entry& e : entries_) {
    if (e.perm & ~7) return false;
    switch (e.tag) {
      case kUserObj:
        if (next != kUserObj) return false;
        next = kUser;
        break;
      case kUser:
        if (next != kUser) return false;
        needs_mask = true;
        break;
      case kGroupObj:
        if (next != kUser) return false;
        next = kGroup;
        break;
      case kGroup:
        if (next != kGroup) return false;
        needs_mask = true;
        break;
      case kMask:
        if (next != kGroup) return false;
        next = kOther;
        break;
      case kOther:
        if (next != kOther && (next != kGroup || needs_mask)) return false;
        next = 0;
        break;
      default:
        return false;
    }
  }
  return next == 0;
}

std::string PosixAcl::Serialize(const UserNamespace& ns) const {
  std::string out(sizeof(kVersion), '\0');
  memcpy(out.data(), &kVersion, sizeof(kVersion));
  for (const Entry& e : entries_) {
    EntryAbi abi{e.tag, e.perm, kInvalidId};
    if (e.tag == kUser) abi.id = ns.ShowUid(e.id);
    if (e.tag == kGroup) abi.id = ns.ShowGid(e.id);
    out.append(reinterpret_cast<const char*>(&abi), sizeof(abi));
  }
  return out;
}

PosixAcl::Entry* PosixAcl::Find(uint16_t tag) {
  for (Entry& e : entries_) {
    if (e.tag == tag) return &e;
  }
  return nullptr;
}

bool PosixAcl::Allows(const Credentials& creds, Uid uid, Gid gid, uint32_t want) const {
  uint32_t mask = 7;
  for (const Entry& e : entries_) {
    if (e.tag == kMask) mask = e.perm;
  }
  bool in_a_group = false;
  for (const Entry& e : entries_) {
    const bool grants = (e.perm & want) == want;
    switch (e.tag) {
      case kUserObj:
        if (creds.fsuid == uid) return grants;
        break;
      case kUser:
        if (creds.fsuid == e.id) return grants && (mask & want) == want;
        break;
      case kGroupObj:
      case kGroup:
        if (!creds.InGroup(e.tag == kGroup ? e.id : gid)) break;
        in_a_group = true;
        if (grants) return (mask & want) == want;
        break;
      case kOther:
        return !in_a_group && grants;
      default:
        break;
    }
  }
  return false;
}

bool PosixAcl::ToMode(uint32_t* mode) const {
  uint32_t bits = 0;
  bool all = true;
  for (const Entry& e : entries_) {
    switch (e.tag) {
      case kUserObj:
        bits |= uint32_t{e.perm} << 6;
        break;
      case kGroupObj:
        bits |= uint32_t{e.perm} << 3;
        break;
      case kOther:
        bits |= e.perm;
        break;
      case kMask:
        bits = (bits & ~070u) | (uint32_t{e.perm} << 3);
        all = false;
        break;
      default:
        all = false;
    }
  }
  *mode = (*mode & ~0777u) | bits;
  return all;
}

void PosixAcl::TakeMode(uint32_t mode) {
  if (Entry* e = Find(kUserObj)) e->perm = (mode >> 6) & 7;
  Entry* group = Find(kMask);
  if (group == nullptr) group = Find(kGroupObj);
  if (group != nullptr) group->perm = (mode >> 3) & 7;
  if (Entry* e = Find(kOther)) e->perm = mode & 7;
}

bool PosixAcl::Mask(uint32_t* mode_out) {
  uint32_t mode = *mode_out;
  bool all = true;
  Entry* group = Find(kGroupObj);
  for (Entry& e : entries_) {
    switch (e.tag) {
      case kUserObj:
        e.perm &= (mode >> 6) & 7;
        mode &= (uint32_t{e.perm} << 6) | ~0700u;
        break;
      case kOther:
        e.perm &= mode & 7;
        mode &= e.perm | ~7u;
        break;
      case kMask:
        group = &e;
        all = false;
        break;
      case kUser:
      case kGroup:
        all = false;
        break;
      default:
        break;
    }
  }
  if (group != nullptr) {
    group->perm &= (mode >> 3) & 7;
    mode &= (uint32_t{group->perm} << 3) | ~070u;
  }
  *mode_out = mode;
  return all;
}

std::optional<PosixAcl> AclOf(Inode& inode, std::string_view name) {
  if (!inode.has_acl()) return std::nullopt;
  const Result<std::string> bytes = inode.GetXattr(name);
  if (!bytes.ok()) return std::nullopt;
  Result<std::optional<PosixAcl>> acl = PosixAcl::Parse(*bytes, UserNamespace::Initial());
  return acl.ok() ? std::move(*acl) : std::nullopt;
}

}  // namespace ringwall
