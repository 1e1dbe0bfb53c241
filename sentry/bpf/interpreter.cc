// Runs what the verifier accepted. The loads differ between sockets and seccomp, the rest does not.
#include <linux/bpf_common.h>
#include <linux/filter.h>
#include <string.h>

#include "sentry/bpf/bpf.h"

namespace ringwall::bpf {

namespace {

// A load: a value; or nullopt, which ends the program with `exit`.
struct Loaded {
  bool ok;
  uint32_t value;  // when not ok: the program's result
};

constexpr Loaded Value(uint32_t v) { return {true, v}; }
constexpr Loaded Exit(uint32_t result) { return {false, result}; }

struct Machine {
  uint32_t a = 0, x = 0;
  uint32_t scratch[kScratchWords] = {};
};

constexpr size_t SizeOf(uint16_t code) {
  return BPF_SIZE(code) == BPF_W ? 4 : BPF_SIZE(code) == BPF_H ? 2 : 1;
}

// `size` bytes in network order.
std::optional<uint32_t> BigEndian(std::span<const std::byte> bytes, uint64_t at, size_t size) {
  if (at > bytes.size() || bytes.size() - at < size) return std::nullopt;
  uint32_t v = 0;
  for (size_t i = 0; i < size; i++) v = v << 8 | std::to_integer<uint32_t>(bytes[at + i]);
  return v;
}

// Offsets are signed; those from two negative bases are from headers.
std::optional<uint32_t> LoadPacket(const Packet& p, uint32_t offset, size_t size) {
  const int64_t at = static_cast<int32_t>(offset);
  if (at >= 0) return BigEndian(p.data, static_cast<uint64_t>(at), size);
  if (at >= SKF_NET_OFF) return BigEndian(p.network, static_cast<uint64_t>(at - SKF_NET_OFF), size);
  if (at >= SKF_LL_OFF) return BigEndian(p.link, static_cast<uint64_t>(at - SKF_LL_OFF), size);
  return std::nullopt;
}

// struct nlattr: length and type, both in host order; attributes are aligned to 4 bytes.
uint32_t FindAttribute(std::span<const std::byte> data, uint64_t from, uint64_t end, uint32_t type) {
  constexpr uint64_t kHeader = 4;
  constexpr uint16_t kTypeMask = 0x3fff;
  while (end - from >= kHeader) {
    uint16_t head[2];
    memcpy(head, data.data() + from, sizeof(head));
    if (head[0] < kHeader || head[0] > end - from) return 0;
    if ((head[1] & kTypeMask) == type) return static_cast<uint32_t>(from);
    const uint64_t step = (uint64_t{head[0]} + 3) & ~uint64_t{3};
    if (step > end - from) return 0;
    from += step;
  }
  return 0;
}

uint32_t Netlink(const Packet& p, uint32_t a, uint32_t x, bool nested) {
  constexpr uint64_t kHeader = 4;
  const uint64_t size = p.data.size();
  if (size < kHeader || a > size - kHeader) return 0;
  if (!nested) return FindAttribute(p.data, a, size, x);
  uint16_t length;
  memcpy(&length, p.data.data() + a, sizeof(length));
  if (length > size - a || length < kHeader) return 0;
  return FindAttribute(p.data, a + kHeader, uint64_t{a} + length, x);
}

Loaded Ancillary(const Packet& p, uint32_t what, const Machine& m) {
  switch (what) {
    case SKF_AD_PROTOCOL:
      return Value(p.protocol);
    case SKF_AD_PKTTYPE:
      return Value(p.packet_type);
    case SKF_AD_IFINDEX:
      return p.if_index ? Value(*p.if_index) : Exit(m.a);
    case SKF_AD_HATYPE:
      return p.hardware_type ? Value(*p.hardware_type) : Exit(m.a);
    case SKF_AD_NLATTR:
    case SKF_AD_NLATTR_NEST:
      return Value(Netlink(p, m.a, m.x, what == SKF_AD_NLATTR_NEST));
    case SKF_AD_MARK:
      return Value(p.mark);
    case SKF_AD_QUEUE:
      return Value(p.queue);
    case SKF_AD_RXHASH:
      return Value(p.rx_hash);
    case SKF_AD_CPU:
      return Value(p.cpu);
    case SKF_AD_ALU_XOR_X:
      return Value(m.a ^ m.x);
    case SKF_AD_VLAN_TAG:
      return Value(p.vlan_tag);
    case SKF_AD_VLAN_TAG_PRESENT:
      return Value(p.vlan_present);
    case SKF_AD_PAY_OFFSET:
      return Value(p.payload_offset);
    case SKF_AD_RANDOM:
      return Value(p.random != nullptr ? p.random() : 0);
    case SKF_AD_VLAN_TPID:
      return Value(p.vlan_protocol);
    default:
      return Exit(0);
  }
}

struct PacketLoads {
  const Packet& packet;

