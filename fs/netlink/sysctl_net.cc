// /proc/sys/net. What the stack knows is read from it and set in it; the rest is kept for the
// namespace, so that a program reads what it wrote. Defaults are Linux's.
#include <dirent.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "fs/netlink/proc_net.h"
#include "netstack/endpoint.h"

namespace ringwall::netlink {
namespace {

using net::StackConfig;

// ---- Numbers ----

// As proc_dointvec() takes them: decimal, hexadecimal behind 0x and octal behind 0; a minus, no plus.
std::optional<std::vector<int64_t>> Numbers(std::string_view text) {
  std::vector<int64_t> out;
  const auto space = [](char c) { return c == ' ' || c == '\t' || c == '\n'; };
  while (true) {
    while (!text.empty() && (space(text.front()) || text.front() == '\0')) text.remove_prefix(1);
    if (text.empty()) return out;
    const bool minus = text.front() == '-';
    if (minus) text.remove_prefix(1);
    int base = 10;
    if (text.size() > 1 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
      base = 16;
      text.remove_prefix(2);
    } else if (text.size() > 1 && text[0] == '0') {
      base = 8;
    }
    int64_t v = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v, base);
    if (error != std::errc() || v < 0) return std::nullopt;
    if (minus) v = -v;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    if (!text.empty() && !space(text.front()) && text.front() != '\0') return std::nullopt;
    out.push_back(v);
  }
}

std::string Line(std::string_view text) {
  std::string s(text.substr(0, text.find('\n')));
  while (!s.empty() && (s.back() == ' ' || s.back() == '\0')) s.pop_back();
  return s;
}

struct Live {
  const char* dir;
  const char* name;
  int64_t least, most;
  int64_t (*get)(const StackConfig&);
  void (*set)(StackConfig&, int64_t);
};

#define FIELD(field)                                                      \
  [](const StackConfig& c) { return static_cast<int64_t>(c.field); },     \
      [](StackConfig& c, int64_t v) { c.field = static_cast<decltype(c.field)>(v); }
#define SECONDS(field)                                                    \
  [](const StackConfig& c) { return c.field.seconds(); },                 \
      [](StackConfig& c, int64_t v) { c.field = net::Duration::Seconds(v); }

constexpr Live kLive[] = {
    {"core", "somaxconn", 0, INT32_MAX, FIELD(somaxconn)},
    {"core", "rmem_default", 2304, INT32_MAX, FIELD(rmem_default)},
    {"core", "rmem_max", 2304, INT32_MAX, FIELD(rmem_max)},
    {"core", "wmem_default", 4608, INT32_MAX, FIELD(wmem_default)},
    {"core", "wmem_max", 4608, INT32_MAX, FIELD(wmem_max)},
    {"ipv4", "ip_forward", INT32_MIN, INT32_MAX,
     [](const StackConfig& c) { return static_cast<int64_t>(c.forwarding4); },
     [](StackConfig& c, int64_t v) { c.forwarding4 = v != 0; }},
    {"ipv4", "ip_default_ttl", 1, 255, FIELD(default_ttl)},
    {"ipv4", "icmp_echo_ignore_all", 0, 1, FIELD(icmp_echo_ignore_all)},
    {"ipv4", "icmp_echo_ignore_broadcasts", 0, 1, FIELD(icmp_echo_ignore_broadcasts)},
    {"ipv4", "tcp_syncookies", 0, 2, FIELD(tcp_syncookies)},
    {"ipv4", "tcp_max_syn_backlog", 0, INT32_MAX, FIELD(tcp_max_syn_backlog)},
    {"ipv4", "tcp_sack", 0, 255, FIELD(tcp_sack)},
    {"ipv4", "tcp_timestamps", 0, 255, FIELD(tcp_timestamps)},
    {"ipv4", "tcp_window_scaling", 0, 255, FIELD(tcp_window_scaling)},
    {"ipv4", "tcp_dsack", 0, 255, FIELD(tcp_dsack)},
    {"ipv4", "tcp_ecn", 0, 2, FIELD(tcp_ecn)},
    {"ipv4", "tcp_syn_retries", 1, 127, FIELD(tcp_syn_retries)},
    {"ipv4", "tcp_synack_retries", 0, 255, FIELD(tcp_synack_retries)},
    {"ipv4", "tcp_retries2", 0, 255, FIELD(tcp_retries2)},
    {"ipv4", "tcp_orphan_retries", 0, 255, FIELD(tcp_orphan_retries)},
    {"ipv4", "tcp_fin_timeout", 0, INT32_MAX / 1000, SECONDS(tcp_fin_timeout)},
    {"ipv4", "tcp_keepalive_time", 0, INT32_MAX / 1000, FIELD(tcp_keepalive_time)},
    {"ipv4", "tcp_keepalive_intvl", 0, INT32_MAX / 1000, FIELD(tcp_keepalive_intvl)},
    {"ipv4", "tcp_keepalive_probes", 0, 255, FIELD(tcp_keepalive_probes)},
    {"ipv4", "tcp_max_tw_buckets", 0, INT32_MAX, FIELD(tcp_max_tw_buckets)},
    {"ipv4", "tcp_max_orphans", 0, INT32_MAX, FIELD(tcp_max_orphans)},
    {"ipv4", "tcp_challenge_ack_limit", 0, INT32_MAX, FIELD(tcp_challenge_ack_limit)},
    {"ipv4", "tcp_fastopen", INT32_MIN, INT32_MAX, FIELD(tcp_fastopen)},
    {"ipv4", "tcp_mtu_probing", 0, 255, FIELD(tcp_mtu_probing)},
    {"ipv4", "tcp_base_mss", INT32_MIN, INT32_MAX, FIELD(tcp_base_mss)},
    {"ipv4", "tcp_abort_on_overflow", 0, 255, FIELD(tcp_abort_on_overflow)},
    {"ipv4", "tcp_slow_start_after_idle", 0, 255, FIELD(tcp_slow_start_after_idle)},
    {"ipv4", "tcp_notsent_lowat", 0, UINT32_MAX, FIELD(tcp_notsent_lowat)},
    {"netfilter", "nf_conntrack_max", 0, INT32_MAX, FIELD(ct.max)},
    {"netfilter", "nf_conntrack_checksum", 0, 1, FIELD(ct.checksum)},
    {"netfilter", "nf_conntrack_tcp_loose", 0, 1, FIELD(ct.tcp_loose)},
    {"netfilter", "nf_conntrack_tcp_be_liberal", 0, 1, FIELD(ct.tcp_be_liberal)},
    {"netfilter", "nf_conntrack_tcp_max_retrans", 0, 255, FIELD(ct.tcp_max_retrans)},
    {"netfilter", "nf_conntrack_generic_timeout", 0, INT32_MAX, FIELD(ct.generic)},
    {"netfilter", "nf_conntrack_icmp_timeout", 0, INT32_MAX, FIELD(ct.icmp)},
    {"netfilter", "nf_conntrack_icmpv6_timeout", 0, INT32_MAX, FIELD(ct.icmp6)},
    {"netfilter", "nf_conntrack_udp_timeout", 0, INT32_MAX, FIELD(ct.udp)},
    {"netfilter", "nf_conntrack_udp_timeout_stream", 0, INT32_MAX, FIELD(ct.udp_stream)},
    {"netfilter", "nf_conntrack_tcp_timeout_syn_sent", 0, INT32_MAX, FIELD(ct.tcp[1])},
    {"netfilter", "nf_conntrack_tcp_timeout_syn_recv", 0, INT32_MAX, FIELD(ct.tcp[2])},
    {"netfilter", "nf_conntrack_tcp_timeout_established", 0, INT32_MAX, FIELD(ct.tcp[3])},
    {"netfilter", "nf_conntrack_tcp_timeout_fin_wait", 0, INT32_MAX, FIELD(ct.tcp[4])},
    {"netfilter", "nf_conntrack_tcp_timeout_close_wait", 0, INT32_MAX, FIELD(ct.tcp[5])},
    {"netfilter", "nf_conntrack_tcp_timeout_last_ack", 0, INT32_MAX, FIELD(ct.tcp[6])},
    {"netfilter", "nf_conntrack_tcp_timeout_time_wait", 0, INT32_MAX, FIELD(ct.tcp[7])},
    {"netfilter", "nf_conntrack_tcp_timeout_close", 0, INT32_MAX, FIELD(ct.tcp[8])},
    {"netfilter", "nf_conntrack_tcp_timeout_max_retrans", 0, INT32_MAX, FIELD(ct.tcp_retrans)},
    {"netfilter", "nf_conntrack_tcp_timeout_unacknowledged", 0, INT32_MAX, FIELD(ct.tcp_unacknowledged)},
};
#undef FIELD
#undef SECONDS

struct Kept {
  const char* dir;
  const char* values;  // "name=value ..."; more words of one value are joined by commas
};

// Without an effect here: the stack has no such choice.
constexpr Kept kKept[] = {
    {"core",
     "netdev_max_backlog=1000 optmem_max=131072 default_qdisc=pfifo_fast busy_poll=0 busy_read=0 "
     "dev_weight=64 netdev_budget=300 netdev_budget_usecs=8000 message_burst=10 message_cost=5 "
     "warnings=0 tstamp_allow_data=1 txrehash=1 rps_sock_flow_entries=0 bpf_jit_enable=0 "
     "high_order_alloc_disable=0 gro_normal_batch=8 flow_limit_table_len=4096 max_skb_frags=17 "
     "devconf_inherit_init_net=0 fb_tunnels_only_for_init_net=0"},
    {"ipv4",
     "fib_multipath_hash_policy=0 fib_multipath_use_neigh=0 fwmark_reflect=0 "
     "icmp_echo_enable_probe=0 icmp_errors_use_inbound_ifaddr=0 "
     "icmp_ignore_bogus_error_responses=1 icmp_msgs_burst=50 icmp_msgs_per_sec=1000 "
     "icmp_ratelimit=1000 icmp_ratemask=6168 igmp_link_local_mcast_reports=1 "
     "igmp_max_memberships=20 igmp_max_msf=10 igmp_qrv=2 ip_autobind_reuse=0 ip_dynaddr=0 "
     "ip_early_demux=1 ip_forward_update_priority=1 ip_forward_use_pmtu=0 "
     "ip_no_pmtu_disc=0 ip_nonlocal_bind=0 "
     "ipfrag_high_thresh=4194304 ipfrag_low_thresh=3145728 ipfrag_max_dist=64 ipfrag_time=30 "
     "nexthop_compat_mode=1 raw_l3mdev_accept=1 tcp_adv_win_scale=1 tcp_app_win=31 "
     "tcp_autocorking=1 tcp_early_demux=1 tcp_early_retrans=3 "
     "tcp_ecn_fallback=1 tcp_frto=2 tcp_fwmark_accept=0 tcp_invalid_ratelimit=500 "
     "tcp_l3mdev_accept=0 tcp_limit_output_bytes=4194304 tcp_low_latency=0 "
     "tcp_max_reordering=300 tcp_min_rtt_wlen=300 tcp_min_snd_mss=48 tcp_min_tso_segs=2 "
     "tcp_moderate_rcvbuf=1 tcp_no_metrics_save=0 "
     "tcp_pacing_ca_ratio=120 tcp_pacing_ss_ratio=200 "
     "tcp_probe_interval=600 tcp_probe_threshold=8 tcp_recovery=1 tcp_reordering=3 "
     "tcp_retrans_collapse=1 tcp_retries1=3 tcp_rfc1337=0 "
     "tcp_stdurg=0 tcp_thin_linear_timeouts=0 tcp_tso_win_divisor=3 tcp_tw_reuse=2 "
     "tcp_workaround_signed_windows=0 tcp_fack=0 tcp_comp_sack_nr=44 udp_early_demux=1 "
     "udp_l3mdev_accept=0 udp_rmem_min=4096 udp_wmem_min=4096 xfrm4_gc_thresh=32768 "
     "udp_mem=188295,251061,376590 tcp_mem=94146,125530,188292 "
     "inet_peer_threshold=65664 inet_peer_minttl=120 inet_peer_maxttl=600"},
    {"ipv6",
     "anycast_src_echo_reply=0 auto_flowlabels=1 bindv6only=0 fib_multipath_hash_policy=0 "
     "flowlabel_consistency=1 flowlabel_reflect=0 flowlabel_state_ranges=0 fwmark_reflect=0 "
     "idgen_delay=1 idgen_retries=3 ip6frag_high_thresh=4194304 ip6frag_low_thresh=3145728 "
     "ip6frag_time=60 ip_nonlocal_bind=0 max_dst_opts_length=2147483647 max_dst_opts_number=8 "
     "max_hbh_length=2147483647 max_hbh_opts_number=8 seg6_flowlabel=0 mld_max_msf=64 mld_qrv=2 "
     "xfrm6_gc_thresh=32768"},
    {"netfilter",
     "nf_conntrack_acct=0 nf_conntrack_buckets=65536 nf_conntrack_events=2 nf_conntrack_expect_max=1024 "
     "nf_conntrack_log_invalid=0 nf_conntrack_tcp_ignore_invalid_rst=0 nf_conntrack_timestamp=0 "
     "nf_log_all_netns=0"},
};

constexpr char kConf4[] =
    "accept_local=0 accept_redirects=1 accept_source_route=0 arp_accept=0 arp_announce=0 "
    "arp_evict_nocarrier=1 arp_filter=0 arp_ignore=0 arp_notify=0 bc_forwarding=0 bootp_relay=0 "
    "disable_policy=0 disable_xfrm=0 drop_gratuitous_arp=0 drop_unicast_in_l2_multicast=0 "
    "force_igmp_version=0 forwarding=0 igmpv2_unsolicited_report_interval=10000 "
    "igmpv3_unsolicited_report_interval=1000 ignore_routes_with_linkdown=0 log_martians=0 "
    "mc_forwarding=0 medium_id=0 promote_secondaries=0 proxy_arp=0 proxy_arp_pvlan=0 "
    "route_localnet=0 rp_filter=0 secure_redirects=1 send_redirects=1 shared_media=1 "
    "src_valid_mark=0 tag=0";
constexpr char kConf6[] =
    "accept_dad=1 accept_ra=1 accept_ra_defrtr=1 accept_ra_from_local=0 "
    "accept_ra_min_hop_limit=1 accept_ra_mtu=1 accept_ra_pinfo=1 accept_ra_rt_info_max_plen=0 "
    "accept_ra_rt_info_min_plen=0 accept_ra_rtr_pref=1 accept_redirects=1 accept_source_route=0 "
    "accept_untracked_na=0 addr_gen_mode=0 autoconf=1 dad_transmits=1 disable_ipv6=0 "
    "disable_policy=0 drop_unicast_in_l2_multicast=0 drop_unsolicited_na=0 enhanced_dad=1 "
    "force_mld_version=0 force_tllao=0 forwarding=0 hop_limit=64 ignore_routes_with_linkdown=0 "
    "ioam6_enabled=0 ioam6_id=65535 ioam6_id_wide=4294967295 keep_addr_on_down=0 "
    "max_addresses=16 max_desync_factor=600 mc_forwarding=0 "
    "mldv1_unsolicited_report_interval=10000 mldv2_unsolicited_report_interval=1000 mtu=1280 "
    "ndisc_evict_nocarrier=1 ndisc_notify=0 ndisc_tclass=0 optimistic_dad=0 proxy_ndp=0 "
    "ra_defrtr_metric=1024 regen_max_retry=3 router_probe_interval=60 "
    "router_solicitation_delay=1 router_solicitation_interval=4 "
    "router_solicitation_max_interval=3600 router_solicitations=-1 rpl_seg_enabled=0 "
    "seg6_enabled=0 seg6_require_hmac=0 suppress_frag_ndisc=1 temp_prefered_lft=86400 "
    "temp_valid_lft=604800 use_oif_addrs_only=0 use_optimistic=0 use_tempaddr=0";
constexpr char kNeigh[] =
    "anycast_delay=100 app_solicit=0 base_reachable_time=30 base_reachable_time_ms=30000 "
    "delay_first_probe_time=5 gc_stale_time=60 interval_probe_time_ms=5000 locktime=100 "
    "mcast_resolicit=0 mcast_solicit=3 proxy_delay=80 proxy_qlen=64 retrans_time=100 "
    "retrans_time_ms=1000 ucast_solicit=3 unres_qlen=101 unres_qlen_bytes=212992 "
    "gc_interval=30 gc_thresh1=128 gc_thresh2=512 gc_thresh3=1024";

template <typename F>
void ForEachValue(const char* values, F f) {
  std::string_view left = values;
  while (!left.empty()) {
    const size_t end = std::min(left.find(' '), left.size());
    const std::string_view item = left.substr(0, end);
    const size_t eq = item.find('=');
    std::string value(item.substr(eq + 1));
    std::replace(value.begin(), value.end(), ',', '\t');
    f(item.substr(0, eq), std::move(value));
    left = left.substr(std::min(end + 1, left.size()));
  }
}

// ---- What is kept ----

Result<std::string> ReadKept(const std::string& path, const std::string& other) {
  Ref<NetNamespace> net = TRY(CurrentNet());
  std::string value = net->sysctls.With([&](const auto& map) {
    auto it = map.find(path);
    return it == map.end() ? other : it->second;
  });
  return value + "\n";
}

Result<void> WriteKept(const std::string& path, const std::string& other, std::string_view text) {
  Ref<NetNamespace> net = TRY(CurrentNet());
  std::string value = Line(text);
  if (Numbers(other) && !other.empty()) {
    // Numbers stay numbers, as many as there were.
    const std::optional<std::vector<int64_t>> given = Numbers(value), was = Numbers(other);
    if (!given || given->empty()) return Errno(EINVAL);
    std::vector<int64_t> all = *was;
    for (size_t i = 0; i < std::min(all.size(), given->size()); i++) all[i] = (*given)[i];
    value.clear();
    for (int64_t v : all) value += (value.empty() ? "" : "\t") + std::to_string(v);
  }
  net->sysctls.With([&](auto& map) { map[path] = std::move(value); });
  return {};
}

void AddKept(StaticDirectory& dir, const std::string& path, std::string_view name,
             std::string value) {
  const std::string full = path + "/" + std::string(name);
  dir.AddFile(name, [=]() -> Result<std::string> { return ReadKept(full, value); }, 0644,
              [=](std::string_view text) -> Result<void> {
                return WriteKept(full, value, text);
              });
}

void AddLive(StaticDirectory& dir, const Live& l) {
  dir.AddFile(l.name, [&l]() -> Result<std::string> {
    Ref<NetNamespace> net = TRY(CurrentNet());
    return Format("%lld\n", static_cast<long long>(l.get(net->stack().Config())));
  }, 0644, [&l](std::string_view text) -> Result<void> {
    Ref<NetNamespace> net = TRY(CurrentNet());
    const std::optional<std::vector<int64_t>> v = Numbers(text);
    if (!v || v->empty()) return Errno(EINVAL);
    if ((*v)[0] < l.least || (*v)[0] > l.most) return Errno(EINVAL);
    StackConfig config = net->stack().Config();
    l.set(config, (*v)[0]);
    net->stack().SetConfig(config);
    return {};
  });
}

// Four words in hexadecimal a key, the backup behind a comma (proc_tcp_fastopen_key()).
void AddFastOpenKey(StaticDirectory& ipv4) {
  ipv4.AddFile("tcp_fastopen_key", []() -> Result<std::string> {
    Ref<NetNamespace> net = TRY(CurrentNet());
    std::string out;
    for (const net::SipKey& key : net->stack().FastOpenKeys()) {
      uint32_t w[4];
      std::memcpy(w, &key, sizeof(w));
      out += Format("%s%08x-%08x-%08x-%08x", out.empty() ? "" : ",", w[0], w[1], w[2], w[3]);
    }
    return out + "\n";
  }, 0600, [](std::string_view text) -> Result<void> {
    Ref<NetNamespace> net = TRY(CurrentNet());
    std::vector<net::SipKey> keys;
    std::string rest = Line(text);
    while (keys.size() < 2) {
      uint32_t w[4];
      int used = 0;
      if (std::sscanf(rest.c_str(), "%x-%x-%x-%x%n", &w[0], &w[1], &w[2], &w[3], &used) != 4) {
        return Errno(EINVAL);
      }
      std::memcpy(&keys.emplace_back(), w, sizeof(w));
      if (rest.size() <= static_cast<size_t>(used) || rest[static_cast<size_t>(used)] != ',') break;
      rest.erase(0, static_cast<size_t>(used) + 1);
    }
    net->stack().SetFastOpenKeys(std::move(keys));
    return {};
  });
}

void AddSpecial(StaticDirectory& ipv4) {
  ipv4.AddFile("ip_local_port_range", []() -> Result<std::string> {
    Ref<NetNamespace> net = TRY(CurrentNet());
    const StackConfig c = net->stack().Config();
    return Format("%u\t%u\n", c.port_min, c.port_max);
  }, 0644, [](std::string_view text) -> Result<void> {
    Ref<NetNamespace> net = TRY(CurrentNet());
    const std::optional<std::vector<int64_t>> v = Numbers(text);
    if (!v || v->empty()) return Errno(EINVAL);
    StackConfig c = net->stack().Config();
    const int64_t low = (*v)[0], high = v->size() > 1 ? (*v)[1] : c.port_max;
    if (low < 1 || low > 65535 || high < 1 || high > 65535 || high < low ||
        low < c.unprivileged_port_start) {
      return Errno(EINVAL);
    }
    c.port_min = static_cast<uint16_t>(low);
    c.port_max = static_cast<uint16_t>(high);
    net->stack().SetConfig(c);
    return {};
  });
  ipv4.AddFile("ip_unprivileged_port_start", []() -> Result<std::string> {
    Ref<NetNamespace> net = TRY(CurrentNet());
    return Format("%u\n", net->stack().Config().unprivileged_port_start);
  }, 0644, [](std::string_view text) -> Result<void> {
    Ref<NetNamespace> net = TRY(CurrentNet());
    const std::optional<std::vector<int64_t>> v = Numbers(text);
    if (!v || v->empty() || (*v)[0] < 0 || (*v)[0] > 65535) return Errno(EINVAL);
    StackConfig c = net->stack().Config();
    // ipv4_privileged_ports(): none of what connections choose from may be privileged.
    if (c.port_min < (*v)[0]) return Errno(EINVAL);
    c.unprivileged_port_start = static_cast<uint16_t>((*v)[0]);
    net->stack().SetConfig(c);
    return {};
  });
  ipv4.AddFile("ping_group_range", []() -> Result<std::string> {
    Ref<NetNamespace> net = TRY(CurrentNet());
    const StackConfig c = net->stack().Config();
    return Format("%u\t%u\n", c.ping_group_min, c.ping_group_max);
  }, 0644, [](std::string_view text) -> Result<void> {
    Ref<NetNamespace> net = TRY(CurrentNet());
    const std::optional<std::vector<int64_t>> v = Numbers(text);
    if (!v || v->empty()) return Errno(EINVAL);
    StackConfig c = net->stack().Config();
    const int64_t low = (*v)[0], high = v->size() > 1 ? (*v)[1] : c.ping_group_max;
    if (low < 0 || low > INT32_MAX || high < 0 || high > INT32_MAX) return Errno(EINVAL);
    c.ping_group_min = static_cast<uint32_t>(low);
    c.ping_group_max = static_cast<uint32_t>(high);
    if (high < low) c.ping_group_min = 1, c.ping_group_max = 0;  // ipv4_ping_group_range()
    net->stack().SetConfig(c);
    return {};
  });
  struct Memory {
    const char* name;
    size_t StackConfig::*initial;
    size_t StackConfig::*most;
  };
  for (const Memory& m : {Memory{"tcp_rmem", &StackConfig::tcp_rmem_default,
                                 &StackConfig::tcp_rmem_max},
                          Memory{"tcp_wmem", &StackConfig::tcp_wmem_default,
                                 &StackConfig::tcp_wmem_max}}) {
    ipv4.AddFile(m.name, [m]() -> Result<std::string> {
      Ref<NetNamespace> net = TRY(CurrentNet());
      const StackConfig c = net->stack().Config();
      return Format("4096\t%zu\t%zu\n", c.*m.initial, c.*m.most);
    }, 0644, [m](std::string_view text) -> Result<void> {
      Ref<NetNamespace> net = TRY(CurrentNet());
      const std::optional<std::vector<int64_t>> v = Numbers(text);
      if (!v || v->empty()) return Errno(EINVAL);
      for (int64_t x : *v) {
        if (x < 1 || x > INT32_MAX) return Errno(EINVAL);
      }
      StackConfig c = net->stack().Config();
      if (v->size() > 1) c.*m.initial = static_cast<size_t>((*v)[1]);
      if (v->size() > 2) c.*m.most = static_cast<size_t>((*v)[2]);
      net->stack().SetConfig(c);
      return {};
    });
  }
  ipv4.AddText("tcp_available_congestion_control", "reno cubic bbr\n");
  AddKept(ipv4, "ipv4", "tcp_allowed_congestion_control", "reno cubic bbr");
  AddKept(ipv4, "ipv4", "ip_local_reserved_ports", "");
  ipv4.AddFile("tcp_congestion_control", []() -> Result<std::string> {
    Ref<NetNamespace> net = TRY(CurrentNet());
    return std::string(net::kCongestionNames[net->stack().Config().tcp_congestion]) + "\n";
  }, 0644, [](std::string_view text) -> Result<void> {
    Ref<NetNamespace> net = TRY(CurrentNet());
    const std::string name = Line(text);
    StackConfig c = net->stack().Config();
    for (size_t i = 0; i < std::size(net::kCongestionNames); i++) {
      if (name != net::kCongestionNames[i]) continue;
      c.tcp_congestion = static_cast<uint8_t>(i);
      net->stack().SetConfig(c);
      return {};
    }
    return Errno(ENOENT);
  });
  AddFastOpenKey(ipv4);
}

// ---- conf/ and neigh/: a directory for each interface ----

class ConfDirectory final : public SyntheticDirectory {
 public:
  enum class What { kConf4, kConf6, kNeigh4, kNeigh6 };
  ConfDirectory(FileSystem& fs, uint64_t ino, What what)
      : SyntheticDirectory(fs, S_IFDIR | 0555, ino), what_(what) {}
  Caching caching() const override { return Caching::kRevalidate; }

