// The verifier and the interpreter against the host kernel: each program is attached to a socket
// (or installed by a child as a seccomp filter) and must be refused or answered alike.
#include "sentry/bpf/bpf.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <string>

namespace ringwall::bpf {
namespace {

using Program = std::vector<Insn>;

Insn Stmt(int code, uint32_t k) { return {static_cast<uint16_t>(code), 0, 0, k}; }
Insn Jump(int code, uint32_t k, uint8_t jt, uint8_t jf) {
  return {static_cast<uint16_t>(code), jt, jf, k};
}
uint32_t Anc(int what) { return static_cast<uint32_t>(SKF_AD_OFF + what); }

class HostSocket {
 public:
  HostSocket() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds_), 0); }
  ~HostSocket() {
    close(fds_[0]);
    close(fds_[1]);
  }
  // 0, or the errno.
  int Attach(const Program& program) {
    sock_fprog prog = {static_cast<unsigned short>(program.size()),
                       reinterpret_cast<sock_filter*>(const_cast<Insn*>(program.data()))};
    const int r = setsockopt(fds_[1], SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
    return r == 0 ? 0 : errno;
  }
  // How many bytes of `packet` come through.
  size_t Send(const std::string& packet) {
    EXPECT_EQ(send(fds_[0], packet.data(), packet.size(), 0), static_cast<ssize_t>(packet.size()));
    char buffer[4096];
    const ssize_t n = recv(fds_[1], buffer, sizeof(buffer), MSG_DONTWAIT);
    return n < 0 ? 0 : static_cast<size_t>(n);
  }

 private:
  int fds_[2];
};

size_t Ours(const Program& program, const std::string& packet) {
  Result<SocketFilter> filter = SocketFilter::Create(program);
  if (!filter.ok()) return ~size_t{0};
  Packet p;
  p.data = std::as_bytes(std::span(packet));
  return std::min<size_t>(filter->Run(p), packet.size());
}

std::string TestPacket() {
  std::string s;
  for (int i = 0; i < 300; i++) s.push_back(static_cast<char>(i * 37 + 11));
  return s;
}

void ExpectSame(const Program& program, const std::string& packet = TestPacket()) {
  HostSocket host;
  const int error = host.Attach(program);
  const Result<SocketFilter> filter = SocketFilter::Create(program);
  ASSERT_EQ(filter.ok() ? 0 : filter.error().value(), error);
  if (error != 0) return;
  ASSERT_EQ(Ours(program, packet), host.Send(packet));
}

// Ends with A's byte `byte`, plus 1 so that no packet is dropped.
Program ShowA(Program program, uint32_t byte) {
  program.push_back(Stmt(BPF_ALU | BPF_RSH | BPF_K, byte * 8));
  program.push_back(Stmt(BPF_ALU | BPF_AND | BPF_K, 0xff));
  program.push_back(Stmt(BPF_ALU | BPF_ADD | BPF_K, 1));
  program.push_back(Stmt(BPF_RET | BPF_A, 0));
  return program;
}

void ExpectSameA(const Program& program) {
  for (uint32_t byte = 0; byte < 4; byte++) ExpectSame(ShowA(program, byte));
}

TEST(BpfVerifierTest, EveryOpcodeIsJudgedAsByLinux) {
  HostSocket host;
  for (uint32_t code = 0; code < 0x400; code++) {
    const Program program = {Stmt(BPF_ST, 1), Stmt(static_cast<int>(code), 1),
                             Stmt(BPF_RET | BPF_K, 7), Stmt(BPF_RET | BPF_K, 8)};
    const int error = host.Attach(program);
    const Result<SocketFilter> filter = SocketFilter::Create(program);
    EXPECT_EQ(filter.ok() ? 0 : EINVAL, error) << "code " << code;
  }
}

