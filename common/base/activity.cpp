#include "common/base/activity.hpp"

#include "common/base/error.hpp"

namespace weir {

const char* name_of(JobPhase phase) {
  switch (phase) {
    case JobPhase::start:
      return "start";
    case JobPhase::load:
      return "load";
    case JobPhase::train:
      return "train";
    case JobPhase::validate:
      return "validate";
    case JobPhase::close:
      return "close";
  }
  WEIR_UNREACHABLE();
}

ActivityNow activity_now() {
  const detail::ActivityRecord& record = detail::activity_record;
  ActivityNow now;
  now.phase = record.phase.load(std::memory_order_relaxed);
  now.step = record.step.load(std::memory_order_relaxed);
  now.need = record.need.load();
  now.server_need = record.server_need.load();
  if (record.file_work_count.load(std::memory_order_relaxed) > 0) {
    now.file_work = record.file_work.load(std::memory_order_relaxed);
    if (now.file_work == nullptr) now.file_work = "files";  // two threads have put back none
  }
  now.moves = record.moves.load(std::memory_order_relaxed);
  return now;
}

}  // namespace weir
