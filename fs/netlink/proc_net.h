// /proc/net, /proc/sys/net and /sys/class/net of a network namespace.
#ifndef RINGWALL_FS_NETLINK_PROC_NET_H_
#define RINGWALL_FS_NETLINK_PROC_NET_H_

#include <functional>
#include <string>

#include "fs/proc/nodes.h"
#include "fs/socket/net_namespace.h"

namespace ringwall::netlink {

// The namespace that a file shows, asked when it is read: the task's of /proc/PID, or the reader's.
// ESRCH, EINVAL once it is gone.
using NetSource = std::function<Result<Ref<NetNamespace>>()>;

void AddProcNet(StaticDirectory& net, const NetSource& source);
void AddNetSysctls(StaticDirectory& sys);
Ref<SyntheticInode> NewSysClassNet(FileSystem& fs);

// The namespace of the task that reads.
Result<Ref<NetNamespace>> CurrentNet();

// Texts, by file.
std::string DevText(net::Stack& s);
std::string RouteText(net::Stack& s);
std::string Ipv6RouteText(net::Stack& s);
std::string IfInet6Text(net::Stack& s);
std::string ArpText(net::Stack& s);
std::string IgmpText(net::Stack& s);
std::string Igmp6Text(net::Stack& s);
std::string DevMcastText(net::Stack& s);
std::string FibTrieText(net::Stack& s);
std::string ConntrackText(net::Stack& s);
std::string TcpText(net::Stack& s, net::Family family);
std::string UdpText(net::Stack& s, net::Family family, net::SocketInfo::Kind kind);
std::string RawText(net::Stack& s, net::Family family);
std::string PacketText(net::Stack& s);
std::string NetlinkText(NetNamespace& net);
std::string UnixText(NetNamespace& net);
std::string SnmpText(net::Stack& s);
std::string Snmp6Text(net::Stack& s);
std::string NetstatText(net::Stack& s);
std::string SockstatText(NetNamespace& net);
std::string Sockstat6Text(net::Stack& s);
std::string ProtocolsText(NetNamespace& net);

}  // namespace ringwall::netlink

#endif  // RINGWALL_FS_NETLINK_PROC_NET_H_