TEST(BpfVerifierTest, ConstantsAndJumpsAreBounded) {
  const Insn ret = Stmt(BPF_RET | BPF_K, 9);
  for (const uint32_t k : {0u, 1u, 15u, 16u, 31u, 32u, 33u, ~0u}) {
    for (const int code :
         {BPF_ST, BPF_STX, BPF_LD | BPF_MEM, BPF_LDX | BPF_MEM, BPF_ALU | BPF_LSH | BPF_K,
          BPF_ALU | BPF_RSH | BPF_K, BPF_ALU | BPF_DIV | BPF_K, BPF_ALU | BPF_MOD | BPF_K,
          BPF_ALU | BPF_LSH | BPF_X, BPF_JMP | BPF_JA}) {
      ExpectSame({Stmt(code, k), ret});
      ExpectSame({Stmt(BPF_ST, k), Stmt(code, k), ret});
    }
  }
  for (uint8_t jt = 0; jt < 4; jt++) {
    for (uint8_t jf = 0; jf < 4; jf++) ExpectSame({Jump(BPF_JMP | BPF_JEQ | BPF_K, 0, jt, jf), ret, ret});
  }
  ExpectSame({});
  ExpectSame({Stmt(BPF_LD | BPF_IMM, 1)});
  ExpectSame(Program(kMaxInsns, ret));
  ExpectSame(Program(kMaxInsns + 1, ret));
}

TEST(BpfVerifierTest, AncillaryOffsetsAreKnownOnes) {
  for (int what = -8; what < SKF_AD_MAX + 12; what++) {
    for (const int size : {BPF_W, BPF_H, BPF_B}) {
      HostSocket host;
      const Program program = {Stmt(BPF_LD | size | BPF_ABS, Anc(what)), Stmt(BPF_RET | BPF_A, 0)};
      EXPECT_EQ(SocketFilter::Create(program).ok() ? 0 : EINVAL, host.Attach(program)) << what;
    }
  }
}

TEST(BpfVerifierTest, ScratchMustBeWrittenOnEveryWay) {
  const Insn ret = Stmt(BPF_RET | BPF_A, 0);
  // Written on one of two ways.
  ExpectSame({Jump(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1), Stmt(BPF_ST, 3), Stmt(BPF_LD | BPF_MEM, 3),
              ret});
  ExpectSame({Stmt(BPF_ST, 3), Jump(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1), Stmt(BPF_ST, 4),
              Stmt(BPF_LD | BPF_MEM, 3), ret});
  // Code that nothing reaches may read anything.
  ExpectSame({Stmt(BPF_JMP | BPF_JA, 1), Stmt(BPF_LD | BPF_MEM, 5), ret});
}

TEST(BpfRunTest, LoadsOfAllKinds) {
  for (const int size : {BPF_W, BPF_H, BPF_B}) {
    for (const uint32_t k : {0u, 1u, 2u, 3u, 296u, 297u, 298u, 299u, 300u, 0x7fffffffu, 0x80000000u}) {
      ExpectSameA({Stmt(BPF_LD | size | BPF_ABS, k)});
      ExpectSameA({Stmt(BPF_LDX | BPF_IMM, 2), Stmt(BPF_LD | size | BPF_IND, k)});
      ExpectSameA({Stmt(BPF_LDX | BPF_IMM, ~0u), Stmt(BPF_LD | size | BPF_IND, k)});
    }
  }
  for (const uint32_t k : {0u, 5u, 299u, 300u, ~0u}) {
    ExpectSameA({Stmt(BPF_LDX | BPF_B | BPF_MSH, k), Stmt(BPF_MISC | BPF_TXA, 0)});
  }
  ExpectSameA({Stmt(BPF_LD | BPF_W | BPF_LEN, 0)});
  ExpectSameA({Stmt(BPF_LDX | BPF_W | BPF_LEN, 0), Stmt(BPF_MISC | BPF_TXA, 0)});
}

