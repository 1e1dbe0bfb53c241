// The tables of options that IPPROTO_IP and IPPROTO_IPV6 only keep: numbers in the stack, flags here.
#ifndef RINGWALL_FS_INET_OPTION_ROWS_H_
#define RINGWALL_FS_INET_OPTION_ROWS_H_

#include <algorithm>
#include <cstddef>

#include "fs/inet/inet_socket.h"

namespace ringwall {

struct NumberRow {
  int name;
  net::Option option;
};

struct FlagRow {
  int name;
  IpFlag flag;
};

// MRT_* and MRT6_*: options of multicast routing, which only raw sockets of one protocol have.
constexpr bool IsRouting(int name) { return name >= 200 && name <= 212; }

// Null when no row has that name.
template <typename Row, size_t N>
const Row* Find(const Row (&rows)[N], int name) {
  const Row* r = std::find_if(rows, rows + N, [&](const Row& x) { return x.name == name; });
  return r == rows + N ? nullptr : r;
}

}  // namespace ringwall

#endif  // RINGWALL_FS_INET_OPTION_ROWS_H_
