// libFuzzer: control data of a hostile sendmsg, walked and written again. The first byte is how much
// room the writer has.
#include <cstdint>
#include <cstdlib>

#include "fs/socket/control.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data + 1, size - 1));
  ringwall::ControlOut out(data[0]);
  size_t seen = 0;
  const ringwall::Result<void> walked =
      ringwall::ForEachControl(bytes, [&](const ringwall::ControlMessage& c)
                                   -> ringwall::Result<void> {
        seen += sizeof(ringwall::CmsgHeader) + c.data.size();
        out.Put(c.level, c.type, c.data);
        return {};
      });
  static_cast<void>(walked);
  if (seen > bytes.size() || out.bytes().size() > data[0]) abort();
  return 0;
}
