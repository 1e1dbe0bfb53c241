// ReuseGroup: the endpoints that share one address and port by SO_REUSEPORT, and how one of them is
// chosen for a new flow. Compare Linux's net/core/sock_reuseport.c. Guarded by the stack's lock.
#ifndef RINGWALL_NETSTACK_REUSE_GROUP_H_
#define RINGWALL_NETSTACK_REUSE_GROUP_H_

#include <vector>

#include "netstack/endpoint.h"

namespace ringwall::net {

class ReuseGroup final : public RefCounted<ReuseGroup> {
 public:
  void Add(Endpoint* e) { members_.push_back(e); }
  // The last takes the place of the one that goes, as programs that count places know it.
  void Remove(Endpoint* e);
  // `hash` is of the flow; `payload` is what the attached program sees. Null: no members.
  Endpoint* Select(uint64_t hash, ByteSpan payload) const;

  RefPtr<EndpointFilter> program;  // its result is the place of the endpoint

 private:
  std::vector<Endpoint*> members_;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_REUSE_GROUP_H_
