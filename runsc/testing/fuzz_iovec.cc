// libFuzzer: vectors of buffers, message headers and control data, as hostile calls pass them, on files,
// pipes and sockets. Input: again and again the call, the descriptor, flags, then buffers.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "runsc/testing/call_script.h"

namespace ringwall::testing {
namespace {

constexpr std::array<uint64_t, 12> kCalls = {SYS_readv,   SYS_writev,  SYS_preadv2,  SYS_pwritev2,
                                             SYS_vmsplice, SYS_sendmsg, SYS_recvmsg, SYS_sendmmsg,
                                             SYS_recvmmsg, SYS_process_vm_readv, SYS_process_vm_writev,
                                             SYS_sendmsg};
constexpr std::array<uint64_t, 16> kPlaces = {kScriptMemory + 0x8000, kScriptMemory + 0x8000, kScriptMemory + 0x8000,
                                              kScriptMemory + 0x8ff1, kScriptMemory + 0x20000, kScriptStack,
                                              kScriptMemory, kScriptMemory + kScriptMemorySize - 1,
                                              0, 1, 0x7ffe'0000'0000, 0x7fff'ffff'f000,
                                              ~uint64_t{0}, uint64_t{1} << 63, kScriptMemory - 1, 0x8000'0000'0000};
constexpr int kDescriptors = 15;

class Iovec final : public CallScript {
 public:
  using CallScript::CallScript;

 protected:
  std::optional<ScriptCall> SetUp(size_t step) override {
    switch (step) {
      case 0: return ScriptCall{SYS_pipe2, {Room(8), O_NONBLOCK}};
      case 1: return ScriptCall{SYS_openat, {uint64_t(AT_FDCWD), PutString("/tmp/f"), O_RDWR | O_CREAT, 0600}};
      case 2: return ScriptCall{SYS_socketpair, {AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, Room(8)}};
      case 3: return ScriptCall{SYS_socketpair, {AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, Room(8)}};
      case 4: return ScriptCall{SYS_socketpair, {AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, Room(8)}};
      case 5: return ScriptCall{SYS_socket, {AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0}};
      case 6: return ScriptCall{SYS_socket, {AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0}};
      case 7: return ScriptCall{SYS_openat, {uint64_t(AT_FDCWD), PutString("/dev/null"), O_RDWR}};
      case 8: return ScriptCall{SYS_openat, {uint64_t(AT_FDCWD), PutString("/proc/self/mem"), O_RDWR}};
      case 9: return ScriptCall{SYS_eventfd2, {3, O_NONBLOCK}};
      case 10: return ScriptCall{SYS_socket, {AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, 0}};
      default: return std::nullopt;
    }
  }

  ScriptCall FromInput(FuzzBytes& in) override {
    const uint64_t nr = in.OneOf(kCalls), fd = in.Byte() % kDescriptors, flags = in.Byte();
    switch (nr) {
      case SYS_sendmsg:
      case SYS_recvmsg: return {nr, {fd, PutValue(Message(in)), MessageFlags(flags)}};
      case SYS_sendmmsg:
      case SYS_recvmmsg: {
        std::array<mmsghdr, 3> messages{};
        for (mmsghdr& m : messages) m.msg_hdr = Message(in);
        const uint64_t at = Put(messages.data(), sizeof(messages));
        return {nr, {fd, at, in.Byte() % 8u, MessageFlags(flags) | MSG_DONTWAIT, 0}};
      }
      case SYS_process_vm_readv:
      case SYS_process_vm_writev: {
        uint64_t n = 0, m = 0;
        const uint64_t own = Vector(in, &n), other = Vector(in, &m);
        return {nr, {2, own, n, other, m, flags >> 7}};
      }
      default: {
        uint64_t n = 0;
        const uint64_t vector = Vector(in, &n);
        if (nr == SYS_vmsplice) return {nr, {fd, vector, n, flags & 15u}};
        return {nr, {fd, vector, n, in.Size(), 0, flags & 0x3fu}};
      }
    }
  }

 private:
  static uint64_t MessageFlags(uint64_t flags) {
    return (flags & 0x7f) | ((flags & 0x80) != 0 ? MSG_CMSG_CLOEXEC | MSG_NOSIGNAL : 0);
  }
  uint64_t Vector(FuzzBytes& in, uint64_t* count) {
    std::array<iovec, 8> v{};
    const uint8_t n = in.Byte();
    *count = n == 0xff ? 1025 : n == 0xfe ? ~uint64_t{0} : n % (v.size() + 1);
    for (size_t i = 0; i < std::min<size_t>(*count, v.size()); i++) {
      v[i].iov_base = reinterpret_cast<void*>(in.OneOf(kPlaces));
      v[i].iov_len = in.Size();
    }
    return Put(v.data(), sizeof(v));
  }
  msghdr Message(FuzzBytes& in) {
    msghdr m{};
    uint64_t n = 0;
    m.msg_iov = reinterpret_cast<iovec*>(Vector(in, &n));
    m.msg_iovlen = n;
    const std::span<const uint8_t> name = in.Some();
    m.msg_name = reinterpret_cast<void*>(Put(name));
    m.msg_namelen = static_cast<socklen_t>(name.size());
    // Control messages: a header from two bytes that choose, and data.
    std::vector<uint8_t> control;
    for (int left = in.Byte() % 4; left > 0; left--) {
      cmsghdr c{};
      const uint8_t what = in.Byte();
      constexpr std::array<int, 8> kLevels = {SOL_SOCKET, SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6,
                                              IPPROTO_UDP, IPPROTO_TCP, 0, 270};
      c.cmsg_level = kLevels[what & 7];
      c.cmsg_type = (what & 0x80) != 0 ? in.Byte() : what >> 3;
      const std::span<const uint8_t> data = in.Some();
      c.cmsg_len = CMSG_LEN(data.size());
      if (in.Byte() > 0xf0) c.cmsg_len = in.Size();
      const uint8_t* const head = reinterpret_cast<const uint8_t*>(&c);
      control.insert(control.end(), head, head + sizeof(c));
      control.insert(control.end(), data.begin(), data.end());
      control.resize((control.size() + 7) & ~size_t{7});
    }
    m.msg_control = reinterpret_cast<void*>(Put(control));
    m.msg_controllen = in.Byte() > 0xf0 ? in.Size() : control.size();
    return m;
  }
};

}  // namespace
}  // namespace ringwall::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return ringwall::testing::RunInput<ringwall::testing::Iovec>(data, size);
}
