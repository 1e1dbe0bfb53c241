#include "runsc/filter/filter.h"

#include <seccomp.h>

#include <memory>
#include <vector>

namespace ringwall {
namespace {

struct Release {
  void operator()(void* context) const { seccomp_release(context); }
};

// A rule whose arguments have several values each is one libseccomp rule per combination.
int AddRule(void* context, const FilterRule& rule) {
  const uint32_t action = rule.error != 0 ? SCMP_ACT_ERRNO(static_cast<uint16_t>(rule.error))
                                          : SCMP_ACT_ALLOW;
  std::vector<std::vector<scmp_arg_cmp>> combinations(1);
  for (const FilterArg& arg : rule.args) {
    if (arg.op == FilterArg::Op::kNone) continue;
    std::vector<std::vector<scmp_arg_cmp>> next;
    for (const auto& combination : combinations) {
      if (arg.op == FilterArg::Op::kMaskedIs) {
        next.push_back(combination);
        next.back().push_back(
            scmp_arg_cmp{arg.index, SCMP_CMP_MASKED_EQ, arg.values[0], arg.values[1]});
        continue;
      }
      for (size_t i = 0; i < arg.count; i++) {
        next.push_back(combination);
        next.back().push_back(scmp_arg_cmp{arg.index, SCMP_CMP_EQ, arg.values[i], 0});
      }
    }
    combinations = std::move(next);
  }
  for (const auto& combination : combinations) {
    const int error = seccomp_rule_add_array(context, action, rule.number,
                                             static_cast<unsigned>(combination.size()),
                                             combination.data());
    if (error != 0) return error;
  }
  return 0;
}

}  // namespace

HostResult<void> InstallFilter(std::span<const FilterRule> rules, bool trap) {
  const std::unique_ptr<void, Release> context(
      seccomp_init(trap ? SCMP_ACT_TRAP : SCMP_ACT_KILL_PROCESS));
  if (context == nullptr) return HostError::WithErrno(ENOMEM, "make a system-call filter");
  // Other machine modes (int $0x80, x32) are refused as calls that are not listed.
  seccomp_attr_set(context.get(), SCMP_FLTATR_ACT_BADARCH,
                   trap ? SCMP_ACT_TRAP : SCMP_ACT_KILL_PROCESS);
  seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);  // a binary tree
  for (const FilterRule& rule : rules) {
    if (const int error = AddRule(context.get(), rule); error != 0) {
      return HostError::WithErrno(-error, "add a rule to the system-call filter", rule.reason);
    }
  }
  if (const int error = seccomp_load(context.get()); error != 0) {
    return HostError::WithErrno(-error, "install the system-call filter");
  }
  return {};
}

}  // namespace ringwall