TEST(BpfRunTest, AncillaryOfAUnixSocket) {
  for (const int what : {SKF_AD_PROTOCOL, SKF_AD_PKTTYPE, SKF_AD_IFINDEX, SKF_AD_MARK, SKF_AD_QUEUE,
                         SKF_AD_HATYPE, SKF_AD_ALU_XOR_X, SKF_AD_VLAN_TAG, SKF_AD_VLAN_TAG_PRESENT,
                         SKF_AD_NLATTR, SKF_AD_NLATTR_NEST}) {
    ExpectSame({Stmt(BPF_LDX | BPF_IMM, 0x21), Stmt(BPF_LD | BPF_IMM, 0x42),
                Stmt(BPF_LD | BPF_W | BPF_ABS, Anc(what)), Stmt(BPF_ALU | BPF_ADD | BPF_K, 1),
                Stmt(BPF_RET | BPF_A, 0)});
  }
}

TEST(BpfRunTest, NetlinkAttributesAreFound) {
  // Type 1 of 6 bytes, type 2 that nests type 7 and a broken end.
  const unsigned char bytes[] = {6, 0, 1, 0,    'a', 'b', 0, 0,  16, 0, 2, 0, 8,   0,
                                 7, 0, 'x', 'y', 'z', 'w', 9, 0, 8,  0, 0, 0};
  std::string packet(reinterpret_cast<const char*>(bytes), sizeof(bytes));
  packet.resize(64);
  for (uint32_t start = 0; start < 70; start++) {
    for (uint32_t type = 0; type < 10; type++) {
      for (const int what : {SKF_AD_NLATTR, SKF_AD_NLATTR_NEST}) {
        ExpectSame({Stmt(BPF_LDX | BPF_IMM, type), Stmt(BPF_LD | BPF_IMM, start),
                    Stmt(BPF_LD | BPF_W | BPF_ABS, Anc(what)), Stmt(BPF_ALU | BPF_ADD | BPF_K, 1),
                    Stmt(BPF_RET | BPF_A, 0)},
                   packet);
      }
    }
  }
}

TEST(BpfRunTest, WhatAUnixSocketDoesNotHave) {
  Packet p;
  p.protocol = 0x800;
  p.if_index = 3;
  p.hardware_type = 1;
  p.random = [] { return 77u; };
  p.payload_offset = 54;
  const std::string network = "\x45network";
  p.network = std::as_bytes(std::span(network));
  const auto run = [&](uint32_t k, int size = BPF_W) {
    const Program program = {Stmt(BPF_LD | size | BPF_ABS, k), Stmt(BPF_RET | BPF_A, 0)};
    return SocketFilter::Create(program)->Run(p);
  };
  EXPECT_EQ(run(Anc(SKF_AD_PROTOCOL)), 0x800u);
  EXPECT_EQ(run(Anc(SKF_AD_IFINDEX)), 3u);
  EXPECT_EQ(run(Anc(SKF_AD_HATYPE)), 1u);
  EXPECT_EQ(run(Anc(SKF_AD_RANDOM)), 77u);
  EXPECT_EQ(run(Anc(SKF_AD_PAY_OFFSET)), 54u);
  EXPECT_EQ(run(static_cast<uint32_t>(SKF_NET_OFF), BPF_B), 0x45u);
  EXPECT_EQ(run(static_cast<uint32_t>(SKF_LL_OFF), BPF_B), 0u);
}

