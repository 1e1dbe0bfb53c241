// Turns a validated OCI spec into what StartSandbox takes.
#ifndef RINGWALL_RUNSC_CONTAINER_CONVERT_H_
#define RINGWALL_RUNSC_CONTAINER_CONVERT_H_

#include <string>
#include <vector>

#include "runsc/boot/boot.h"
#include "runsc/cli/config.h"
#include "runsc/sandbox/sandbox.h"
#include "runsc/spec/spec.h"

namespace ringwall {

// Without stdio. Warnings name what has no effect.
HostResult<BootProcess> ToBootProcess(const oci::Process& process,
                                      std::vector<std::string>* warnings);

// Mounts, gofer roots, devices, names, limits and the process. `bundle` is absolute.
HostResult<void> FillFromSpec(const oci::Spec& spec, const std::string& bundle,
                              const Config& config, BootArgs* boot, SandboxOptions* options,
                              std::vector<std::string>* warnings);

// The writable layer that --overlay2 asks for over the host's directory `source`, which must be shown
// read-only then.
void SetOverlay(const Config& config, const std::string& source, BootMount* mount,
                SandboxOptions* options, std::vector<std::string>* warnings);

// linux.seccomp as classic BPF.
HostResult<void> CompileSeccomp(const oci::Seccomp& seccomp, BootProcess* process,
                                std::vector<std::string>* warnings);

struct MountOptions {
  uint64_t flags = 0;
  uint64_t propagation = 0;
  bool bind = false, recursive = false, id_mapped = false;
  std::string data;
};
// Splits what mount(8) takes into flags and the file system's own data.
MountOptions ParseMountOptions(const std::vector<std::string>& options);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_CONTAINER_CONVERT_H_
