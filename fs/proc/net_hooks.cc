#include "fs/proc/net_hooks.h"

namespace ringwall {

namespace {
NetHooks net_hooks;
}  // namespace

void SetNetHooks(const NetHooks& hooks) { net_hooks = hooks; }
const NetHooks& GetNetHooks() { return net_hooks; }

}  // namespace ringwall
