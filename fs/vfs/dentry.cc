#include "fs/vfs/dentry.h"

#include <sys/random.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "fs/vfs/epoch.h"

namespace ringwall {

// A name is immutable; rename gives the dentry another. Freed by epochs.
struct DentryName {
  uint64_t hash;  // of parent and name
  uint16_t size;
  char text[];

  std::string_view view() const { return {text, size}; }
  static const DentryName* Make(uint64_t hash, std::string_view name) {
    void* memory = malloc(sizeof(DentryName) + name.size());
    RW_CHECK(memory != nullptr);
    DentryName* n = new (memory) DentryName;
    n->hash = hash;
    n->size = static_cast<uint16_t>(name.size());
    memcpy(n->text, name.data(), name.size());
    return n;
  }
  static void Free(const void* n) { free(const_cast<void*>(n)); }
};

namespace {

constexpr size_t kBuckets = 1 << 14;
constexpr size_t kScan = 32;  // how far the LRU's hand goes for one new dentry

uint64_t Mix(uint64_t a, uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Keyed by a secret, so that a guest cannot choose names that fall in one bucket.
uint64_t HashOf(const Dentry* parent, std::string_view name) {
  static const uint64_t secret = [] {
    uint64_t s = 0;
    if (getrandom(&s, sizeof(s), GRND_NONBLOCK) != sizeof(s)) {
      s = reinterpret_cast<uintptr_t>(&s) * 0x9e3779b97f4a7c15u;
    }
    return s | 1;
  }();
  uint64_t h = secret ^ reinterpret_cast<uintptr_t>(parent);
  const char* p = name.data();
  size_t n = name.size();
  for (; n > 8; n -= 8, p += 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    h = Mix(h ^ word, 0xa0761d6478bd642fu);
  }
  uint64_t word = 0;
  if (n >= 4) {
    uint32_t low, high;
    memcpy(&low, p, 4);
    memcpy(&high, p + n - 4, 4);
    word = low | uint64_t{high} << 32;
  } else if (n > 0) {
    word = static_cast<uint8_t>(p[0]) | static_cast<uint64_t>(static_cast<uint8_t>(p[n / 2])) << 8 |
           static_cast<uint64_t>(static_cast<uint8_t>(p[n - 1])) << 16;
  }
  return Mix(h ^ word, 0xe7037ed1a0b428dbu ^ name.size());
}

void DeleteDentry(const void* d) { delete static_cast<const Dentry*>(d); }

}  // namespace

// The table, the tree and the LRU list: everything about dentries that changes.
class DentryTable {
 public:
  static DentryTable& Get() {
    static DentryTable* table = new DentryTable;
    return *table;
  }

  Dentry* Find(const Dentry* parent, std::string_view name, uint64_t hash) const {
    for (Dentry* d = Bucket(hash).load(std::memory_order_acquire); d != nullptr;
         d = d->hash_next_.load(std::memory_order_acquire)) {
      const DentryName* n = d->name_.load(std::memory_order_acquire);
      if (n->hash == hash && d->parent_.load(std::memory_order_relaxed) == parent &&
          n->view() == name) {
        return d;
      }
    }
    return nullptr;
  }

  std::atomic<Dentry*>& Bucket(uint64_t hash) const { return buckets_[hash & (kBuckets - 1)]; }

  void InsertLocked(Dentry& d) REQUIRES(mu_) {
    d.cached_ = true;
    HashLocked(d);
    LinkLocked(d);
    d.lru_prev_ = nullptr;
    d.lru_next_ = lru_head_;
    (lru_head_ != nullptr ? lru_head_->lru_prev_ : lru_tail_) = &d;
    lru_head_ = &d;
    count_.fetch_add(1, std::memory_order_relaxed);
  }

  // The table's reference passes to the caller.
  void RemoveLocked(Dentry& d) REQUIRES(mu_) {
    d.cached_ = false;
    UnhashLocked(d);
    UnlinkLocked(d);
    (d.lru_prev_ != nullptr ? d.lru_prev_->lru_next_ : lru_head_) = d.lru_next_;
    (d.lru_next_ != nullptr ? d.lru_next_->lru_prev_ : lru_tail_) = d.lru_prev_;
    d.lru_prev_ = d.lru_next_ = nullptr;
    count_.fetch_sub(1, std::memory_order_relaxed);
  }

  void HashLocked(Dentry& d) REQUIRES(mu_) {
    std::atomic<Dentry*>& bucket = Bucket(d.name_.load(std::memory_order_relaxed)->hash);
    d.hash_next_.store(bucket.load(std::memory_order_relaxed), std::memory_order_release);
    bucket.store(&d, std::memory_order_release);
  }

