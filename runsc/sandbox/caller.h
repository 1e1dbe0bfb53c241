// What the caller of a command is: its ids, environment, directory and limits, as a program run by
// it would inherit them. And small helpers to read such things from flags.
#ifndef RINGWALL_RUNSC_SANDBOX_CALLER_H_
#define RINGWALL_RUNSC_SANDBOX_CALLER_H_

#include <string>
#include <vector>

#include "runsc/boot/boot.h"
#include "sentry/base/host_error.h"

namespace ringwall {

inline constexpr uint64_t kAllCaps = (uint64_t{1} << 41) - 1;

// All of them for root, for others only the bound that set-uid programs can reach.
BootCaps DefaultCaps(uid_t uid);

// Without argv and stdio.
HostResult<BootProcess> CallersProcess();

// "NAME=VALUE", or "NAME" for the caller's value; replaces or appends.
void SetVariable(std::vector<std::string>& envp, const std::string& variable);

// RLIMIT_* number of "nofile" or "RLIMIT_NOFILE"; -1 when there is none.
int RlimitByName(const std::string& name);
HostResult<BootRlimit> ParseUlimit(const std::string& text);

std::vector<std::string> Split(const std::string& text, char separator);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_SANDBOX_CALLER_H_
