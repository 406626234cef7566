#include "common/net/control.hpp"

#include <isa-l/crc.h>

#include <algorithm>
#include <cstring>
#include <exception>

#include "common/base/error.hpp"
#include "common/base/list.hpp"
#include "common/base/wait.hpp"

namespace weir {

namespace {

constexpr std::uint32_t kMagic = 0x72696577;  // "weir"

/// Multiples of 8, which no channel has.
int tag_of(Tier tier) { return tier == Tier::servers ? 0 : 1000; }

struct Header {
  std::uint32_t magic;
  MessageKind kind;
  std::uint16_t unused;
  std::uint32_t length;
  std::uint32_t crc;  ///< CRC32C of the bytes
};
static_assert(sizeof(Header) == 16);

std::uint32_t crc_of(std::span<const std::byte> bytes) {
  // ISA-L takes no const, but only reads.
  auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
  return crc32_iscsi(data, static_cast<int>(bytes.size()), 0);
}

bool has_ended(Request& request, const char* doing) {
  MPI_Request raw = request.get();
  int ended = 0;
  const int code = MPI_Test(&raw, &ended, MPI_STATUS_IGNORE);
  if (raw == MPI_REQUEST_NULL) request.release();  // MPI has freed it already
  check_mpi(code, doing);
  return ended != 0;
}

Error refusal(int source, std::string_view why) {
  return Error(text("control message from rank ", source, ": ", why,
                    "; do all ranks run the same program?"));
}

}  // namespace

ControlPort::~ControlPort() {
  if (std::uncaught_exceptions() > 0) return;
  const Waiting waiting("its last messages to leave");
  wait_until([&] {
    std::erase_if(sending_, [](Transfer& t) { return has_ended(t.request, "sending a message"); });
    std::erase_if(arriving_,
                  [](Transfer& t) { return has_ended(t.request, "receiving a message"); });
    return sending_.empty() && arriving_.empty();
  });
}

void ControlPort::send(int rank, Tier tier, MessageKind kind, std::span<const std::byte> bytes) {
  WEIR_ASSERT(std::ssize(bytes) <= kLongestMessage);
  const Header header{kMagic, kind, 0, static_cast<std::uint32_t>(bytes.size()), crc_of(bytes)};
  std::vector<std::byte> frame(sizeof header + bytes.size());
  std::memcpy(frame.data(), &header, sizeof header);
  std::ranges::copy(bytes, frame.begin() + sizeof header);
  MPI_Request raw = MPI_REQUEST_NULL;
  check_mpi(MPI_Isend(frame.data(), static_cast<int>(frame.size()), MPI_BYTE, rank, tag_of(tier),
                      comm_.raw(), &raw),
            "sending a message");
  sending_.push_back({rank, std::move(frame), Request(raw)});
}

void ControlPort::move() {
  std::erase_if(sending_, [](Transfer& t) { return has_ended(t.request, "sending a message"); });
  while (true) {
    int found = 0;
    MPI_Status status;
    check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, tag_of(own_), comm_.raw(), &found, &status),
              "looking for messages");
    if (!found) return;
    int length = 0;
    check_mpi(MPI_Get_count(&status, MPI_BYTE, &length), "looking for messages");
    constexpr index_t kLongestFrame = kLongestMessage + index_t{sizeof(Header)};
    if (length == MPI_UNDEFINED || length < int{sizeof(Header)} || length > kLongestFrame) {
      throw refusal(status.MPI_SOURCE, text("its length of ", length, " bytes cannot be"));
    }
    std::vector<std::byte> frame(length);
    MPI_Request raw = MPI_REQUEST_NULL;
    check_mpi(MPI_Irecv(frame.data(), length, MPI_BYTE, status.MPI_SOURCE, tag_of(own_),
                        comm_.raw(), &raw),
              "receiving a message");
    arriving_.push_back({status.MPI_SOURCE, std::move(frame), Request(raw)});
  }
}

std::optional<ControlPort::Message> ControlPort::next() {
  List<int> waiting_sources;  // a long message holds back later ones from its rank alone
  for (auto transfer = arriving_.begin(); transfer != arriving_.end(); ++transfer) {
    if (std::ranges::count(waiting_sources, transfer->peer) > 0) continue;
    if (!has_ended(transfer->request, "receiving a message")) {
      waiting_sources.push_back(transfer->peer);
      continue;
    }
    const Transfer arrived = std::move(*transfer);
    arriving_.erase(transfer);
    Header header;
    std::memcpy(&header, arrived.frame.data(), sizeof header);
    const auto bytes = std::span(arrived.frame).subspan(sizeof header);
    if (header.magic != kMagic) throw refusal(arrived.peer, "it is none of ours");
    if (header.length != bytes.size()) {
      throw refusal(arrived.peer, text("it says ", header.length, " bytes and has ", bytes.size()));
    }
    if (header.crc != crc_of(bytes)) throw refusal(arrived.peer, "its checksum is wrong");
    return Message{arrived.peer, header.kind, {bytes.begin(), bytes.end()}};
  }
  return std::nullopt;
}

}  // namespace weir