  Result<Ref<Inode>> Lookup(std::string_view name) override {
    Ref<NetNamespace> net = TRY(CurrentNet());
    const bool conf = what_ == What::kConf4 || what_ == What::kConf6;
    const bool general = name == "default" || (conf && name == "all");
    if (!general && net->stack().IndexOf(name) == 0) return Errno(ENOENT);
    Ref<StaticDirectory> dir = MakeRef<StaticDirectory>(fs(), InoOf(ino(), name));
    dir->set_style(kSysctlStyle);
    const bool v4 = what_ == What::kConf4 || what_ == What::kNeigh4;
    const std::string path = std::string(v4 ? "ipv4/" : "ipv6/") + (conf ? "conf/" : "neigh/") +
                             std::string(name);
    ForEachValue(!conf ? kNeigh : v4 ? kConf4 : kConf6,
                 [&](std::string_view file, std::string value) {
      if (!conf && name != "default" && file.starts_with("gc_") && file != "gc_stale_time") return;
      if (conf && AddEffective(*dir, v4, std::string(name), file)) return;
      if (v4 && name == "all" && file == "accept_redirects") value = "0";
      AddKept(*dir, path, file, std::move(value));
    });
    return Ref<Inode>(std::move(dir));
  }

  Result<std::vector<DirEntry>> Entries() override {
    Ref<NetNamespace> net = TRY(CurrentNet());
    std::vector<DirEntry> out;
    const auto add = [&](const std::string& name) {
      out.push_back({name, InoOf(ino(), name), DT_DIR});
    };
    if (what_ == What::kConf4 || what_ == What::kConf6) add("all");
    add("default");
    for (const net::InterfaceInfo& i : net->stack().Interfaces()) add(i.name);
    return out;
  }

