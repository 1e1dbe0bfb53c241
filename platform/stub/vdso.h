// Where the host kernel put the vDSO in this process, which guests get as well.
#ifndef RINGWALL_PLATFORM_STUB_VDSO_H_
#define RINGWALL_PLATFORM_STUB_VDSO_H_

namespace ringwall {

// Reads it from /proc/self/maps. For a process that goes to an empty root before it makes its
// platform: afterwards the guests would have no vDSO. Not thread-safe; the second call does nothing.
void RememberVdso();

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_STUB_VDSO_H_
