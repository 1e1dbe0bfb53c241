// libFuzzer: any bytes as config.json. Nothing may crash, and what the check lets through must be
// readable by Protobuf's JSON mapping.
#include <cstdint>
#include <cstdlib>

#include "runsc/spec/spec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::string> warnings;
  auto spec = ringwall::ParseSpec(
      std::string_view(reinterpret_cast<const char*>(data), size), "config.json", &warnings);
  if (spec.ok()) {
    [[maybe_unused]] const auto valid = ringwall::ValidateSpec(*spec, &warnings);
  }
  return 0;
}
