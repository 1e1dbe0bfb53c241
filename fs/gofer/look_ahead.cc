#include "fs/gofer/look_ahead.h"

#include <sys/stat.h>
#include <time.h>

#include <algorithm>

namespace ringwall {

namespace {

int64_t NowNs() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

void LookAhead::TryOpening() {
  if (OpenWindow() < 2) open_window_.store(2, std::memory_order_relaxed);
}

bool LookAhead::AttributesPay() {
  constexpr uint32_t kMemory = 256, kUntilNextTry = 1024;
  const uint32_t given = given_.load(std::memory_order_relaxed);
  const uint32_t needed = needed_handle_.load(std::memory_order_relaxed);
  if (given >= kMemory) {
    given_.store(given / 2, std::memory_order_relaxed);
    needed_handle_.store(needed / 2, std::memory_order_relaxed);
  }
  if (given < kEvidence || 2 * needed < given) return true;
  if (waived_.fetch_add(1, std::memory_order_relaxed) + 1 < kUntilNextTry) return false;
  waived_.store(0, std::memory_order_relaxed);
  given_.store(0, std::memory_order_relaxed);
  needed_handle_.store(0, std::memory_order_relaxed);
  return true;
}

void LookAhead::Judge(const Batch& batch) {
  if (batch.brought == 0 || batch.kind != kDescriptors) return;
  const uint32_t window = OpenWindow();
  if (!MostlyUsed(batch)) {
    open_window_.store(std::max(window / 2, 1u), std::memory_order_relaxed);
  } else if (2 * batch.brought >= window) {  // small directories say nothing about larger windows
    open_window_.store(std::min<uint32_t>(2 * window, gofer::kMaxDescriptors),
                       std::memory_order_relaxed);
  }
}

LookAhead::Verdict LookAhead::Keep(FileId dir, Kind kind, uint64_t epoch,
                                   std::vector<Entry> entries) {
  Verdict verdict = kNoneBefore;
  if (entries.empty()) return verdict;
  Batch fresh;
  fresh.dir = dir;
  fresh.kind = kind;
  fresh.epoch = epoch;
  fresh.until = NowNs() + kLifetimeNs;
  fresh.brought = entries.size();
  fresh.entries.reserve(entries.size());
  for (Entry& e : entries) fresh.entries.emplace(std::move(e.name), std::move(e.node));
  // Freed, and their descriptors closed, without the lock.
  Batch former, oldest;
  MutexLock lock(mu_);
  const size_t first = kind == kAttributes ? 0 : kBatches[kAttributes];
  size_t place = first + next_[kind];
  for (size_t i = first; i < first + kBatches[kind]; i++) {
    Batch& batch = batches_[i];
    if (batch.brought == 0 || batch.dir != dir) continue;
    Judge(batch);
    verdict = MostlyUsed(batch) ? kUsed : kUnused;
    former = std::exchange(batch, Batch());
    // Attributes are not asked for in the order of the listing: those left may be next.
    if (kind == kAttributes && former.epoch == epoch && former.brought < kMostKept) {
      fresh.brought += former.brought;
      fresh.used += former.used;
      fresh.entries.merge(former.entries);
    }
    place = i;
    break;  // a directory has one of each kind
  }
  if (verdict == kNoneBefore) {
    next_[kind] = (next_[kind] + 1) % kBatches[kind];
    Judge(batches_[place]);
    oldest = std::exchange(batches_[place], Batch());
  }
  batches_[place] = std::move(fresh);
  return verdict;
}

std::optional<gofer::PeekedNode> LookAhead::Take(FileId dir, std::string_view name, Kind kind) {
  Batch gone;
  MutexLock lock(mu_);
  for (Batch& batch : batches_) {
    if (batch.brought == 0 || batch.dir != dir) continue;
    const auto it = batch.entries.find(absl::string_view(name.data(), name.size()));
    if (it == batch.entries.end()) continue;
    if (batch.epoch != epoch() || NowNs() > batch.until) {
      Judge(batch);
      gone = std::exchange(batch, Batch());
      continue;
    }
    const bool regular = (it->second.attr.mode & S_IFMT) == S_IFREG;
    if (kind == kDescriptors && regular && !it->second.fd) continue;
    gofer::PeekedNode node;
    if (kind == kAttributes && it->second.fd) {
      node.attr = it->second.attr;
      return node;
    }
    node = std::move(it->second);
    batch.entries.erase(it);
    ++batch.used;
    if (batch.kind == kAttributes) given_.fetch_add(1, std::memory_order_relaxed);
    return node;
  }
  return std::nullopt;
}

}  // namespace ringwall
