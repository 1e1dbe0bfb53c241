// Gives up what a process of the sandbox does not need: user, groups, capabilities, limits.
#ifndef RINGWALL_RUNSC_SANDBOX_PRIVILEGES_H_
#define RINGWALL_RUNSC_SANDBOX_PRIVILEGES_H_

#include <cstdint>
#include <vector>

#include "runsc/sandbox/layers.h"
#include "runsc/sandbox/namespaces.h"

namespace ringwall {

// Empties the bounding set but for `keep` (bit n is capability n), becomes nobody when asked and
// possible (an ordinary user stays itself), keeps only the capabilities of `keep` and sets
// no_new_privs.
void GiveUpPrivileges(uint64_t keep, bool become_nobody, const IdMaps& maps, Layers& layers);

// Undoes what the caller's limits would do to the sandbox's own processes, as far as it may: they are the
// guest's to feel, and the guest has them from BootProcess.
void RaiseLimits();

// No core dumps, no message queues, as many descriptors as the host grants or `max_files` (-1: no limit
// of our own).
void LimitResources(Layers& layers, int64_t max_files = -1);

// The calling process dies with the thread that made it. Undone by a change of user.
void DieWithParent();

// Closes every descriptor but those of `keep`; 0, 1 and 2 become `null`, /dev/null.
void CloseAllBut(int null, std::vector<int> keep);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_SANDBOX_PRIVILEGES_H_
