#include "sentry/auth/user_namespace.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>

#include "sentry/auth/credentials.h"

namespace ringwall {

namespace {

constexpr size_t kMaxExtents = 340;
constexpr int kMaxLevel = 32;
constexpr int64_t kDefaultLimit = 65536;

// One number of a line; advances. nullopt: no number, or more than 32 bits.
std::optional<uint32_t> TakeNumber(std::string_view* line) {
  uint64_t n = 0;
  size_t digits = 0;
  while (digits < line->size() && (*line)[digits] >= '0' && (*line)[digits] <= '9') {
    n = n * 10 + static_cast<uint64_t>((*line)[digits] - '0');
    if (n > 0xffffffffu) return std::nullopt;
    digits++;
  }
  if (digits == 0) return std::nullopt;
  line->remove_prefix(digits);
  return static_cast<uint32_t>(n);
}

void SkipSpaces(std::string_view* line) {
  while (!line->empty() && (line->front() == ' ' || line->front() == '\t')) line->remove_prefix(1);
}

bool Overlaps(uint32_t a, uint32_t b, uint32_t a_count, uint32_t b_count) {
  return uint64_t{a} < uint64_t{b} + b_count && uint64_t{b} < uint64_t{a} + a_count;
}

}  // namespace

Result<IdMap> ParseIdMap(std::string_view text) {
  IdMap map;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    uint32_t numbers[3];
    for (int i = 0; i < 3; i++) {
      SkipSpaces(&line);
      const std::optional<uint32_t> n = TakeNumber(&line);
      if (!n) return Errno(EINVAL);
      // Numbers are separated by blanks.
      if (i < 2 && (line.empty() || (line.front() != ' ' && line.front() != '\t'))) {
        return Errno(EINVAL);
      }
      numbers[i] = *n;
    }
    SkipSpaces(&line);
    if (!line.empty() && line.front() != '\0') return Errno(EINVAL);
    const IdExtent e{numbers[0], numbers[1], numbers[2]};
    if (e.first == kInvalidId || e.lower == kInvalidId) return Errno(EINVAL);
    // Neither range may wrap, nor be empty.
    if (e.first + e.count <= e.first || e.lower + e.count <= e.lower) return Errno(EINVAL);
    for (const IdExtent& o : map) {
      if (Overlaps(e.first, o.first, e.count, o.count) ||
          Overlaps(e.lower, o.lower, e.count, o.count)) {
        return Errno(EINVAL);
      }
    }
    map.push_back(e);
    if (map.size() == kMaxExtents && !text.empty()) return Errno(EINVAL);
  }
  if (map.empty()) return Errno(EINVAL);
  return map;
}

UserNamespace& UserNamespace::Initial() {
  static UserNamespace* initial = new UserNamespace;
  return *initial;
}

UserNamespace::UserNamespace()
    : Namespace(NamespaceKind::kUser, nullptr, true),
      level_(0),
      owner_uid_(0),
      owner_gid_(0),
      maker_had_setfcap_(true),
      setgroups_allowed_(true) {
  user_ns_ = this;
  const IdMap* all = new IdMap{{0, 0, kInvalidId}};
  uid_map_.store(all);
  gid_map_.store(new IdMap(*all));
  for (std::atomic<int64_t>& l : limits_) l.store(kDefaultLimit);
}

UserNamespace::UserNamespace(Ref<UserNamespace> parent, Uid owner, Gid group, bool setgroups,
                             bool setfcap)
    : Namespace(NamespaceKind::kUser, nullptr, false),
      parent_(parent),
      level_(parent->level_ + 1),
      owner_uid_(owner),
      owner_gid_(group),
      maker_had_setfcap_(setfcap),
      setgroups_allowed_(setgroups) {
  user_ns_ = this;
  for (std::atomic<int64_t>& l : limits_) l.store(INT32_MAX);
}

UserNamespace::~UserNamespace() {
  delete uid_map_.load();
  delete gid_map_.load();
  if (parent_) parent_->Uncharge(NamespaceKind::kUser);
}

Result<Ref<UserNamespace>> UserNamespace::Create(const Credentials& creds) {
  UserNamespace& parent = creds.user_ns();
  if (parent.level() > kMaxLevel) return Errno(ENOSPC);
  TRY(parent.Charge(NamespaceKind::kUser));
  if (!parent.UidOut(creds.euid) || !parent.GidOut(creds.egid)) {
    parent.Uncharge(NamespaceKind::kUser);
    return Errno(EPERM);
  }
  return Ref<UserNamespace>::Adopt(
      new UserNamespace(Ref<UserNamespace>(parent), creds.euid, creds.egid,
                        parent.setgroups_allowed(), creds.HasOwn(Capability::kSetfcap)));
}

bool UserNamespace::IsWithin(const UserNamespace& other) const {
  const UserNamespace* at = this;
  while (at->level_ > other.level_) at = at->parent_.get();
  return at == &other;
}

std::optional<uint32_t> UserNamespace::In(const Slot& slot, uint32_t here) const {
  if (level_ == 0) return here == kInvalidId ? std::nullopt : std::optional(here);
  const IdMap* map = slot.load(std::memory_order_acquire);
  if (map == nullptr) return std::nullopt;
  for (const IdExtent& e : *map) {
    if (here >= e.first && here - e.first < e.count) return e.lower + (here - e.first);
  }
  return std::nullopt;
}