// A random program of instructions that are mostly valid.
Program RandomProgram(std::mt19937& rng) {
  const auto pick = [&](uint32_t n) { return static_cast<uint32_t>(rng() % n); };
  const uint32_t values[] = {0, 1, 2, 3, 7, 31, 32, 255, 256, 299, 0x7fffffff, 0x80000000, ~0u};
  const int codes[] = {
      BPF_LD | BPF_IMM,           BPF_LDX | BPF_IMM,          BPF_LD | BPF_MEM,
      BPF_LDX | BPF_MEM,          BPF_ST,                     BPF_STX,
      BPF_LD | BPF_W | BPF_ABS,   BPF_LD | BPF_H | BPF_IND,   BPF_LDX | BPF_B | BPF_MSH,
      BPF_LD | BPF_W | BPF_LEN,   BPF_ALU | BPF_ADD | BPF_K,  BPF_ALU | BPF_SUB | BPF_X,
      BPF_ALU | BPF_MUL | BPF_X,  BPF_ALU | BPF_DIV | BPF_X,  BPF_ALU | BPF_MOD | BPF_X,
      BPF_ALU | BPF_DIV | BPF_K,  BPF_ALU | BPF_AND | BPF_X,  BPF_ALU | BPF_OR | BPF_K,
      BPF_ALU | BPF_XOR | BPF_X,  BPF_ALU | BPF_LSH | BPF_X,  BPF_ALU | BPF_RSH | BPF_X,
      BPF_ALU | BPF_LSH | BPF_K,  BPF_ALU | BPF_NEG,          BPF_JMP | BPF_JA,
      BPF_JMP | BPF_JEQ | BPF_K,  BPF_JMP | BPF_JGT | BPF_X,  BPF_JMP | BPF_JGE | BPF_K,
      BPF_JMP | BPF_JSET | BPF_X, BPF_MISC | BPF_TAX,         BPF_MISC | BPF_TXA,
      BPF_RET | BPF_K,            BPF_ALU | BPF_MOD | BPF_K,  BPF_ALU | BPF_RSH | BPF_K};
  Program program;
  for (uint32_t word = 0; word < 4; word++) program.push_back(Stmt(BPF_ST, word));
  const uint32_t size = 1 + pick(14);
  for (uint32_t i = 0; i < size; i++) {
    const int code = codes[pick(std::size(codes))];
    uint32_t k = values[pick(std::size(values))];
    const int kind = BPF_CLASS(code);
    if (kind == BPF_ST || kind == BPF_STX || (kind <= BPF_LDX && BPF_MODE(code) == BPF_MEM)) k = pick(5);
    if (code == (BPF_JMP | BPF_JA)) k = pick(4);
    if (kind == BPF_LD && BPF_MODE(code) >= BPF_ABS) k = pick(310);
    program.push_back(Jump(code, k, static_cast<uint8_t>(pick(4)), static_cast<uint8_t>(pick(4))));
  }
  return program;
}

TEST(BpfRunTest, RandomProgramsEndAsOnLinux) {
  std::mt19937 rng(20240611);
  int accepted = 0;
  for (int i = 0; i < 3000; i++) {
    const Program program = ShowA(RandomProgram(rng), static_cast<uint32_t>(i) % 4);
    ExpectSame(program);
    if (HasFatalFailure()) FAIL() << "program " << i;
    accepted += SocketFilter::Create(program).ok() ? 1 : 0;
  }
  EXPECT_GT(accepted, 1000);
}

constexpr int kKilled = -1000;

// Installs the program in a child and makes a call; the errno that the filter gave it, or the
// negative error of the installation, or kKilled.
int HostSeccomp(const Program& program, const uint64_t (&args)[6]) {
  int fds[2];
  EXPECT_EQ(pipe(fds), 0);
  // Not through the C library, where a sanitizer would start a thread that outlives a killed one.
  const pid_t child = static_cast<pid_t>(syscall(SYS_fork));
  if (child == 0) {
    int answer = -1;
    sock_fprog prog = {static_cast<unsigned short>(program.size()),
                       reinterpret_cast<sock_filter*>(const_cast<Insn*>(program.data()))};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0) {
      answer = -errno;
    } else {
      answer = syscall(SYS_getppid, args[0], args[1], args[2], args[3], args[4], args[5]) == -1 ? errno : 0;
    }
    static_cast<void>(!write(fds[1], &answer, sizeof(answer)));
    _exit(0);
  }
  close(fds[1]);
  int answer = kKilled;
  static_cast<void>(!read(fds[0], &answer, sizeof(answer)));
  int status;
  waitpid(child, &status, 0);
  close(fds[0]);
  return answer;
}