 protected:
  uint32_t nlink() override { return 1; }  // as all below /proc/sys

 private:
  // Those that the stack acts on. True when it was one.
  static bool AddEffective(StaticDirectory& dir, bool v4, const std::string& name,
                           std::string_view file) {
    if (file == "forwarding") {
      bool StackConfig::*field = v4 ? &StackConfig::forwarding4 : &StackConfig::forwarding6;
      dir.AddFile(file, [field]() -> Result<std::string> {
        Ref<NetNamespace> net = TRY(CurrentNet());
        return std::string(net->stack().Config().*field ? "1\n" : "0\n");
      }, 0644, [field](std::string_view text) -> Result<void> {
        Ref<NetNamespace> net = TRY(CurrentNet());
        const std::optional<std::vector<int64_t>> v = Numbers(text);
        if (!v || v->empty()) return Errno(EINVAL);
        StackConfig c = net->stack().Config();
        c.*field = (*v)[0] != 0;
        net->stack().SetConfig(c);
        return {};
      });
      return true;
    }
    if (v4) return false;
    if (file == "accept_ra" && (name == "all" || name == "default")) {
      dir.AddFile(file, []() -> Result<std::string> {
        Ref<NetNamespace> net = TRY(CurrentNet());
        return std::string(net->stack().Config().accept_ra ? "1\n" : "0\n");
      }, 0644, [](std::string_view text) -> Result<void> {
        Ref<NetNamespace> net = TRY(CurrentNet());
        const std::optional<std::vector<int64_t>> v = Numbers(text);
        if (!v || v->empty()) return Errno(EINVAL);
        StackConfig c = net->stack().Config();
        c.accept_ra = (*v)[0] != 0;
        net->stack().SetConfig(c);
        return {};
      });
      return true;
    }
    if (file == "mtu" && name != "all" && name != "default") {
      dir.AddFile(file, [name]() -> Result<std::string> {
        Ref<NetNamespace> net = TRY(CurrentNet());
        const std::optional<net::InterfaceInfo> i =
            net->stack().FindInterfaceInfo(std::string_view(name));
        return Format("%u\n", i ? i->mtu : 1280);
      });
      return true;
    }
    if (file != "disable_ipv6") return false;
    dir.AddFile(file, [name]() -> Result<std::string> {
      Ref<NetNamespace> net = TRY(CurrentNet());
      bool on = net->stack().Config().disable_ipv6_default;
      if (name != "all" && name != "default") {
        const std::optional<net::InterfaceInfo> i =
            net->stack().FindInterfaceInfo(std::string_view(name));
        on = i && i->ipv6_disabled;
      }
      return std::string(on ? "1\n" : "0\n");
    }, 0644, [name](std::string_view text) -> Result<void> {
      Ref<NetNamespace> net = TRY(CurrentNet());
      const std::optional<std::vector<int64_t>> v = Numbers(text);
      if (!v || v->empty()) return Errno(EINVAL);
      const bool on = (*v)[0] != 0;
      if (name == "all" || name == "default") {
        StackConfig c = net->stack().Config();
        c.disable_ipv6_default = on;
        net->stack().SetConfig(c);
      }
      for (const net::InterfaceInfo& i : net->stack().Interfaces()) {
        if (name == "all" || i.name == name) net->stack().SetIpv6Disabled(i.index, on);
      }
      return {};
    });
    return true;
  }

