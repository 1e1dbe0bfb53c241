#include <errno.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>

#include "runsc/container/convert.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

struct Release {
  void operator()(void* context) const { seccomp_release(context); }
};

HostError Bad(const std::string& field, const std::string& what) {
  return HostError::Message("config.json: linux.seccomp." + field + ": " + what);
}

HostResult<uint32_t> Action(const std::string& name, uint32_t errno_value,
                            const std::string& field) {
  if (name == "SCMP_ACT_ALLOW") return uint32_t{SCMP_ACT_ALLOW};
  if (name == "SCMP_ACT_ERRNO") return uint32_t{SCMP_ACT_ERRNO(errno_value & 0xffff)};
  if (name == "SCMP_ACT_KILL" || name == "SCMP_ACT_KILL_THREAD") {
    return uint32_t{SCMP_ACT_KILL_THREAD};
  }
  if (name == "SCMP_ACT_KILL_PROCESS") return uint32_t{SCMP_ACT_KILL_PROCESS};
  if (name == "SCMP_ACT_TRAP") return uint32_t{SCMP_ACT_TRAP};
  if (name == "SCMP_ACT_TRACE") return uint32_t{SCMP_ACT_TRACE(errno_value & 0xffff)};
  if (name == "SCMP_ACT_LOG") return uint32_t{SCMP_ACT_LOG};
  if (name == "SCMP_ACT_NOTIFY") {
    return Bad(field, "SCMP_ACT_NOTIFY is not supported: no filter here asks a process outside");
  }
  return Bad(field, "\"" + name + "\" is not an action");
}

HostResult<scmp_compare> Compare(const std::string& name, const std::string& field) {
  static constexpr std::pair<const char*, scmp_compare> kNames[] = {
      {"SCMP_CMP_NE", SCMP_CMP_NE}, {"SCMP_CMP_LT", SCMP_CMP_LT}, {"SCMP_CMP_LE", SCMP_CMP_LE},
      {"SCMP_CMP_EQ", SCMP_CMP_EQ}, {"SCMP_CMP_GE", SCMP_CMP_GE}, {"SCMP_CMP_GT", SCMP_CMP_GT},
      {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ}};
  for (const auto& [known, compare] : kNames) {
    if (name == known) return compare;
  }
  return Bad(field, "\"" + name + "\" is not a comparison");
}

HostResult<void> AddCall(void* context, const oci::SeccompCall& call, uint32_t default_action,
                         const std::string& field) {
  const uint32_t errno_value = call.has_errno_ret() ? call.errno_ret() : EPERM;
  const uint32_t action = TRY(Action(call.action(), errno_value, field + ".action"));
  if (action == default_action) return {};  // says nothing new; libseccomp refuses it
  std::vector<scmp_arg_cmp> args;
  bool repeated = false;
  for (int i = 0; i < call.args_size(); i++) {
    const oci::SeccompArg& arg = call.args(i);
    const std::string arg_field = field + ".args[" + std::to_string(i) + "]";
    if (arg.index() > 5) return Bad(arg_field + ".index", "is above 5");
    const scmp_compare op = TRY(Compare(arg.op(), arg_field + ".op"));
    const scmp_arg_cmp compare = {arg.index(), op, arg.value(), arg.value_two()};
    for (const scmp_arg_cmp& known : args) repeated |= known.arg == compare.arg;
    args.push_back(compare);
  }
  for (const std::string& name : call.names()) {
    const int number = seccomp_syscall_resolve_name(name.c_str());
    if (number == __NR_SCMP_ERROR) continue;  // a call of another architecture, or a newer one
    int error = 0;
    if (repeated) {
      // Two conditions on one argument: any of them suffices, as other runtimes have it.
      for (const scmp_arg_cmp& arg : args) {
        if (error == 0) error = seccomp_rule_add_array(context, action, number, 1, &arg);
      }
    } else {
      error = seccomp_rule_add_array(context, action, number, static_cast<unsigned>(args.size()),
                                     args.data());
    }
    if (error != 0) return HostError::WithErrno(-error, "add to the container's filter", name);
  }
  return {};
}

}  // namespace

HostResult<void> CompileSeccomp(const oci::Seccomp& seccomp, BootProcess* process,
                                std::vector<std::string>* warnings) {
  const uint32_t default_errno =
      seccomp.has_default_errno_ret() ? seccomp.default_errno_ret() : EPERM;
  const uint32_t default_action =
      TRY(Action(seccomp.default_action(), default_errno, "defaultAction"));
  const std::unique_ptr<void, Release> context(seccomp_init(default_action));
  if (context == nullptr) return HostError::WithErrno(ENOMEM, "make the container's filter");
  // A search tree by the call's number: engines list hundreds of them. Older libraries have no such
  // thing.
  seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  for (const std::string& flag : seccomp.flags()) {
    if (flag == "SECCOMP_FILTER_FLAG_LOG") {
      process->seccomp_flags |= 2;
    } else if (flag == "SECCOMP_FILTER_FLAG_SPEC_ALLOW") {
      process->seccomp_flags |= 4;
    } else if (flag != "SECCOMP_FILTER_FLAG_TSYNC") {
      warnings->push_back("config.json: linux.seccomp.flags: " + flag + " has no effect");
    }
  }
  for (int i = 0; i < seccomp.syscalls_size(); i++) {
    TRY(AddCall(context.get(), seccomp.syscalls(i), default_action,
                "syscalls[" + std::to_string(i) + "]"));
  }
  UniqueFd memory(memfd_create("seccomp", MFD_CLOEXEC));
  if (!memory) return HostError::Last("make a memory file");
  if (const int error = seccomp_export_bpf(context.get(), memory.get()); error != 0) {
    return HostError::WithErrno(-error, "compile the container's filter");
  }
  struct stat attributes;
  if (fstat(memory.get(), &attributes) != 0) return HostError::Last("measure a memory file");
  process->seccomp_program.resize(static_cast<size_t>(attributes.st_size));
  if (pread(memory.get(), process->seccomp_program.data(), process->seccomp_program.size(), 0) !=
      attributes.st_size) {
    return HostError::Last("read a memory file");
  }
  return {};
}

}  // namespace ringwall
