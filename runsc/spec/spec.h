// Reads config.json (and exec's process.json) into the messages of oci.proto and says what is
// wrong with it. Nothing of the host is looked at here.
#ifndef RINGWALL_RUNSC_SPEC_SPEC_H_
#define RINGWALL_RUNSC_SPEC_SPEC_H_

#include <string>
#include <string_view>
#include <vector>

#include "runsc/spec/oci.pb.h"
#include "sentry/base/host_error.h"

namespace ringwall {

// `name` is what errors call the text ("config.json"). Warnings name ignored fields.
HostResult<oci::Spec> ParseSpec(std::string_view text, const std::string& name,
                                std::vector<std::string>* warnings);
HostResult<oci::Resources> ParseResources(std::string_view text, const std::string& name,
                                          std::vector<std::string>* warnings);
HostResult<oci::Process> ParseProcess(std::string_view text, const std::string& name,
                                      std::vector<std::string>* warnings);

// Whether a container can be made of it; fields that are known but have no effect become warnings.
HostResult<void> ValidateSpec(const oci::Spec& spec, std::vector<std::string>* warnings);
HostResult<void> ValidateProcess(const oci::Process& process, const std::string& path);

// "CAP_KILL" or "kill" to 5; -1 when there is no such capability.
int CapabilityByName(std::string_view name);
std::string CapabilityName(int number);

HostResult<std::string> ReadFileText(const std::string& path);

// What `runsc spec` writes: the spec of a shell, as JSON.
std::string ExampleSpec(bool rootless);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_SPEC_SPEC_H_