TEST(BpfSeccompTest, RandomProgramsEndAsOnLinux) {
  std::mt19937 rng(7);
  const uint64_t args[6] = {1, 0xffffffff00000002, 3, 0x80000000, 5, ~uint64_t{0}};
  SeccompData data = {};
  data.nr = SYS_getppid;
  data.arch = AUDIT_ARCH_X86_64;
  memcpy(data.args, args, sizeof(args));
  int accepted = 0;
  for (int i = 0; i < 400; i++) {
    Program program = {Stmt(BPF_LD | BPF_W | BPF_ABS, 0),
                       Jump(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 1, 0),
                       Stmt(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    for (Insn insn : RandomProgram(rng)) {
      if (insn.code == (BPF_LD | BPF_W | BPF_ABS)) insn.k = 16 + insn.k % 12 * 4;
      if (insn.code == (BPF_RET | BPF_K)) insn.k = SECCOMP_RET_ERRNO | (insn.k & 0xfff);
      program.push_back(insn);
    }
    program.push_back(Stmt(BPF_ALU | BPF_AND | BPF_K, 0xff));
    program.push_back(Stmt(BPF_ALU | BPF_ADD | BPF_K, SECCOMP_RET_ERRNO | 1));
    program.push_back(Stmt(BPF_RET | BPF_A, 0));
    const int host = HostSeccomp(program, args);
    const Result<SeccompFilter> filter = SeccompFilter::Create(program);
    if (!filter.ok()) {
      EXPECT_EQ(host, -EINVAL) << "program " << i;
      continue;
    }
    accepted++;
    const uint32_t ours = filter->Run(data);
    // A division by zero ends a program with 0, which kills; so do small numbers.
    const uint32_t action = ours & SECCOMP_RET_ACTION_FULL;
    if (action == SECCOMP_RET_KILL_THREAD) {
      EXPECT_EQ(host, kKilled) << "program " << i;
    } else if (action == SECCOMP_RET_ERRNO) {
      EXPECT_EQ(host, static_cast<int>(std::min(ours & SECCOMP_RET_DATA, 4095u))) << "program " << i;
    }
    const std::optional<uint32_t> constant = filter->ConstantResult(data.nr, data.arch);
    if (constant) {
      EXPECT_EQ(*constant, ours);
    }
  }
  EXPECT_GT(accepted, 50);
}

TEST(BpfSeccompTest, KnowsOnlyItsOwnLoads) {
  const uint64_t args[6] = {};
  for (uint32_t code = 0; code < 0x100; code++) {
    const Program program = {Stmt(BPF_ST, 4), Stmt(static_cast<int>(code), 4),
                             Stmt(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
                             Stmt(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
                             Stmt(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
                             Stmt(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
                             Stmt(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    if (code == (BPF_RET | BPF_A) || code == (BPF_RET | BPF_K)) continue;
    const bool ok = SeccompFilter::Create(program).ok();
    // By X, which is 0, it kills.
    const bool divides = code == (BPF_ALU | BPF_DIV | BPF_X);
    EXPECT_EQ(!ok ? -EINVAL : divides ? kKilled : 0, HostSeccomp(program, args)) << code;
  }
  for (uint32_t k = 0; k < 80; k++) {
    const Program program = {Stmt(BPF_LD | BPF_W | BPF_ABS, k), Stmt(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    EXPECT_EQ(SeccompFilter::Create(program).ok() ? 0 : -EINVAL, HostSeccomp(program, args)) << k;
  }
}

TEST(BpfSeccompTest, ConstantResultNeedsNoArguments) {
  const Program by_number = {Stmt(BPF_LD | BPF_W | BPF_ABS, 4),
                             Jump(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 3),
                             Stmt(BPF_LD | BPF_W | BPF_ABS, 0),
                             Jump(BPF_JMP | BPF_JEQ | BPF_K, 39, 0, 1),
                             Stmt(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
                             Stmt(BPF_LD | BPF_W | BPF_ABS, 16), Stmt(BPF_RET | BPF_A, 0)};
  const Result<SeccompFilter> filter = SeccompFilter::Create(by_number);
  ASSERT_TRUE(filter.ok());
  EXPECT_EQ(filter->ConstantResult(39, AUDIT_ARCH_X86_64), SECCOMP_RET_ALLOW);
  EXPECT_EQ(filter->ConstantResult(40, AUDIT_ARCH_X86_64), std::nullopt);
  EXPECT_EQ(filter->ConstantResult(39, AUDIT_ARCH_I386), std::nullopt);
}

}  // namespace
}  // namespace ringwall::bpf