  // d keeps its own next pointer, so that a reader standing on it finds on.
  void UnhashLocked(Dentry& d) REQUIRES(mu_) {
    std::atomic<Dentry*>* place = &Bucket(d.name_.load(std::memory_order_relaxed)->hash);
    while (place->load(std::memory_order_relaxed) != &d) {
      place = &place->load(std::memory_order_relaxed)->hash_next_;
    }
    place->store(d.hash_next_.load(std::memory_order_relaxed), std::memory_order_release);
  }

  void LinkLocked(Dentry& d) REQUIRES(mu_) {
    Dentry* parent = d.parent_.load(std::memory_order_relaxed);
    d.prev_sibling_ = nullptr;
    d.next_sibling_ = parent->first_child_;
    if (d.next_sibling_ != nullptr) d.next_sibling_->prev_sibling_ = &d;
    parent->first_child_ = &d;
  }

  void UnlinkLocked(Dentry& d) REQUIRES(mu_) {
    Dentry* parent = d.parent_.load(std::memory_order_relaxed);
    (d.prev_sibling_ != nullptr ? d.prev_sibling_->next_sibling_ : parent->first_child_) =
        d.next_sibling_;
    if (d.next_sibling_ != nullptr) d.next_sibling_->prev_sibling_ = d.prev_sibling_;
    d.next_sibling_ = d.prev_sibling_ = nullptr;
  }

  // Takes unused dentries out until the cache is within its bound or the hand has gone far enough.
  // They come back frozen; the caller ends them once the lock is gone.
  void ShrinkLocked(std::vector<Dentry*>* dead) REQUIRES(mu_) { ShrinkLocked(dead, limit_, kScan); }
  void ShrinkLocked(std::vector<Dentry*>* dead, size_t limit, size_t scan) REQUIRES(mu_) {
    for (size_t i = 0; i < scan && count_.load(std::memory_order_relaxed) > limit; i++) {
      Dentry* d = lru_tail_;
      if (d == nullptr) return;
      const bool used = d->used_.exchange(false, std::memory_order_relaxed);
      if (!used && d->first_child_ == nullptr &&
          d->mounted_here.load(std::memory_order_relaxed) == 0 && d->TryFreeze()) {
        RemoveLocked(*d);
        dead->push_back(d);
        continue;
      }
      // To the front: used, or held by someone.
      lru_tail_ = d->lru_prev_;
      if (lru_tail_ == nullptr) {
        lru_tail_ = d;
        return;
      }
      lru_tail_->lru_next_ = nullptr;
      d->lru_prev_ = nullptr;
      d->lru_next_ = lru_head_;
      lru_head_->lru_prev_ = d;
      lru_head_ = d;
    }
  }

  // A file system is out of what each of its files in use holds: a good part of those that nobody uses
  // go.
  static void DropUnused() {
    DentryTable& table = Get();
    std::vector<Dentry*> dead;
    {
      MutexLock lock(table.mu_);
      const size_t count = table.count_.load(std::memory_order_relaxed);
      table.ShrinkLocked(&dead, count / 2, 2 * count);
    }
    for (Dentry* d : dead) d->LastRelease();
  }

  Mutex<LockClass::kDentry> mu_;
  size_t limit_ GUARDED_BY(mu_) = 64 << 10;
  std::atomic<size_t> count_{0};
  std::atomic<uint64_t> renames_{0};

