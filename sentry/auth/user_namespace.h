// UserNamespace: ids and capabilities of their own (user_namespaces(7), kernel/user_namespace.c).
// Credentials and inodes hold the ids of the first namespace; what a guest passes or reads is
// translated by the maps of its namespace. A map is written once and then never changes.
#ifndef RINGWALL_SENTRY_AUTH_USER_NAMESPACE_H_
#define RINGWALL_SENTRY_AUTH_USER_NAMESPACE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sentry/auth/namespace.h"
#include "sentry/base/mutex.h"

namespace ringwall {

using Uid = uint32_t;
using Gid = uint32_t;
inline constexpr uint32_t kInvalidId = ~uint32_t{0};
// kernel.overflowuid and overflowgid: what ids without a number are shown as.
inline std::atomic<int> overflow_uid{65534}, overflow_gid{65534};

class Credentials;

// A range of ids: `first` here are `lower` outside.
struct IdExtent {
  uint32_t first, lower, count;
};
using IdMap = std::vector<IdExtent>;

// A map as the guest writes it. EINVAL.
Result<IdMap> ParseIdMap(std::string_view text);

class UserNamespace final : public Namespace {
 public:
  // The first one, which maps every id to itself.
  static UserNamespace& Initial();
  // Below that of `creds`, owned by its effective ids. ENOSPC (too deep, or too many), EPERM (ids
  // that are not mapped).
  static Result<Ref<UserNamespace>> Create(const Credentials& creds);

  UserNamespace* parent() const { return parent_.get(); }
  int level() const { return level_; }
  // Of its maker, in ids of the first namespace.
  Uid owner() const { return owner_uid_; }
  Gid group() const { return owner_gid_; }
  // Whether it is `other` or below it.
  bool IsWithin(const UserNamespace& other) const;

  // From an id of here to one of the first namespace; nullopt when it is not mapped.
  std::optional<Uid> UidIn(Uid here) const { return In(uid_map_, here); }
  std::optional<Gid> GidIn(Gid here) const { return In(gid_map_, here); }
  // The reverse.
  std::optional<Uid> UidOut(Uid first) const { return Out(uid_map_, first); }
  std::optional<Gid> GidOut(Gid first) const { return Out(gid_map_, first); }
  // The same for showing: overflow_uid or overflow_gid when it is not mapped.
  Uid ShowUid(Uid first) const { return UidOut(first).value_or(static_cast<Uid>(overflow_uid.load())); }
  Gid ShowGid(Gid first) const { return GidOut(first).value_or(static_cast<Gid>(overflow_gid.load())); }

  // /proc/PID/uid_map and gid_map: `opener` opened the file, `writer` writes.
  Result<void> WriteMap(bool uids, std::string_view text, const Credentials& opener,
                        const Credentials& writer);
  // The map as `viewer` sees the outer ids.
  std::string MapText(bool uids, const UserNamespace& viewer) const;
  // /proc/PID/setgroups.
  bool setgroups_allowed() const { return setgroups_allowed_.load(std::memory_order_acquire); }
  Result<void> WriteSetgroups(std::string_view text);
  // setgroups(2): not before there is a gid map.
  bool MaySetgroups() const { return setgroups_allowed() && gid_map_.load() != nullptr; }

  // How many namespaces of a kind may be made in here and below (user.max_*_namespaces), and the
  // count of those that there are, towards this one and all above. ENOSPC.
  Result<void> Charge(NamespaceKind kind);
  void Uncharge(NamespaceKind kind);
  int64_t limit(NamespaceKind kind) const { return limits_[Index(kind)].load(); }
  void set_limit(NamespaceKind kind, int64_t n) { limits_[Index(kind)].store(n); }

  ~UserNamespace() override;

 private:
  using Slot = std::atomic<const IdMap*>;
  UserNamespace();
  UserNamespace(Ref<UserNamespace> parent, Uid owner, Gid group, bool setgroups, bool setfcap);
  static size_t Index(NamespaceKind kind) { return static_cast<size_t>(kind); }
  std::optional<uint32_t> In(const Slot& map, uint32_t here) const;
  std::optional<uint32_t> Out(const Slot& map, uint32_t first) const;
  bool MapPermitted(bool uids, const IdMap& map, const Credentials& opener,
                    const Credentials& writer) const;

  const RefPtr<UserNamespace> parent_;
  const int level_;
  const Uid owner_uid_;
  const Gid owner_gid_;
  const bool maker_had_setfcap_;
  std::atomic<bool> setgroups_allowed_;
  Mutex<LockClass::kLeaf> mu_;  // one writer of the maps and of setgroups at a time
  Slot uid_map_{nullptr}, gid_map_{nullptr};  // lower ids are those of the first namespace
  std::array<std::atomic<int64_t>, kNamespaceKinds> counts_{}, limits_{};
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_AUTH_USER_NAMESPACE_H_
