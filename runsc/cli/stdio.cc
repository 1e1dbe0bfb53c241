#include "runsc/cli/stdio.h"

#include <fcntl.h>

#include <array>
#include <cstddef>

namespace ringwall {
namespace {
std::array<bool, 3> was_closed;
}

void FillStdio() {
  for (int fd = 0; fd <= 2; fd++) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    was_closed[static_cast<size_t>(fd)] = true;
    [[maybe_unused]] const int null = ::open("/dev/null", O_RDWR);
  }
}

bool StdioWasClosed(int fd) { return was_closed[static_cast<size_t>(fd)]; }

}  // namespace ringwall
