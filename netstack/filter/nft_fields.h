// What nftables' expressions read of a packet, its connection and the routes: meta, ct, fib, rt; and
// what reject, masquerade and redirect do.
#ifndef RINGWALL_NETSTACK_FILTER_NFT_FIELDS_H_
#define RINGWALL_NETSTACK_FILTER_NFT_FIELDS_H_

#include "netstack/filter/nft.h"

namespace ringwall::net {

// The bytes that a key writes; nullopt: no such key here.
std::optional<size_t> NftMetaSize(uint32_t key);
std::optional<size_t> NftCtSize(uint32_t key);
// Write to a register that is large enough. False: the packet has no such thing (NFT_BREAK).
bool NftGetMeta(uint32_t key, uint8_t* to, NftPacket& p);
bool NftSetMeta(uint32_t key, const uint8_t* from, NftPacket& p);
// direction: 0 original, 1 reply, 2 none given.
bool NftGetCt(uint32_t key, uint8_t direction, uint8_t* to, NftPacket& p);
bool NftGetFib(uint32_t flags, uint32_t result, uint8_t* to, NftPacket& p);
bool NftGetRt(uint32_t key, uint8_t* to, NftPacket& p);
// type: NFT_REJECT_*.
void NftReject(uint32_t type, uint32_t code, NftPacket& p);
// The own address that masquerade (source) or redirect takes.
IpAddr NftNatAddress(bool source, NftPacket& p);

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_FILTER_NFT_FIELDS_H_
