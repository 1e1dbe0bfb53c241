// The pid of this process's zygote, for who reaps the Sentry's children; 0 when there is none.
#ifndef RINGWALL_PLATFORM_STUB_ZYGOTE_PID_H_
#define RINGWALL_PLATFORM_STUB_ZYGOTE_PID_H_

#include <sys/types.h>

namespace ringwall {

pid_t ZygotePid();

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_STUB_ZYGOTE_PID_H_
