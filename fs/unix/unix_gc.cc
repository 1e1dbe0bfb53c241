#include "fs/unix/unix_gc.h"

#include <map>

#include "fs/unix/unix_socket.h"

namespace ringwall {

namespace {

// Sockets under way, by file, with how often.
struct InFlight {
  UnixEndpoint* endpoint;
  size_t count = 0;
};

UnixInFlightMutex in_flight_mu;
std::map<const File*, InFlight>& InFlightFiles() REQUIRES(in_flight_mu) {
  static auto* files = new std::map<const File*, InFlight>;
  return *files;
}
std::atomic<size_t> sockets_in_flight{0};
std::atomic<bool> collecting{false};
// How many descriptors of each user are under way (user_struct::unix_inflight).
Guarded<std::map<Uid, size_t>, LockClass::kLeaf> files_of_users;

void CountFiles(Uid user, size_t n, bool add) {
  if (n == 0) return;
  files_of_users.With([&](std::map<Uid, size_t>& all) {
    if (add) {
      all[user] += n;
    } else if (auto it = all.find(user); it != all.end() && (it->second -= n) == 0) {
      all.erase(it);
    }
  });
}

UnixEndpoint* EndpointOf(File& file) {
  Socket* s = file.AsSocket();
  if (s == nullptr || s->family() != AF_UNIX) return nullptr;
  return &static_cast<UnixSocket*>(s)->endpoint();
}

void Forget(const std::vector<Ref<File>>& files) {
  MutexLock lock(in_flight_mu);
  for (const Ref<File>& f : files) {
    auto it = InFlightFiles().find(f.get());
    if (it == InFlightFiles().end()) continue;
    sockets_in_flight--;
    if (--it->second.count == 0) InFlightFiles().erase(it);
  }
}

// Sockets that were closed since the last search for rings.
std::atomic<size_t> closed_since{0};
// This thread closes what queues held: the search comes after the last of it.
thread_local bool dropping = false;

// Drops files one after another: a queue's descriptors may be sockets with queues of their own, and a
// long row of them must not become a deep stack.
void Drop(std::vector<Ref<File>> files) {
  thread_local std::vector<Ref<File>>* waiting = nullptr;
  if (waiting != nullptr) {
    for (Ref<File>& f : files) waiting->push_back(std::move(f));
    return;
  }
  waiting = &files;
  dropping = true;
  while (!files.empty()) {
    Ref<File> last = std::move(files.back());
    files.pop_back();
  }
  waiting = nullptr;
  dropping = false;
  if (closed_since.load() != 0 && UnixSocketsInFlight()) CollectUnixSockets();
}

}  // namespace

UnixInFlightMutex& UnixInFlightLock() { return in_flight_mu; }

bool UnixSocketsInFlight() { return sockets_in_flight.load(std::memory_order_relaxed) != 0; }

size_t UnixFilesInFlight(Uid user) {
  return files_of_users.With([&](const std::map<Uid, size_t>& all) {
    auto it = all.find(user);
    return it == all.end() ? size_t{0} : it->second;
  });
}

PassedFiles::PassedFiles(std::vector<Ref<File>> files, Uid sender)
    : files_(std::move(files)), sender_(sender) {
  CountFiles(sender_, files_.size(), true);
  for (const Ref<File>& f : files_) {
    UnixEndpoint* e = EndpointOf(*f);
    if (e == nullptr) continue;
    MutexLock lock(in_flight_mu);
    InFlight& entry = InFlightFiles().try_emplace(f.get(), InFlight{e}).first->second;
    entry.count++;
    sockets_in_flight++;
  }
}

PassedFiles& PassedFiles::operator=(PassedFiles&& o) noexcept {
  std::swap(files_, o.files_);
  std::swap(sender_, o.sender_);
  return *this;
}

PassedFiles::~PassedFiles() {
  if (files_.empty()) return;
  Drop(Take());
}

std::vector<Ref<File>> PassedFiles::Take() {
  if (!files_.empty() && UnixSocketsInFlight()) Forget(files_);
  CountFiles(sender_, files_.size(), false);
  std::vector<Ref<File>> taken = std::move(files_);
  files_.clear();
  return taken;
}

void CollectUnixSockets() {
  // A search looks at all sockets under way: one for an eighth as many that are closed.
  if (closed_since.fetch_add(1) + 1 < sockets_in_flight.load() / 8 || dropping) return;
  if (collecting.exchange(true)) return;
  closed_since = 0;
  std::vector<UnixMessage> dropped;
  {
    MutexLock lock(in_flight_mu);
    // Candidates: all that refer to the file are messages. Nobody can get at such a socket but by
    // receiving it, so what is found below stays true.
    struct Node {
      UnixEndpoint* endpoint;
      size_t outside;  // messages that are not in a candidate's queue
      std::vector<const File*> holds;
      bool reachable = false;
    };
    std::map<const File*, Node> nodes;
    for (const auto& [file, flight] : InFlightFiles()) {
      if (file->ref_count() == flight.count) {
        nodes.try_emplace(file, Node{flight.endpoint, flight.count, {}});
      }
    }
    // What a candidate's queue holds; those that wait to be accepted have queues too.
    const auto look = [&](Node& node, UnixEndpoint& e, const auto& self) -> void {
      std::vector<Ref<UnixEndpoint>> pending;
      {
        MutexLock queue(e.mu);
        for (const UnixMessage& m : e.messages) {
          for (const Ref<File>& f : m.files.files()) {
            auto to = nodes.find(f.get());
            if (to == nodes.end()) continue;
            to->second.outside--;
            node.holds.push_back(f.get());
          }
        }
        pending.assign(e.pending.begin(), e.pending.end());
      }
      for (const Ref<UnixEndpoint>& p : pending) self(node, *p, self);
    };
    for (auto& [file, node] : nodes) look(node, *node.endpoint, look);
    std::vector<const File*> todo;
    for (auto& [file, node] : nodes) {
      if (node.outside == 0) continue;
      node.reachable = true;
      todo.push_back(file);
    }
    while (!todo.empty()) {
      Node& node = nodes.at(todo.back());
      todo.pop_back();
      for (const File* f : node.holds) {
        Node& next = nodes.at(f);
        if (std::exchange(next.reachable, true)) continue;
        todo.push_back(f);
      }
    }
    const auto empty = [&](UnixEndpoint& e, const auto& self) -> void {
      std::vector<Ref<UnixEndpoint>> pending;
      {
        MutexLock queue(e.mu);
        for (UnixMessage& m : e.messages) dropped.push_back(std::move(m));
        e.messages.clear();
        pending.assign(e.pending.begin(), e.pending.end());
      }
      for (const Ref<UnixEndpoint>& p : pending) self(*p, self);
    };
    for (auto& [file, node] : nodes) {
      if (!node.reachable) empty(*node.endpoint, empty);
    }
  }
  dropped.clear();
  collecting = false;
}

}  // namespace ringwall