 private:
  mutable std::atomic<Dentry*> buckets_[kBuckets] = {};
  Dentry* lru_head_ GUARDED_BY(mu_) = nullptr;
  Dentry* lru_tail_ GUARDED_BY(mu_) = nullptr;
};

Dentry::Dentry(RefPtr<Dentry> parent, std::string_view name, RefPtr<Inode> inode)
    : inode_(std::move(inode)),
      children_stay_(inode_ && inode_->is_directory() &&
                     inode_->caching() == Inode::Caching::kForever),
      name_(DentryName::Make(HashOf(parent.get(), name), name)),
      parent_(parent.Leak()) {}

Dentry::~Dentry() {
  DentryName::Free(name_.load(std::memory_order_relaxed));
  if (Dentry* parent = parent_.load(std::memory_order_relaxed)) parent->Release();
}

void Dentry::LastRelease() const { EpochRetire(this, DeleteDentry); }

Ref<Dentry> Dentry::MakeRoot(Ref<Inode> inode, std::string_view name) {
  return MakeRef<Dentry>(nullptr, name, std::move(inode));
}

std::string Dentry::name() const {
  EpochGuard guard;
  return std::string(name_.load(std::memory_order_acquire)->view());
}

RefPtr<Dentry> Dentry::parent() const {
  EpochGuard guard;
  for (;;) {
    Dentry* p = parent_.load(std::memory_order_acquire);
    if (p == nullptr || p->TryAddRef()) return RefPtr<Dentry>::Adopt(p);
  }
}

bool Dentry::IsDescendantOf(const Dentry& ancestor) const {
  EpochGuard guard;
  for (;;) {
    const uint64_t sequence = RenameSequence();
    bool found = false;
    for (const Dentry* d = this; d != nullptr; d = d->ParentBorrowed()) {
      if (d == &ancestor) {
        found = true;
        break;
      }
    }
    if (sequence == RenameSequence()) return found;
  }
}

Dentry* Dentry::FindCached(std::string_view name) const {
  Dentry* d = DentryTable::Get().Find(this, name, HashOf(this, name));
  if (d != nullptr && !d->used_.load(std::memory_order_relaxed)) {
    d->used_.store(true, std::memory_order_relaxed);
  }
  return d;
}

uint64_t Dentry::RenameSequence() {
  return DentryTable::Get().renames_.load(std::memory_order_acquire);
}

void Dentry::SetCacheLimit(size_t limit) {
  DentryTable& table = DentryTable::Get();
  MutexLock lock(table.mu_);
  table.limit_ = limit;
}

size_t Dentry::CachedCount() {
  return DentryTable::Get().count_.load(std::memory_order_relaxed);
}

RefPtr<Dentry> Dentry::CachedChildLocked(std::string_view name) {
  DentryTable& table = DentryTable::Get();
  const uint64_t hash = HashOf(this, name);
  MutexLock lock(table.mu_);
  Dentry* d = table.Find(this, name, hash);
  return d == nullptr ? nullptr : RefPtr<Dentry>(d);
}

Result<Ref<Dentry>> Dentry::LookupChild(std::string_view name) {
  if (children_stay_) {
    EpochGuard guard;
    Dentry* d = FindCached(name);
    if (d != nullptr && d->TryAddRef()) return Ref<Dentry>::Adopt(d);
  }
  MutexLock lock(directory_mu_);
  return LookupChildLocked(name);
}

Result<Ref<Dentry>> Dentry::LookupChildLocked(std::string_view name) {
  RefPtr<Dentry> cached = CachedChildLocked(name);
  if (cached && children_stay_) return Ref<Dentry>(std::move(cached));
  Result<Ref<Inode>> inode = inode_->Lookup(name);
  if (!inode.ok() && inode.error().Is(ENFILE)) {
    DentryTable::DropUnused();
    inode = inode_->Lookup(name);
  }
  if (inode.ok()) {
    if (cached && cached->inode_.get() == inode->get()) return Ref<Dentry>(std::move(cached));
    return AddChildLocked(name, std::move(*inode));
  }
  if (!inode.error().Is(ENOENT)) return inode.error();
  if (cached) RemoveChildLocked(name, false);
  // A directory that is gone keeps nothing: no name can come back in it.
  if (!children_stay_ || unlinked()) return MakeRef<Dentry>(RefPtr<Dentry>(this), name, nullptr);
  return InsertFresh(*this, name, nullptr);
}

Ref<Dentry> Dentry::AddChildLocked(std::string_view name, Ref<Inode> inode) {
  RemoveChildLocked(name, false);
  return InsertFresh(*this, name, std::move(inode));
}

Ref<Dentry> Dentry::InsertFresh(Dentry& parent, std::string_view name, RefPtr<Inode> inode) {
  Ref<Dentry> fresh = MakeRef<Dentry>(RefPtr<Dentry>(&parent), name, std::move(inode));
  DentryTable& table = DentryTable::Get();
  std::vector<Dentry*> dead;
  {
    MutexLock lock(table.mu_);
    Ref<Dentry>(fresh).Leak();  // the table's
    table.InsertLocked(*fresh);
    table.ShrinkLocked(&dead);
  }
  for (Dentry* d : dead) d->LastRelease();
  return fresh;
}

void Dentry::RemoveChildLocked(std::string_view name, bool unlinked) {
  DentryTable& table = DentryTable::Get();
  const uint64_t hash = HashOf(this, name);
  RefPtr<Dentry> old;
  {
    MutexLock lock(table.mu_);
    if (Dentry* d = table.Find(this, name, hash)) {
      if (unlinked) d->unlinked_.store(true, std::memory_order_release);
      table.RemoveLocked(*d);
      old = RefPtr<Dentry>::Adopt(d);
    }
  }
  // What was below a forgotten directory is found no more; let it go.
  if (old) old->Prune();
  if (unlinked && children_stay_) InsertFresh(*this, name, nullptr);
}

void Dentry::MoveLocked(Dentry& child, Dentry& from, Dentry& to, std::string_view new_name) {
  DentryTable& table = DentryTable::Get();
  const uint64_t hash = HashOf(&to, new_name);
  const DentryName* name = DentryName::Make(hash, new_name);
  const DentryName* old_name;
  RefPtr<Dentry> replaced;
  RefPtr<Dentry> old_parent;
  {
    MutexLock lock(table.mu_);
    Dentry* there = table.Find(&to, new_name, hash);
    RW_CHECK(there != &child);
    if (there != nullptr) {
      there->unlinked_.store(true, std::memory_order_release);
      table.RemoveLocked(*there);
      replaced = RefPtr<Dentry>::Adopt(there);
    }
    table.renames_.fetch_add(1, std::memory_order_acq_rel);
    const bool cached = child.cached_;
    if (cached) {
      table.UnhashLocked(child);
      table.UnlinkLocked(child);
    }
    old_name = child.name_.exchange(name, std::memory_order_acq_rel);
    if (&from != &to) {
      to.AddRef();
      old_parent = RefPtr<Dentry>::Adopt(child.parent_.exchange(&to, std::memory_order_acq_rel));
    }
    if (cached) {
      table.HashLocked(child);
      table.LinkLocked(child);
    }
    table.renames_.fetch_add(1, std::memory_order_acq_rel);
  }
  EpochRetire(old_name, DentryName::Free);
  if (replaced) replaced->Prune();
}

void Dentry::ExchangeLocked(Dentry& a, Dentry& b) {
  DentryTable& table = DentryTable::Get();
  const DentryName* old_names[2];
  {
    MutexLock lock(table.mu_);
    Dentry* const parent_a = a.parent_.load(std::memory_order_relaxed);
    Dentry* const parent_b = b.parent_.load(std::memory_order_relaxed);
    old_names[0] = a.name_.load(std::memory_order_relaxed);
    old_names[1] = b.name_.load(std::memory_order_relaxed);
    const auto name_of = [](const Dentry* parent, std::string_view name) {
      return DentryName::Make(HashOf(parent, name), name);
    };
    table.renames_.fetch_add(1, std::memory_order_acq_rel);
    for (Dentry* d : {&a, &b}) {
      if (!d->cached_) continue;
      table.UnhashLocked(*d);
      table.UnlinkLocked(*d);
    }
    // Each takes the other's parent, and the reference with it.
    a.name_.store(name_of(parent_b, old_names[1]->view()), std::memory_order_release);
    b.name_.store(name_of(parent_a, old_names[0]->view()), std::memory_order_release);
    a.parent_.store(parent_b, std::memory_order_release);
    b.parent_.store(parent_a, std::memory_order_release);
    for (Dentry* d : {&a, &b}) {
      if (!d->cached_) continue;
      table.HashLocked(*d);
      table.LinkLocked(*d);
    }
    table.renames_.fetch_add(1, std::memory_order_acq_rel);
  }
  for (const DentryName* n : old_names) EpochRetire(n, DentryName::Free);
}

Ref<Dentry> Dentry::MakeUnnamed(Ref<Inode> inode) {
  Result<Attr> attr = inode->GetAttr();
  const std::string name = "#" + std::to_string(attr.ok() ? attr->ino : 0);
  Ref<Dentry> d = MakeRef<Dentry>(RefPtr<Dentry>(this), name, std::move(inode));
  d->unlinked_.store(true, std::memory_order_release);
  return d;
}

void Dentry::Prune() {
  DentryTable& table = DentryTable::Get();
  std::vector<Ref<Dentry>> dead;
  {
    MutexLock lock(table.mu_);
    std::vector<Dentry*> todo = {this};
    while (!todo.empty()) {
      Dentry* d = todo.back();
      todo.pop_back();
      while (Dentry* child = d->first_child_) {
        table.RemoveLocked(*child);
        todo.push_back(child);
        dead.push_back(Ref<Dentry>::Adopt(child));
      }
    }
  }
}

}  // namespace ringwall
