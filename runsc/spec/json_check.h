// CheckJson: a strict walk over JSON beside a Protobuf message's description, before Protobuf's
// own JSON mapping reads it. Says what that does not: the line and the field of what is wrong, what
// was expected there, and the names of fields that nobody knows.
#ifndef RINGWALL_RUNSC_SPEC_JSON_CHECK_H_
#define RINGWALL_RUNSC_SPEC_JSON_CHECK_H_

#include <string>
#include <string_view>
#include <vector>

#include "sentry/base/host_error.h"

namespace google::protobuf {
class Descriptor;
}

namespace ringwall {

struct UnknownField {
  std::string path;  // "linux.foo"
  int line = 0;
};

// The error reads "line 7: process.args[1]: expected a string, found a number".
HostResult<std::vector<UnknownField>> CheckJson(std::string_view text,
                                                const google::protobuf::Descriptor& type);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_SPEC_JSON_CHECK_H_