  uint32_t Length() const { return static_cast<uint32_t>(packet.data.size()); }
  Loaded Absolute(const Insn& insn, const Machine& m) const {
    const auto what = static_cast<int32_t>(insn.k);
    if (what < 0 && what >= SKF_AD_OFF) {
      return Ancillary(packet, static_cast<uint32_t>(what - SKF_AD_OFF), m);
    }
    return At(insn.k, SizeOf(insn.code));
  }
  Loaded Indirect(const Insn& insn, const Machine& m) const {
    return At(insn.k + m.x, SizeOf(insn.code));
  }
  Loaded HeaderLength(const Insn& insn) const {
    const Loaded byte = At(insn.k, 1);
    return byte.ok ? Value((byte.value & 0xf) * 4) : byte;
  }
  Loaded At(uint32_t offset, size_t size) const {
    const std::optional<uint32_t> v = LoadPacket(packet, offset, size);
    return v ? Value(*v) : Exit(0);
  }
};

struct SeccompLoads {
  const SeccompData& data;

  uint32_t Length() const { return sizeof(SeccompData); }
  Loaded Absolute(const Insn& insn, const Machine&) const {
    uint32_t v;
    memcpy(&v, reinterpret_cast<const char*>(&data) + insn.k, sizeof(v));
    return Value(v);
  }
  Loaded Indirect(const Insn&, const Machine&) const { return Exit(0); }
  Loaded HeaderLength(const Insn&) const { return Exit(0); }
};

// What a program computes from the number and the architecture alone: other loads end it.
struct ConstantLoads {
  int32_t nr;
  uint32_t arch;
  bool* known;

  uint32_t Length() const { return sizeof(SeccompData); }
  Loaded Absolute(const Insn& insn, const Machine&) const {
    if (insn.k == offsetof(SeccompData, nr)) return Value(static_cast<uint32_t>(nr));
    if (insn.k == offsetof(SeccompData, arch)) return Value(arch);
    *known = false;
    return Exit(0);
  }
  Loaded Indirect(const Insn&, const Machine&) const { return Exit(0); }
  Loaded HeaderLength(const Insn&) const { return Exit(0); }
};

uint32_t Alu(uint16_t op, uint32_t a, uint32_t b) {
  switch (op) {
    case BPF_ADD:
      return a + b;
    case BPF_SUB:
      return a - b;
    case BPF_MUL:
      return a * b;
    case BPF_AND:
      return a & b;
    case BPF_OR:
      return a | b;
    case BPF_XOR:
      return a ^ b;
    case BPF_LSH:
      return a << (b & 31);
    case BPF_RSH:
      return a >> (b & 31);
    case BPF_NEG:
      return 0 - a;
    default:
      return a;
  }
}

bool Compare(uint16_t op, uint32_t a, uint32_t b) {
  switch (op) {
    case BPF_JEQ:
      return a == b;
    case BPF_JGT:
      return a > b;
    case BPF_JGE:
      return a >= b;
    default:
      return (a & b) != 0;
  }
}

template <typename Loads>
uint32_t RunProgram(std::span<const Insn> program, const Loads& loads) {
  Machine m;
  for (size_t pc = 0; pc < program.size(); pc++) {
    const Insn& insn = program[pc];
    const uint32_t operand = BPF_SRC(insn.code) == BPF_X ? m.x : insn.k;
    switch (BPF_CLASS(insn.code)) {
      case BPF_LD:
      case BPF_LDX: {
        uint32_t& to = BPF_CLASS(insn.code) == BPF_LD ? m.a : m.x;
        Loaded got = Value(insn.k);
        switch (BPF_MODE(insn.code)) {
          case BPF_ABS:
            got = loads.Absolute(insn, m);
            break;
          case BPF_IND:
            got = loads.Indirect(insn, m);
            break;
          case BPF_MSH:
            got = loads.HeaderLength(insn);
            break;
          case BPF_MEM:
            got = Value(m.scratch[insn.k]);
            break;
          case BPF_LEN:
            got = Value(loads.Length());
            break;
          default:
            break;
        }
        if (!got.ok) return got.value;
        to = got.value;
        break;
      }
      case BPF_ST:
        m.scratch[insn.k] = m.a;
        break;
      case BPF_STX:
        m.scratch[insn.k] = m.x;
        break;
      case BPF_ALU:
        if (BPF_OP(insn.code) == BPF_DIV || BPF_OP(insn.code) == BPF_MOD) {
          if (operand == 0) return 0;
          m.a = BPF_OP(insn.code) == BPF_DIV ? m.a / operand : m.a % operand;
          break;
        }
        m.a = Alu(BPF_OP(insn.code), m.a, operand);
        break;
      case BPF_JMP:
        if (BPF_OP(insn.code) == BPF_JA) {
          pc += insn.k;
        } else {
          pc += Compare(BPF_OP(insn.code), m.a, operand) ? insn.jt : insn.jf;
        }
        break;
      case BPF_RET:
        return BPF_RVAL(insn.code) == BPF_A ? m.a : insn.k;
      default:  // BPF_MISC
        if (BPF_MISCOP(insn.code) == BPF_TAX) {
          m.x = m.a;
        } else {
          m.a = m.x;
        }
        break;
    }
  }
  return 0;
}

}  // namespace

uint32_t SocketFilter::Run(const Packet& packet) const {
  return RunProgram(program_, PacketLoads{packet});
}

uint32_t SeccompFilter::Run(const SeccompData& data) const {
  return RunProgram(program_, SeccompLoads{data});
}

std::optional<uint32_t> SeccompFilter::ConstantResult(int32_t nr, uint32_t arch) const {
  bool known = true;
  const uint32_t result = RunProgram(program_, ConstantLoads{nr, arch, &known});
  if (!known) return std::nullopt;
  return result;
}

}  // namespace ringwall::bpf
