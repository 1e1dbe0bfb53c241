// Feeds arbitrary programs and packets to the verifier and, when it accepts them, to the interpreter.
#include <string.h>

#include <algorithm>

#include "sentry/base/check.h"
#include "sentry/bpf/bpf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ringwall;
  if (size < 1) return 0;
  // The first byte says how much of the rest is program; what follows is the packet.
  const size_t insns = std::min<size_t>(data[0], (size - 1) / sizeof(bpf::Insn));
  std::vector<bpf::Insn> program(insns);
  if (insns != 0) memcpy(program.data(), data + 1, insns * sizeof(bpf::Insn));
  const std::span<const std::byte> rest =
      std::as_bytes(std::span(data, size)).subspan(1 + insns * sizeof(bpf::Insn));

  const Result<bpf::SocketFilter> socket = bpf::SocketFilter::Create(program);
  if (socket.ok()) {
    bpf::Packet packet;
    packet.data = rest;
    packet.network = rest.subspan(rest.size() / 2);
    static_cast<void>(socket->Run(packet));
  }
  const Result<bpf::SeccompFilter> seccomp = bpf::SeccompFilter::Create(program);
  if (seccomp.ok()) {
    RW_CHECK(socket.ok());
    bpf::SeccompData call = {};
    memcpy(&call, rest.data(), std::min(rest.size(), sizeof(call)));
    const uint32_t result = seccomp->Run(call);
    const std::optional<uint32_t> constant = seccomp->ConstantResult(call.nr, call.arch);
    RW_CHECK(!constant || *constant == result);
  }
  return 0;
}