std::optional<uint32_t> UserNamespace::Out(const Slot& slot, uint32_t first) const {
  if (level_ == 0) return first == kInvalidId ? std::nullopt : std::optional(first);
  const IdMap* map = slot.load(std::memory_order_acquire);
  if (map == nullptr) return std::nullopt;
  for (const IdExtent& e : *map) {
    if (first >= e.lower && first - e.lower < e.count) return e.first + (first - e.lower);
  }
  return std::nullopt;
}

bool UserNamespace::MapPermitted(bool uids, const IdMap& map, const Credentials& opener,
                                 const Credentials& writer) const {
  // Mapping the parent's root would let its file capabilities be written from here: whoever does so
  // must have been able to write them there (verify_root_map).
  if (uids) {
    const bool maps_root = std::any_of(map.begin(), map.end(),
                                       [](const IdExtent& e) { return e.lower == 0; });
    if (maps_root) {
      if (&opener.user_ns() == this) {
        if (!maker_had_setfcap_) return false;
      } else if (!opener.HasIn(*parent_, Capability::kSetfcap)) {
        return false;
      }
    }
  }
  // One's own id, for oneself.
  if (map.size() == 1 && map[0].count == 1 && owner_uid_ == opener.euid) {
    if (uids) {
      if (parent_->UidIn(map[0].lower) == opener.euid) return true;
    } else if (!setgroups_allowed() && parent_->GidIn(map[0].lower) == opener.egid) {
      return true;
    }
  }
  const Capability set_id = uids ? Capability::kSetuid : Capability::kSetgid;
  return writer.HasIn(*parent_, set_id) && opener.HasIn(*parent_, set_id);
}

Result<void> UserNamespace::WriteMap(bool uids, std::string_view text, const Credentials& opener,
                                     const Credentials& writer) {
  if (!parent_) return Errno(EPERM);
  if (&opener.user_ns() != this && &opener.user_ns() != parent_.get()) return Errno(EPERM);
  MutexLock lock(mu_);
  Slot& slot = uids ? uid_map_ : gid_map_;
  if (slot.load() != nullptr) return Errno(EPERM);
  if (!opener.HasIn(*this, Capability::kSysAdmin)) return Errno(EPERM);
  IdMap map = TRY(ParseIdMap(text));
  if (!MapPermitted(uids, map, opener, writer)) return Errno(EPERM);
  for (IdExtent& e : map) {
    // The whole range must lie in one of the parent's.
    const std::optional<uint32_t> low = uids ? parent_->UidIn(e.lower) : parent_->GidIn(e.lower);
    const uint32_t last = e.lower + (e.count - 1);
    const std::optional<uint32_t> high = uids ? parent_->UidIn(last) : parent_->GidIn(last);
    if (!low || !high || *high - *low != e.count - 1) return Errno(EPERM);
    e.lower = *low;
  }
  slot.store(new IdMap(std::move(map)), std::memory_order_release);
  return {};
}

std::string UserNamespace::MapText(bool uids, const UserNamespace& viewer) const {
  // One looks at one's own map with the eyes of the parent.
  const UserNamespace& eyes = &viewer == this && parent_ ? *parent_ : viewer;
  const IdMap* map = (uids ? uid_map_ : gid_map_).load(std::memory_order_acquire);
  std::string out;
  if (map == nullptr) return out;
  for (const IdExtent& e : *map) {
    const uint32_t lower = (uids ? eyes.UidOut(e.lower) : eyes.GidOut(e.lower)).value_or(kInvalidId);
    char line[48];
    snprintf(line, sizeof(line), "%10u %10u %10u\n", e.first, lower, e.count);
    out += line;
  }
  return out;
}

Result<void> UserNamespace::WriteSetgroups(std::string_view text) {
  bool allow = false;
  if (text.starts_with("allow")) {
    allow = true;
    text.remove_prefix(5);
  } else if (text.starts_with("deny")) {
    text.remove_prefix(4);
  } else {
    return Errno(EINVAL);
  }
  while (!text.empty() && (text.front() == ' ' || text.front() == '\n' || text.front() == '\t')) {
    text.remove_prefix(1);
  }
  if (!text.empty() && text.front() != '\0') return Errno(EINVAL);
  MutexLock lock(mu_);
  if (allow) {
    if (!setgroups_allowed()) return Errno(EPERM);
    return {};
  }
  if (gid_map_.load() != nullptr) return Errno(EPERM);
  setgroups_allowed_.store(false, std::memory_order_release);
  return {};
}

Result<void> UserNamespace::Charge(NamespaceKind kind) {
  for (UserNamespace* ns = this; ns != nullptr; ns = ns->parent_.get()) {
    if (ns->counts_[Index(kind)].fetch_add(1) < ns->limits_[Index(kind)].load()) continue;
    for (UserNamespace* undo = this;; undo = undo->parent_.get()) {
      undo->counts_[Index(kind)].fetch_sub(1);
      if (undo == ns) break;
    }
    return Errno(ENOSPC);
  }
  return {};
}

void UserNamespace::Uncharge(NamespaceKind kind) {
  for (UserNamespace* ns = this; ns != nullptr; ns = ns->parent_.get()) {
    ns->counts_[Index(kind)].fetch_sub(1);
  }
}

}  // namespace ringwall
