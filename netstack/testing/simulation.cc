// How fast TCP is over links of any rate, delay and loss, in virtual time, beside what the papers say:
// Reno's square-root law (Mathis et al. 1997) and RFC 9438 5.1 for CUBIC. And how fair flows share.
//
//   netstack_simulation [--quick] [--write FOLDER]     tcp-simulation.md and .svg in the folder
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "netstack/tcp/endpoint.h"
#include "netstack/testing/lossy_link.h"

namespace ringwall::net::testing {
namespace {

constexpr size_t kMostWindow = 64 << 20;

struct Path {
  double bits;     // per second
  double rtt_ms;
  double loss;
};

// Segments and header bytes of a path: jumbo frames where links are that fast.
uint32_t MtuOf(const Path& p) { return p.bits >= 1e10 ? 9000 : 1500; }
double MssOf(const Path& p) { return MtuOf(p) - 52; }

// Bits per second of payload that the link carries at most.
double Ceiling(const Path& p) {
  const double link = p.bits * MssOf(p) / (MtuOf(p) + 14);
  // Half of the largest buffer is window; see README.md.
  return std::min(link, kMostWindow / 2 * 8 / (p.rtt_ms / 1000));
}

double RenoLaw(const Path& p) {
  if (p.loss == 0) return Ceiling(p);
  return std::min(Ceiling(p), std::sqrt(1.5 / p.loss) * MssOf(p) * 8 / (p.rtt_ms / 1000));
}

double CubicLaw(const Path& p) {
  if (p.loss == 0) return Ceiling(p);
  const double window = 1.054 * std::pow(p.rtt_ms / 1000, 0.75) / std::pow(p.loss, 0.75);
  return std::max(RenoLaw(p), std::min(Ceiling(p), window * MssOf(p) * 8 / (p.rtt_ms / 1000)));
}

StackConfig Large() {
  StackConfig c;
  c.tcp_rmem_max = c.tcp_wmem_max = kMostWindow;
  return c;
}

LinkModel ModelOf(const Path& p) {
  LinkModel m;
  m.delay = Duration::Nanos(static_cast<int64_t>(p.rtt_ms * 5e5));
  m.bits_per_second = static_cast<int64_t>(p.bits);
  // A queue of one bandwidth-delay product, and never less than 20 packets.
  m.queue_bytes = static_cast<size_t>(std::max(p.bits / 8 * p.rtt_ms / 1000, 20.0 * MtuOf(p)));
  return m;
}

struct Flow {
  RefPtr<TcpEndpoint> client, server;
  uint64_t received = 0, marked = 0;
  void Step(const Chain& data) {
    while (client->Send(data).ok()) {
    }
    while (true) {
      NetResult<Chain> c = server->Peek(1 << 20);
      if (!c.ok() || c->empty()) break;
      received += c->size();
      server->Consume(c->size());
    }
  }
};

// Opens `count` flows; empty when one could not be.
std::vector<Flow> Open(TwoStacks& net, size_t count, int64_t congestion) {
  std::vector<Flow> flows(count);
  Ref<TcpEndpoint> listener = net.stack(1).NewTcp(Family::kV4);
  if (!listener->Bind({TwoStacks::Addr(1, Family::kV4), 80}).ok()) return {};
  if (!listener->Listen(1000).ok()) return {};
  for (Flow& f : flows) {
    f.client = net.stack(0).NewTcp(Family::kV4);
    if (!f.client->SetOption(Option::kCongestion, congestion).ok()) return {};
    static_cast<void>(f.client->Connect({TwoStacks::Addr(1, Family::kV4), 80}));
    const bool done = net.Run(
        [&] {
          NetResult<Ref<TcpEndpoint>> s = listener->Accept();
          if (s.ok()) f.server = *s;
          return f.server && f.client->State() == TcpState::kEstablished;
        },
        Duration::Seconds(60));
    if (!done) return {};
  }
  listener->Close();
  return flows;
}

// Rates of each flow, in bits per second, once the beginning is over.
std::vector<double> Measure(const Path& p, size_t count, int64_t congestion, uint64_t packets, uint64_t seed) {
  LinkModel clean = ModelOf(p);
  TwoStacks net(seed, clean, Large(), MtuOf(p));
  std::vector<Flow> flows = Open(net, count, congestion);
  if (flows.empty()) return {};
  net.model().loss = p.loss;
  Ref<Buffer> zeros = Buffer::New(60000);
  zeros->set_used(60000);
  const Chain data{Slice(zeros, 0, 60000)};
  const auto run = [&](uint64_t more, double least_rtts) {
    const uint64_t until = net.sent + more;
    const TimePoint at_least = net.now() + Duration::Nanos(static_cast<int64_t>(least_rtts * p.rtt_ms * 1e6));
    uint64_t turn = 0;
    net.Run(
        [&] {
          // Not at every event: applications are not woken for each segment either.
          if (count == 1 || turn++ % 16 == 0) {
            for (Flow& f : flows) f.Step(data);
          }
          return net.sent >= until && (net.now() >= at_least || net.sent >= until + 4 * more);
        },
        Duration::Seconds(100000));
  };
  run(packets / 2, 60);
  const TimePoint start = net.now();
  for (Flow& f : flows) f.marked = f.received;
  run(packets, 200);
  const double seconds = static_cast<double>((net.now() - start).nanos()) / 1e9;
  std::vector<double> out;
  for (Flow& f : flows) {
    out.push_back(static_cast<double>(f.received - f.marked) * 8 / seconds);
    f.client->SetLinger(Duration());
    f.client->Close();
    f.server->Close();
  }
  return out;
}

std::string Bits(double b) {
  char out[32];
  const char* unit = b >= 1e9 ? "G" : b >= 1e6 ? "M" : "k";
  const double v = b / (b >= 1e9 ? 1e9 : b >= 1e6 ? 1e6 : 1e3);
  std::snprintf(out, sizeof(out), v >= 100 ? "%.0f %s" : v >= 10 ? "%.1f %s" : "%.2f %s", v, unit);
  return out;
}

double Jain(const std::vector<double>& x) {
  double sum = 0, squares = 0;
  for (double v : x) {
    sum += v;
    squares += v * v;
  }
  return squares == 0 ? 0 : sum * sum / (static_cast<double>(x.size()) * squares);
}

// Rate over loss, both axes logarithmic: measured points upon the laws' lines.
class Picture {
 public:
  void Point(const char* colour, double loss, double rate) { points_.push_back({colour, loss, rate}); }
  void Line(const char* colour, std::vector<std::pair<double, double>> at) { lines_.push_back({colour, std::move(at)}); }
  std::string Svg(const std::string& title) const {
    std::stringstream s;
    s << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"640\" height=\"420\" font-family=\"sans-serif\" "
         "font-size=\"12\">\n<rect width=\"640\" height=\"420\" fill=\"white\"/>\n<text x=\"60\" y=\"20\">"
      << title << "</text>\n";
    for (int e = -5; e <= -1; e++) {
      s << "<line x1=\"" << X(std::pow(10, e)) << "\" y1=\"40\" x2=\"" << X(std::pow(10, e))
        << "\" y2=\"380\" stroke=\"#ddd\"/><text x=\"" << X(std::pow(10, e)) - 12 << "\" y=\"396\">1e" << e << "</text>\n";
    }
    for (int e = 5; e <= 9; e++) {
      s << "<line x1=\"60\" y1=\"" << Y(std::pow(10, e)) << "\" x2=\"620\" y2=\"" << Y(std::pow(10, e))
        << "\" stroke=\"#ddd\"/><text x=\"8\" y=\"" << Y(std::pow(10, e)) + 4 << "\">" << Bits(std::pow(10, e)) << "b/s</text>\n";
    }
    for (const auto& [colour, at] : lines_) {
      s << "<polyline fill=\"none\" stroke=\"" << colour << "\" points=\"";
      for (auto [x, y] : at) s << X(x) << "," << Y(y) << " ";
      s << "\"/>\n";
    }
    for (const auto& [colour, x, y] : points_) {
      s << "<circle cx=\"" << X(x) << "\" cy=\"" << Y(y) << "\" r=\"4\" fill=\"" << colour << "\"/>\n";
    }
    s << "<text x=\"300\" y=\"414\">loss</text><text x=\"420\" y=\"60\" fill=\"#1f6fb4\">CUBIC: points; RFC 9438 5.1</text>"
         "<text x=\"420\" y=\"78\" fill=\"#c03028\">Reno: points; square-root law</text>\n</svg>\n";
    return s.str();
  }

