// How much of the program's file a waiting process keeps in memory.
#ifndef RINGWALL_SENTRY_BASE_RESIDENT_H_
#define RINGWALL_SENTRY_BASE_RESIDENT_H_

namespace ringwall {

// Lets go of the pages of code and constants, of which only few are used once a process waits; they come
// back from the page cache when they are touched. Start-up code is the larger part of what was.
void ForgetCode();

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_BASE_RESIDENT_H_
