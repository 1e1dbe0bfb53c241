// Bytes as a program would send them: every walk ends inside them.
#include <stddef.h>
#include <stdint.h>

#include "fs/netlink/message.h"

namespace {

using namespace ringwall::netlink;  // NOLINT: a fuzz target's only file

constexpr AttrRule kRules[] = {{},
                               {AttrKind::kU8},
                               {AttrKind::kU32},
                               {AttrKind::kString, 15},
                               {AttrKind::kNested},
                               {AttrKind::kBinary, 8},
                               {AttrKind::kExact, 6}};

void Attributes(Bytes b, int depth) {
  ExtAck ack;
  for (bool strict : {false, true}) {
    ringwall::Result<Attrs<6>> a = ParseAttrs<6>(b, kRules, &ack, strict);
    if (!a.ok()) continue;
    for (size_t type = 1; type <= 6; type++) {
      const Attr* x = a->Get(type);
      if (x == nullptr) continue;
      static_cast<void>(x->U64());
      static_cast<void>(x->Text());
      if (type == 4 && depth < 8) Attributes(x->data, depth + 1);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  MessageWalk walk({data, size});
  Builder again;
  while (std::optional<Message> m = walk.Next()) {
    Attributes(m->payload, 0);
    again.Begin(m->header.type, m->header.flags, m->header.sequence, m->header.port);
    again.Append(m->payload);
    again.End();
  }
  MessageWalk second(again.bytes());
  while (second.Next()) {
  }
  return 0;
}
