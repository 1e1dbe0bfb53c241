// /sys/class/net: a directory for each interface (net/core/net-sysfs.c).
#include <dirent.h>

#include <algorithm>
#include <charconv>

#include "fs/netlink/proc_net.h"

namespace ringwall::netlink {
namespace {

using Info = net::InterfaceInfo;

std::string MacText(const net::MacAddr& m) {
  return Format("%02x:%02x:%02x:%02x:%02x:%02x", m.b[0], m.b[1], m.b[2], m.b[3], m.b[4], m.b[5]);
}

const char* OperState(const Info& i) {
  if (!i.up) return "down";
  const bool known = i.kind != net::LinkKind::kLoopback && i.config.type != "dummy" &&
                     i.config.type != "tun";
  if (i.config.carrier) return known ? "up" : "unknown";
  return i.config.type == "veth" || i.config.type == "vlan" ? "lowerlayerdown" : "down";
}

int HardwareType(const Info& i) {
  return i.kind == net::LinkKind::kLoopback ? 772 : i.kind == net::LinkKind::kEthernet ? 1 : 65534;
}

struct Row {
  const char* name;
  Result<std::string> (*read)(const Info&);
};

template <uint64_t net::LinkCounters::*kField>
Result<std::string> Counter(const Info& i) {
  return std::to_string(i.counters.*kField);
}
Result<std::string> Nought(const Info&) { return std::string("0"); }

constexpr Row kFiles[] = {
    {"addr_assign_type", [](const Info& i) -> Result<std::string> {
       return std::string(i.config.type.empty() ? "0" : "3");
     }},
    {"addr_len", [](const Info& i) -> Result<std::string> {
       return std::string(i.kind == net::LinkKind::kIp ? "0" : "6");
     }},
    {"address", [](const Info& i) -> Result<std::string> { return MacText(i.mac); }},
    {"broadcast", [](const Info& i) -> Result<std::string> {
       return MacText(i.kind == net::LinkKind::kLoopback ? net::MacAddr{} : i.config.broadcast);
     }},
    {"carrier", [](const Info& i) -> Result<std::string> {
       if (!i.up) return Errno(EINVAL);
       return std::string(i.config.carrier ? "1" : "0");
     }},
    {"carrier_changes", [](const Info& i) -> Result<std::string> {
       return std::to_string(i.carrier_changes);
     }},
    {"carrier_down_count", [](const Info& i) -> Result<std::string> {
       return std::to_string(i.carrier_changes / 2);
     }},
    {"carrier_up_count", [](const Info& i) -> Result<std::string> {
       return std::to_string((i.carrier_changes + 1) / 2);
     }},
    {"dev_id", [](const Info&) -> Result<std::string> { return std::string("0x0"); }},
    {"dev_port", Nought},
    {"dormant", [](const Info& i) -> Result<std::string> {
       if (!i.up) return Errno(EINVAL);
       return std::string("0");
     }},
    {"duplex", [](const Info& i) -> Result<std::string> {
       if (i.kind != net::LinkKind::kEthernet || !i.up) return Errno(EINVAL);
       return std::string(i.config.type == "veth" || i.config.type == "tun" ? "full" : "unknown");
     }},
    {"flags", [](const Info& i) -> Result<std::string> {
       // Without what the kernel computes (RUNNING, LOWER_UP).
       return Format("0x%x", i.flags & ~(net::kIffRunning | net::kIffLowerUp));
     }},
    {"gro_flush_timeout", Nought},
    {"ifalias", [](const Info& i) -> Result<std::string> { return i.alias; }},
    {"ifindex", [](const Info& i) -> Result<std::string> { return std::to_string(i.index); }},
    {"iflink", [](const Info& i) -> Result<std::string> {
       return std::to_string(i.config.lower != 0 ? i.config.lower : i.index);
     }},
    {"link_mode", Nought},
    {"mtu", [](const Info& i) -> Result<std::string> { return std::to_string(i.mtu); }},
    {"name_assign_type", [](const Info& i) -> Result<std::string> {
       if (i.config.type.empty()) return Errno(EINVAL);
       return std::string("3");
     }},
    {"napi_defer_hard_irqs", Nought},
    {"netdev_group", [](const Info& i) -> Result<std::string> { return std::to_string(i.group); }},
    {"operstate", [](const Info& i) -> Result<std::string> { return std::string(OperState(i)); }},
    {"proto_down", Nought},
    {"speed", [](const Info& i) -> Result<std::string> {
       if (i.kind != net::LinkKind::kEthernet || !i.up) return Errno(EINVAL);
       return std::string(i.config.type == "veth" || i.config.type == "tun" ? "10000" : "-1");
     }},
    {"testing", Nought},
    {"threaded", Nought},
    {"tx_queue_len", [](const Info& i) -> Result<std::string> {
       return std::to_string(i.config.tx_queue_len);
     }},
    {"type", [](const Info& i) -> Result<std::string> { return std::to_string(HardwareType(i)); }},
    {"uevent", [](const Info& i) -> Result<std::string> {
       const bool typed = i.config.type == "bridge" || i.config.type == "vlan";
       return (typed ? "DEVTYPE=" + i.config.type + "\n" : std::string()) + "INTERFACE=" + i.name +
              "\nIFINDEX=" + std::to_string(i.index);
     }},
};

using C = net::LinkCounters;
constexpr Row kStatistics[] = {
    {"collisions", Nought},
    {"multicast", Counter<&C::multicast>},
    {"rx_bytes", Counter<&C::rx_bytes>},
    {"rx_compressed", Nought},
    {"rx_crc_errors", Nought},
    {"rx_dropped", Counter<&C::rx_dropped>},
    {"rx_errors", Counter<&C::rx_errors>},
    {"rx_fifo_errors", Nought},
    {"rx_frame_errors", Nought},
    {"rx_length_errors", Nought},
    {"rx_missed_errors", Nought},
    {"rx_nohandler", Nought},
    {"rx_over_errors", Nought},
    {"rx_packets", Counter<&C::rx_packets>},
    {"tx_aborted_errors", Nought},
    {"tx_bytes", Counter<&C::tx_bytes>},
    {"tx_carrier_errors", Nought},
    {"tx_compressed", Nought},
    {"tx_dropped", Counter<&C::tx_dropped>},
    {"tx_errors", Counter<&C::tx_errors>},
    {"tx_fifo_errors", Nought},
    {"tx_heartbeat_errors", Nought},
    {"tx_packets", Counter<&C::tx_packets>},
    {"tx_window_errors", Nought},
};

Result<std::string> Read(const Ref<NetNamespace>& net, net::IfIndex index, const Row& row) {
  const std::optional<Info> i = net->stack().FindInterfaceInfo(index);
  if (!i) return Errno(ENODEV);
  std::string text = TRY(row.read(*i));
  return text + "\n";
}

Result<void> Write(const Ref<NetNamespace>& net, net::IfIndex index, std::string_view file,
                   std::string_view text) {
  Task* t = Task::Current();
  if (t == nullptr || !t->creds().HasIn(net->user_ns(), Capability::kNetAdmin)) return Errno(EPERM);
  net::LinkChange change;
  const std::string line(text.substr(0, text.find('\n')));
  if (file == "ifalias") {
    change.alias = line;
  } else {
    int base = 10;
    const char* from = line.c_str();
    if (line.starts_with("0x")) {
      base = 16;
      from += 2;
    }
    uint32_t v = 0;
    const auto [end, error] = std::from_chars(from, line.c_str() + line.size(), v, base);
    if (error != std::errc() || end == from) return Errno(EINVAL);
    if (file == "mtu") change.mtu = v;
    if (file == "tx_queue_len") change.tx_queue_len = v;
    if (file == "netdev_group") change.group = v;
    if (file == "flags") {
      change.flags = v;
      change.flags_mask = 0xffff;
    }
  }
  net::NetResult<void> r = net->stack().ChangeLink(index, change);
  if (!r.ok()) return net::ToErrno(r.error());
  return {};
}

bool Writable(std::string_view file) {
  return file == "mtu" || file == "tx_queue_len" || file == "flags" || file == "ifalias" ||
         file == "netdev_group";
}

Ref<StaticDirectory> NewDevice(FileSystem& fs, uint64_t ino, Ref<NetNamespace> net,
                               const Info& i) {
  Ref<StaticDirectory> dir = MakeRef<StaticDirectory>(fs, ino, 0755u);
  for (const Row& row : kFiles) {
    std::function<Result<void>(std::string_view)> write;
    if (Writable(row.name)) {
      write = [net, index = i.index, &row](std::string_view text) {
        return Write(net, index, row.name, text);
      };
    }
    dir->AddFile(row.name, [net, index = i.index, &row] { return Read(net, index, row); },
                 write ? 0644 : 0444, write);
  }
  Ref<StaticDirectory> statistics = dir->AddDirectory("statistics");
  for (const Row& row : kStatistics) {
    statistics->AddFile(row.name, [net, index = i.index, &row] { return Read(net, index, row); });
  }
  Ref<StaticDirectory> queues = dir->AddDirectory("queues");
  queues->AddDirectory("rx-0")->AddText("rps_cpus", "0\n");
  queues->AddDirectory("tx-0")->AddText("xps_cpus", "0\n");
  dir->AddLink("subsystem", "../../../../class/net");
  if (i.is_bridge) {
    Ref<StaticDirectory> bridge = dir->AddDirectory("bridge");
    bridge->AddText("stp_state", "0\n");
    bridge->AddText("ageing_time", "30000\n");
    bridge->AddText("forward_delay", "1500\n");
    Ref<StaticDirectory> ports = dir->AddDirectory("brif");
    for (const Info& p : net->stack().Interfaces()) {
      if (p.master == i.index) ports->AddLink(p.name, "../../" + p.name + "/brport");
    }
  }
  if (i.master != 0) {
    const std::string master = net->stack().NameOf(i.master);
    dir->AddLink("master", "../" + master);
    Ref<StaticDirectory> port = dir->AddDirectory("brport");
    port->AddText("state", i.up ? "3\n" : "0\n");
  }
  if (i.config.type == "tun") {
    dir->AddText("tun_flags", i.kind == net::LinkKind::kIp ? "0x1001\n" : "0x1002\n");
  }
  return dir;
}

class ClassNet final : public SyntheticDirectory {
 public:
  ClassNet(FileSystem& fs, uint64_t ino) : SyntheticDirectory(fs, S_IFDIR | 0755, ino) {}
  Caching caching() const override { return Caching::kRevalidate; }
  Result<Ref<Inode>> Lookup(std::string_view name) override {
    Ref<NetNamespace> net = TRY(CurrentNet());
    const std::optional<Info> i = net->stack().FindInterfaceInfo(name);
    if (!i) return Errno(ENOENT);
    return Ref<Inode>(NewDevice(fs(), InoOf(ino(), name), net, *i));
  }
  Result<std::vector<DirEntry>> Entries() override {
    Ref<NetNamespace> net = TRY(CurrentNet());
    std::vector<DirEntry> out;
    for (const Info& i : net->stack().Interfaces()) {
      out.push_back({i.name, InoOf(ino(), i.name), DT_DIR});
    }
    return out;
  }
};

}  // namespace

Ref<SyntheticInode> NewSysClassNet(FileSystem& fs) {
  return MakeRef<ClassNet>(fs, InoOf(1, "class-net"));
}

}  // namespace ringwall::netlink
