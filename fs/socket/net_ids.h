// The numbers by which network namespaces know each other (net/core/net_namespace.c, netns_ids):
// each namespace has a table of its own, and a namespace that ends leaves all tables.
//
// A namespace is named by its stack, which devices that lead to another namespace know too. All
// functions are thread-safe, and may be called with a stack's lock.
#ifndef RINGWALL_FS_SOCKET_NET_IDS_H_
#define RINGWALL_FS_SOCKET_NET_IDS_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "netstack/stack.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"

namespace ringwall {

class NetNamespace;

namespace net_ids {

constexpr int32_t kNone = -1;  // NETNSA_NSID_NOT_ASSIGNED

// A namespace begins and ends. Remove tells who knew it, and by which number.
void Add(NetNamespace& net);
std::vector<std::pair<const net::Stack*, int32_t>> Remove(NetNamespace& net);

// The number of `peer` in the table of `of`; kNone without one.
int32_t Find(const net::Stack& of, const net::Stack& peer);
struct Given {
  int32_t id = kNone;
  bool fresh = false;  // it had none before
};
// The same, giving it the least that is free; kNone when either has ended.
Given FindOrGive(const net::Stack& of, const net::Stack& peer);
// Gives `peer` the number `wanted`, or below zero the least that is free. EEXIST: it has one;
// ENOSPC: the number is another's.
Result<int32_t> Give(const net::Stack& of, const net::Stack& peer, int32_t wanted);
// The namespace with a number; null without one.
RefPtr<NetNamespace> Get(const net::Stack& of, int32_t id);
// Every number in order, with the number that `seen_by` has for the same namespace.
std::vector<std::pair<int32_t, int32_t>> List(const net::Stack& of, const net::Stack& seen_by);

}  // namespace net_ids
}  // namespace ringwall

#endif  // RINGWALL_FS_SOCKET_NET_IDS_H_