  const What what_;
};

}  // namespace

void AddNetSysctls(StaticDirectory& net) {
  std::map<std::string, Ref<StaticDirectory>> dirs;
  const auto dir = [&](const std::string& name) -> StaticDirectory& {
    auto it = dirs.find(name);
    if (it == dirs.end()) it = dirs.emplace(name, net.AddDirectory(name)).first;
    return *it->second;
  };
  for (const Live& l : kLive) AddLive(dir(l.dir), l);
  for (const Kept& k : kKept) {
    ForEachValue(k.values, [&](std::string_view name, std::string value) {
      AddKept(dir(k.dir), k.dir, name, std::move(value));
    });
  }
  AddSpecial(dir("ipv4"));
  for (const Live& l : kLive) {
    if (std::string_view(l.name) == "nf_conntrack_max") AddLive(net, l);  // it has two names
  }
  dir("unix").AddFile("max_dgram_qlen", []() -> Result<std::string> {
    Ref<NetNamespace> n = TRY(CurrentNet());
    return Format("%d\n", n->max_dgram_qlen.load());
  }, 0644, [](std::string_view text) -> Result<void> {
    Ref<NetNamespace> n = TRY(CurrentNet());
    const std::optional<std::vector<int64_t>> v = Numbers(text);
    if (!v || v->empty() || (*v)[0] < INT32_MIN || (*v)[0] > INT32_MAX) return Errno(EINVAL);
    n->max_dgram_qlen.store(static_cast<int>((*v)[0]));
    return {};
  });
  dir("netfilter").AddFile("nf_conntrack_count", []() -> Result<std::string> {
    Ref<NetNamespace> net = TRY(CurrentNet());
    return Format("%zu\n", net->stack().Connections().size());
  }, 0444);
  const auto add = [&](const char* version, const char* name, ConfDirectory::What what) {
    StaticDirectory& d = dir(version);
    d.Add(name, MakeRef<ConfDirectory>(d.fs(), InoOf(d.ino(), name), what));
  };
  add("ipv4", "conf", ConfDirectory::What::kConf4);
  add("ipv6", "conf", ConfDirectory::What::kConf6);
  add("ipv4", "neigh", ConfDirectory::What::kNeigh4);
  add("ipv6", "neigh", ConfDirectory::What::kNeigh6);
  Ref<StaticDirectory> route4 = dir("ipv4").AddDirectory("route");
  Ref<StaticDirectory> route6 = dir("ipv6").AddDirectory("route");
  ForEachValue("min_adv_mss=256 min_pmtu=552 mtu_expires=600 gc_timeout=300 max_size=2147483647",
               [&](std::string_view n, std::string v) { AddKept(*route4, "ipv4/route", n, v); });
  ForEachValue("gc_elasticity=9 gc_interval=30 gc_thresh=1024 gc_timeout=60 max_size=2147483647 "
               "min_adv_mss=1220 mtu_expires=600",
               [&](std::string_view n, std::string v) { AddKept(*route6, "ipv6/route", n, v); });
  const auto flush = [](StaticDirectory& d) {
    d.AddFile("flush", []() -> Result<std::string> { return std::string(); }, 0200,
              [](std::string_view) -> Result<void> { return {}; });
  };
  flush(*route4);
  flush(*route6);
  Ref<StaticDirectory> icmp6 = dir("ipv6").AddDirectory("icmp");
  ForEachValue("echo_ignore_all=0 echo_ignore_anycast=0 echo_ignore_multicast=0 ratelimit=1000",
               [&](std::string_view n, std::string v) { AddKept(*icmp6, "ipv6/icmp", n, v); });
}

}  // namespace ringwall::netlink
