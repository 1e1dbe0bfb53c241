// libFuzzer: ioctl arguments, and fcntl's, on every kind of descriptor that knows some. Input: again and
// again the descriptor, the command (of the list, or two bytes), the length of the argument, the argument.
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>

#include "runsc/testing/call_script.h"

namespace ringwall::testing {
namespace {

constexpr std::array<uint32_t, 88> kCommands = {
    TCGETS, TCSETS, TCSETSW, TCSETSF, TCGETA, TCSETA, TCSBRK, TCXONC, TCFLSH, TIOCEXCL, TIOCNXCL, TIOCSCTTY,
    TIOCGPGRP, TIOCSPGRP, TIOCOUTQ, TIOCSTI, TIOCGWINSZ, TIOCSWINSZ, TIOCMGET, FIONREAD, TIOCCONS, TIOCPKT,
    FIONBIO, TIOCNOTTY, TIOCSETD, TIOCGETD, TCSBRKP, TIOCGSID, TIOCGPTN, TIOCSPTLCK, TIOCGPTPEER, TIOCGPKT,
    TIOCGPTLCK, TIOCGEXCL, FIONCLEX, FIOCLEX, FIOASYNC, FIOQSIZE, TIOCVHANGUP,
    SIOCGIFNAME, SIOCGIFCONF, SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCGIFADDR, SIOCSIFADDR, SIOCGIFDSTADDR,
    SIOCGIFBRDADDR, SIOCSIFBRDADDR, SIOCGIFNETMASK, SIOCSIFNETMASK, SIOCGIFMETRIC, SIOCGIFMTU, SIOCSIFMTU,
    SIOCSIFNAME, SIOCGIFHWADDR, SIOCSIFHWADDR, SIOCGIFINDEX, SIOCGIFTXQLEN, SIOCSIFTXQLEN, SIOCADDRT, SIOCDELRT,
    SIOCETHTOOL, SIOCGARP, SIOCSARP, SIOCDARP, SIOCATMARK, SIOCGSTAMP_OLD, SIOCGIFMAP, SIOCADDMULTI,
    SIOCBRADDBR, SIOCBRDELBR, SIOCBRADDIF, SIOCGIFVLAN, SIOCSIFVLAN,
    TUNSETIFF, TUNGETIFF, TUNSETPERSIST, TUNSETOWNER, TUNSETOFFLOAD, TUNGETFEATURES, TUNSETVNETHDRSZ, TUNSETQUEUE,
    FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IOC_FSGETXATTR, FICLONE, FIGETBSZ, _IOW('T', 0, uint64_t) /* TFD_IOC_SET_TICKS */};
constexpr int kDescriptors = 15;

class Ioctl final : public CallScript {
 public:
  using CallScript::CallScript;

 protected:
  std::optional<ScriptCall> SetUp(size_t step) override {
    switch (step) {
      case 0: return Open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
      case 1: return ScriptCall{SYS_ioctl, {0, TIOCSPTLCK, PutValue(0)}};
      case 2: return ScriptCall{SYS_ioctl, {0, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK}};
      case 3: return ScriptCall{SYS_setsid, {}};
      case 4: return ScriptCall{SYS_ioctl, {1, TIOCSCTTY, 0}};
      case 5: return ScriptCall{SYS_socket, {AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0}};
      case 6: return ScriptCall{SYS_socket, {AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0}};
      case 7: return ScriptCall{SYS_socket, {AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0x300}};
      case 8: return ScriptCall{SYS_socket, {AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0}};
      case 9: return ScriptCall{SYS_socket, {AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, 0}};
      case 10: return Open("/dev/net/tun", O_RDWR | O_NONBLOCK);
      case 11: return Open("/tmp/f", O_RDWR | O_CREAT);
      case 12: return Open("/tmp", O_RDONLY | O_DIRECTORY);
      case 13: return ScriptCall{SYS_pipe2, {Room(8), O_NONBLOCK}};
      case 14: return ScriptCall{SYS_timerfd_create, {CLOCK_MONOTONIC, O_NONBLOCK}};
      case 15: return ScriptCall{SYS_inotify_init1, {O_NONBLOCK}};
      case 16: return ScriptCall{SYS_epoll_create1, {0}};
      case 17: return Open("/dev/full", O_RDWR);
      default: return std::nullopt;
    }
  }

  ScriptCall FromInput(FuzzBytes& in) override {
    const uint8_t what = in.Byte();
    const uint64_t fd = (what & 15) % kDescriptors;
    if ((what & 0x80) != 0) {
      // Bytes to a terminal or a device, or one of fcntl's; those that wait are left out.
      if ((what & 0x40) == 0) {
        const std::span<const uint8_t> data = in.Some();
        return {(what & 0x20) != 0 ? uint64_t{SYS_read} : uint64_t{SYS_write}, {fd, Put(data), data.size()}};
      }
      const uint32_t command = (what & 0x20) != 0 ? 1024 + in.Byte() % 16u : in.Byte() % 40u;
      std::array<uint8_t, 32> data{};
      for (uint8_t& b : data) b = in.Byte();
      return {SYS_fcntl, {fd, command == F_SETLKW || command == F_OFD_SETLKW ? F_SETLK : command,
                          in.Byte() > 0x80 ? in.Byte() : Put(data)}};
    }
    const uint32_t command = (what & 0x40) != 0 ? in.U16() : in.OneOf(kCommands);
    std::array<uint8_t, 256> data{};
    const std::span<const uint8_t> some = in.Some();
    std::copy(some.begin(), some.end(), data.begin());
    const uint64_t at = Put(data);
    return {SYS_ioctl, {fd, command, (what & 0x10) != 0 && some.size() > 0 ? some[0] : at}};
  }

 private:
  ScriptCall Open(const char* path, uint64_t flags) {
    return {SYS_openat, {uint64_t(AT_FDCWD), PutString(path), flags, 0600}};
  }
};

}  // namespace
}  // namespace ringwall::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return ringwall::testing::RunInput<ringwall::testing::Ioctl>(data, size);
}