 private:
  static double X(double loss) { return 60 + (std::log10(loss) + 5) / 4 * 560; }
  static double Y(double rate) { return 380 - (std::log10(std::max(rate, 1e5)) - 5) / 4.5 * 340; }
  struct Dot {
    const char* colour;
    double x, y;
  };
  std::vector<Dot> points_;
  std::vector<std::pair<const char*, std::vector<std::pair<double, double>>>> lines_;
};

// BBR beside CUBIC: what it is for are paths that lose without being full.
std::string BbrTable(bool quick, int* wrong) {
  std::stringstream table;
  table << "\n## BBR\n\nOn the same links; beside each rate its part of what the link or the window carries.\n\n"
           "| link | round trip | loss | BBR | of the link | CUBIC | of the link |\n"
           "| --- | --- | --- | --- | --- | --- | --- |\n";
  const std::vector<double> rates = quick ? std::vector<double>{1e7} : std::vector<double>{1e6, 1e7, 1e8, 1e9};
  const std::vector<double> rtts = quick ? std::vector<double>{20} : std::vector<double>{1, 10, 100};
  const std::vector<double> losses = quick ? std::vector<double>{0.01} : std::vector<double>{0, 1e-3, 1e-2, 5e-2};
  for (double bits : rates) {
    for (double rtt : rtts) {
      for (double loss : losses) {
        const Path p{bits, rtt, loss};
        const std::vector<double> bbr = Measure(p, 1, kCongestionBbr, quick ? 4000 : 20000, 7);
        const std::vector<double> cubic = Measure(p, 1, kCongestionCubic, quick ? 4000 : 20000, 7);
        const double b = bbr.empty() ? 0 : bbr[0], c = cubic.empty() ? 0 : cubic[0];
        char row[256];
        std::snprintf(row, sizeof(row), "| %sb/s | %g ms | %g | %sb/s | %.2f | %sb/s | %.2f |\n", Bits(bits).c_str(), rtt,
                      loss, Bits(b).c_str(), b / Ceiling(p), Bits(c).c_str(), c / Ceiling(p));
        table << row;
        std::fputs(row, stdout);
        std::fflush(stdout);
        if (b < 0.5 * Ceiling(p)) (*wrong)++;
      }
    }
  }
  table << "\nJain's index of BBR flows that share 100 Mb/s with a round trip of 20 ms:";
  for (size_t n : quick ? std::vector<size_t>{2} : std::vector<size_t>{2, 4, 8, 16, 32, 64}) {
    const std::vector<double> b = Measure({1e8, 20, 0}, n, kCongestionBbr, quick ? 20000 : 150000, 8);
    char row[64];
    std::snprintf(row, sizeof(row), " %zu: %.3f", n, Jain(b));
    table << row;
    std::fputs(row, stdout);
    std::fflush(stdout);
  }
  table << "\n";
  return table.str();
}

int Main(bool quick, const char* folder, bool only_bbr) {
  if (only_bbr) {
    int wrong = 0;
    const std::string text = BbrTable(quick, &wrong);
    std::fputs(("\n" + text).c_str(), stdout);
    return wrong == 0 ? 0 : 1;
  }
  std::stringstream table;
  table << "# TCP in virtual time\n\nMade by `netstack_simulation --write docs`: two stacks over a link of the rate, round-trip "
           "time and loss of\nthe row, with a queue of one bandwidth-delay product; rates of payload once the beginning is over. "
           "Frames\nare of 1,500 bytes, of 9,000 from 10 Gb/s on; windows reach 32 MiB. Beside each rate: its part of what "
           "the\nlaw says (Reno: sqrt(3/2p), CUBIC: RFC 9438 5.1), or of what the link or the window carries.\n\n"
           "| link | round trip | loss | CUBIC | of its law | Reno | of its law |\n| --- | --- | --- | --- | --- | --- | --- |\n";
  const std::vector<double> rates = quick ? std::vector<double>{1e7} : std::vector<double>{1e6, 1e7, 1e8, 1e9, 1e10, 4e10};
  const std::vector<double> rtts = quick ? std::vector<double>{20} : std::vector<double>{0.05, 1, 10, 100, 300};
  const std::vector<double> losses = quick ? std::vector<double>{0, 0.01} : std::vector<double>{0, 1e-4, 1e-3, 1e-2, 5e-2};
  const uint64_t packets = quick ? 4000 : 20000;
  int wrong = 0;
  for (double bits : rates) {
    for (double rtt : rtts) {
      for (double loss : losses) {
        const Path p{bits, rtt, loss};
        const std::vector<double> cubic = Measure(p, 1, kCongestionCubic, packets, 1);
        const std::vector<double> reno = Measure(p, 1, kCongestionReno, packets, 2);
        const double c = cubic.empty() ? 0 : cubic[0], r = reno.empty() ? 0 : reno[0];
        char row[256];
        std::snprintf(row, sizeof(row), "| %sb/s | %g ms | %g | %sb/s | %.2f | %sb/s | %.2f |\n", Bits(bits).c_str(), rtt,
                      loss, Bits(c).c_str(), c / CubicLaw(p), Bits(r).c_str(), r / RenoLaw(p));
        table << row;
        std::fputs(row, stdout);
        std::fflush(stdout);
        if (c < 0.2 * CubicLaw(p) && loss <= 0.01) wrong++;
      }
    }
  }
  table << "\n## Fairness\n\nJain's index of the rates of flows that share 100 Mb/s with a round trip of 20 ms; 1 is equal.\n\n"
           "| flows | CUBIC | Reno | of the link |\n| --- | --- | --- | --- |\n";
  for (size_t n : quick ? std::vector<size_t>{2} : std::vector<size_t>{2, 4, 8, 16, 32, 64}) {
    const Path p{1e8, 20, 0};
    const std::vector<double> c = Measure(p, n, kCongestionCubic, quick ? 20000 : 150000, 3);
    const std::vector<double> r = Measure(p, n, kCongestionReno, quick ? 20000 : 150000, 4);
    double sum = 0;
    for (double v : c) sum += v;
    char row[128];
    std::snprintf(row, sizeof(row), "| %zu | %.3f | %.3f | %.2f |\n", n, Jain(c), Jain(r), sum / Ceiling(p));
    table << row;
    std::fputs(row, stdout);
    if (Jain(c) < 0.5) wrong++;
  }
  table << BbrTable(quick, &wrong);
  if (folder != nullptr) {
    table << "\n![rate over loss](tcp-simulation.svg)\n";
    Picture picture;
    const double bits = 1e9, rtt = 40;
    std::vector<std::pair<double, double>> cubic, reno;
    for (double e = -5; e <= -1.3; e += 0.1) {
      const Path p{bits, rtt, std::pow(10, e)};
      cubic.emplace_back(p.loss, CubicLaw(p));
      reno.emplace_back(p.loss, RenoLaw(p));
    }
    picture.Line("#1f6fb4", cubic);
    picture.Line("#c03028", reno);
    for (double loss : {3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 5e-2}) {
      const Path p{bits, rtt, loss};
      picture.Point("#1f6fb4", loss, Measure(p, 1, kCongestionCubic, 60000, 5)[0]);
      picture.Point("#c03028", loss, Measure(p, 1, kCongestionReno, 60000, 6)[0]);
    }
    std::ofstream(std::string(folder) + "/tcp-simulation.md") << table.str();
    std::ofstream(std::string(folder) + "/tcp-simulation.svg") << picture.Svg("1 Gb/s, round trip of 40 ms");
  }
  return wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace ringwall::net::testing

int main(int argc, char** argv) {
  bool quick = false;
  bool bbr = false;
  const char* folder = nullptr;
  for (int i = 1; i < argc; i++) {
    if (std::strcmp(argv[i], "--quick") == 0) quick = true;
    if (std::strcmp(argv[i], "--bbr") == 0) bbr = true;
    if (std::strcmp(argv[i], "--write") == 0 && i + 1 < argc) folder = argv[++i];
  }
  return ringwall::net::testing::Main(quick, folder, bbr);
}
