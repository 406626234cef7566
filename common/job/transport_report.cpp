#include "common/job/transport_report.hpp"

#include <cstdio>

#include "common/base/log.hpp"
#include "common/net/mpi.hpp"
#include "common/net/probe.hpp"

namespace weir {
namespace {

std::string mebibytes(index_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g MiB", static_cast<double>(bytes) / 1048576);
  return text;
}

std::string speed(double bytes_per_second) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2g GB/s", bytes_per_second / 1e9);
  return text;
}

void warn(const Probe& probe) {
  if (probe.path == MessagePath::double_copy) {
    const std::string why =
        probe.refusal.empty()
            ? text("Open MPI's btl_vader_single_copy_mechanism is ", probe.mechanism)
            : text("the kernel does not let a rank read another's memory (process_vm_readv: ",
                   probe.refusal, ")");
    log_warning(text(
        "SLOW: every long message on this host is copied twice, at ", speed(probe.bytes_per_second),
        ": ", why,
        ". In a container allow process_vm_readv (docker: --cap-add=SYS_PTRACE, or a "
        "seccomp profile that has it); on the host set sysctl kernel.yama.ptrace_scope=0; and let "
        "OMPI_MCA_btl_vader_single_copy_mechanism be cma"));
  }
  if (!probe.huge_pages) {
    log_warning(
        "the kernel gives no huge pages, and messages out of small ones are about half as fast: "
        "/sys/kernel/mm/transparent_hugepage/enabled should say madvise or always");
  }
}

/// What workers and servers send each other as messages in an update.
struct MessageBytes {
  index_t now = 0;
  index_t without_groups = 0;  ///< if every worker sent and received for itself
};

MessageBytes message_bytes(const Comm& world, const BucketPlan& plan, const DataPlane& plane) {
  const Layout& layout = plan.layout();
  MessageBytes bytes;
  if (layout.is_worker(world.rank())) {
    const WireConfig own = plane.wire_of(world.rank());
    for (const HeldBucket& held : plan.holding(holder_of(layout.worker(world.rank()))).buckets) {
      const Bucket& bucket = plan.buckets()[held.bucket];
      const index_t server = layout.rank_of_server(bucket.server);
      if (plane.by_window_with(static_cast<int>(server))) continue;
      const auto pushed = [&](const Wire& wire) {
        return held.pushes ? wire.bytes(bucket.element_count) : 0;
      };
      const index_t pulled = plan.pulled_bytes(held.bucket);
      bytes.without_groups += pushed(plan.wire().push) + pulled;
      if (!plane.is_led(world.rank(), server)) bytes.now += pushed(own.push) + pulled;
    }
  }
  return {.now = world.sum(bytes.now), .without_groups = world.sum(bytes.without_groups)};
}

/// How the groups of --sum-groups are added up, if there are some.
void report_groups(const Comm& world, const BucketPlan& plan, const DataPlane& plane) {
  const Layout& layout = plan.layout();
  if (layout.group_size == 1) return;
  const MessageBytes bytes = message_bytes(world, plan, plane);
  index_t leaders = 0, apart = 0;
  for (index_t worker = 0; worker < layout.worker_count(); ++worker) {
    if (!layout.leads(layout.worker(worker).replica)) continue;
    ++(plane.in_team(worker) ? leaders : apart);
  }
  if (world.rank() != 0) return;
  std::string line = text("groups of ", layout.group_size, " replicas ");
  if (bytes.without_groups == 0) {
    line += "are added up by servers, in shared memory";
  } else if (leaders == 0) {
    line += "are added up by servers: none has its replicas on one host with shared memory";
  } else {
    line += "push and pull once";
    if (apart > 0) {
      line += text(", ", leaders, " of ", leaders + apart, ", the others are on several hosts");
    }
  }
  if (bytes.without_groups > 0) {
    line += text("; messages have ", mebibytes(bytes.now), " an update, and would have ",
                 mebibytes(bytes.without_groups), " without groups");
  }
  log_info(line);
}

}  // namespace

void report_transport(const Comm& world, const BucketPlan& plan, const DataPlane& plane) {
  const Layout& layout = plan.layout();
  Probe near, far;
  const auto pair = plane.pair_of_host();
  const bool probes_near = pair && (world.rank() == pair->first || world.rank() == pair->second);
  if (probes_near) {
    near = probe_messages(world, world.rank() == pair->first ? pair->second : pair->first, true);
  }
  if (probes_near && world.rank() == pair->first) warn(near);
  world.barrier();  // a probe between hosts must not meet one within a host
  const auto far_server = plane.far_server();
  if (far_server && (world.rank() == 0 || world.rank() == *far_server)) {
    far = probe_messages(world, world.rank() == 0 ? *far_server : 0, false);
  }

  index_t windows = 0;
  if (layout.is_worker(world.rank())) {
    for (index_t server = 0; server < layout.servers; ++server) {
      windows += plane.by_window_with(static_cast<int>(layout.rank_of_server(server)));
    }
  }
  windows = world.sum(windows);
  report_groups(world, plan, plane);
  const auto any_host = [&](MessagePath path) {
    return world.max(index_t{probes_near && near.path == path}) > 0;
  };
  const bool small_pages = world.max(index_t{plane.on_small_pages()}) > 0;
  const bool twice = any_host(MessagePath::double_copy);
  const bool once = any_host(MessagePath::single_copy);
  const double slowest = -world.max(probes_near ? -near.bytes_per_second : -1e300);
  if (world.rank() != 0) return;

  const index_t pairs = layout.worker_count() * layout.servers;
  std::string line = "buckets travel ";
  if (windows == pairs) line += text("by window");
  if (windows == 0) line += text("as messages");
  if (windows > 0 && windows < pairs) {
    line += text("by window between ", windows, " of ", pairs,
                 " pairs of worker and server, else as messages");
  }
  if (small_pages) line += text(" (on small pages: MADV_COLLAPSE, of Linux 6.1, is refused)");
  if (slowest < 1e300) {
    line += text("; messages within a host: ",
                 twice  ? "copied twice, "
                 : once ? "one copy, "
                        : "",
                 speed(slowest));
  }
  if (far_server) line += text("; between hosts: ", speed(far.bytes_per_second));
  log_info(line);
}

}  // namespace weir
