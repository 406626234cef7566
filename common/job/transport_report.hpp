#pragma once

#include "common/job/data_plane.hpp"

namespace weir {

/// Tries how messages travel between a worker and a server of each host, and to another host; takes
/// some milliseconds. Rank 0 logs what buckets take, and each host where messages are slow says so
/// and what to do about it. Collective over `world`.
void report_transport(const Comm& world, const BucketPlan& plan, const DataPlane& plane);

}  // namespace weir
