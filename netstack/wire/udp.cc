#include "netstack/wire/udp.h"

#include "netstack/wire/checksum.h"
#include "netstack/wire/ip.h"

namespace ringwall::net {

bool UdpView::ChecksumOk(const IpAddr& src, const IpAddr& dst) const {
  if (checksum() == 0) return src.is_v4();
  Checksum c;
  c.AddPseudo(src, dst, kProtoUdp, static_cast<uint32_t>(b_.size()));
  c.Add(b_);
  return c.Valid();
}

}  // namespace ringwall::net
