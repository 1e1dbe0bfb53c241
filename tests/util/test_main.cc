// The main() of every guest test program: the plain surroundings that each case may rely on.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char** argv) {
  // A case that ends the process must not lose the lines of those before it.
  setvbuf(stdout, nullptr, _IOLBF, 0);
  umask(022);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  signal(SIGHUP, SIG_DFL);
  // Descriptors inherited from whoever started us would make the numbers below differ.
  for (int fd = 3; fd < 64; ++fd) close(fd);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
