// libFuzzer: any bytes as a request over the control channel. What the Sentry makes of a message, ahead of
// doing it, must not crash, whatever descriptors came beside it: the first byte says how many.
#include <fcntl.h>

#include <cstdint>

#include "runsc/boot/control.h"

using ringwall::FromProto;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  ringwall::control::Request request;
  if (!request.ParseFromArray(data + 1, static_cast<int>(size - 1))) return 0;
  const auto descriptors = [&] {
    std::vector<ringwall::UniqueFd> fds;
    for (int i = 0; i < data[0] % 8; i++) fds.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    return fds;
  };
  static_cast<void>(FromProto(request.join(), descriptors()).ok());
  static_cast<void>(FromProto(request.exec().process(), descriptors()).ok());
  static_cast<void>(FromProto(request.start().network(), descriptors()).ok());
  return 0;
}
