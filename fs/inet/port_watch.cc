#include "fs/inet/port_watch.h"

namespace ringwall {

namespace {
const NetNamespace* watched = nullptr;
PortWatch* watch_of_it = nullptr;
}  // namespace

void SetPortWatch(NetNamespace& ns, PortWatch& watch) {
  watched = &ns;
  watch_of_it = &watch;
}

PortWatch* PortWatchOf(const NetNamespace& ns) { return &ns == watched ? watch_of_it : nullptr; }

}  // namespace ringwall
