// Any termios, any bytes, in any order: the line discipline stays within its bounds.
#include <cstring>

#include "fs/devpts/line_discipline.h"
#include "sentry/base/check.h"

using ringwall::LineDiscipline;
using ringwall::Result;
using ringwall::SpanDst;
using ringwall::TtyTermios;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  LineDiscipline line;
  std::vector<int> signals;
  std::byte buffer[256];
  while (size > 1) {
    const uint8_t what = data[0];
    const size_t n = std::min<size_t>(size - 2, data[1]);
    const auto bytes = std::as_bytes(std::span(data + 2, n));
    data += 2 + n;
    size -= 2 + n;
    SpanDst dst(std::span(buffer, std::max<size_t>(n, 1)));
    switch (what % 5) {
      case 0:
        line.Input(bytes, &signals);
        break;
      case 1:
        line.Output(bytes);
        break;
      case 2:
        static_cast<void>(line.Read(dst, (what & 8) != 0, &signals));
        break;
      case 3:
        static_cast<void>(line.ReadOutput(dst));
        break;
      default: {
        TtyTermios t = line.termios();
        memcpy(&t, bytes.data(), std::min(bytes.size(), sizeof(t)));
        line.SetTermios(t);
        break;
      }
    }
    RW_CHECK(line.readable_bytes() <= LineDiscipline::kRoom + 2);
    RW_CHECK(line.output_bytes() < LineDiscipline::kRoom);
    signals.clear();
  }
  return 0;
}
