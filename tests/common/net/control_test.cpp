#include "common/net/control.hpp"

#include <cstring>
#include <map>
#include <random>
#include <string>

#include "common/base/error.hpp"
#include "common/base/machine.hpp"
#include "common/base/wait.hpp"
#include "tests/mpi_test.hpp"

namespace weir {

namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

MPI_TEST_CASE("messages of all ranks to all ranks come once, whole and in order", 6) {
  const auto seed =
      static_cast<unsigned>(std::stoul(ranks.comm.broadcast(text(std::random_device()()), 0)));
  CAPTURE(seed);
  std::mt19937 random(seed + static_cast<unsigned>(ranks.rank));
  constexpr int kMessages = 60;
  ControlPort port(ranks.comm, Tier::servers);
  std::map<int, int> came;
  index_t wrong = 0;
  const auto take = [&](int source, MessageKind kind, std::span<const std::byte> bytes) {
    const std::string content = text_of(bytes);
    const int number = came[source]++;
    wrong += kind != (number % 2 == 0 ? kKindOf<Report> : kKindOf<Directive>);
    wrong += !content.starts_with(text(source, ":", number, ":"));
    for (const char c : content.substr(content.rfind(':') + 1))
      wrong += c != char('a' + number % 26);
    if (random() % 20 == 0) sleep_microseconds(index_t(random() % 2000));
  };
  for (int number = 0; number < kMessages; ++number) {
    for (int peer = 0; peer < ranks.comm.size(); ++peer) {  // itself included
      const std::size_t lengths[] = {0, 100, 4000, 5000, 200000};
      const std::size_t length = lengths[random() % 5];
      port.send(peer, Tier::servers, number % 2 == 0 ? kKindOf<Report> : kKindOf<Directive>,
                bytes_of(text(ranks.rank, ":", number, ":") +
                         std::string(length, char('a' + number % 26))));
    }
    if (random() % 3 == 0) port.poll(take);
  }
  int total = 0;
  wait_until([&] { return total == kMessages * ranks.comm.size(); },
             [&] {
               const bool any = port.poll(take);
               total = 0;
               for (const auto& [source, count] : came) total += count;
               return any;
             });
  CHECK(wrong == 0);
  for (const auto& [source, count] : came) CHECK(count == kMessages);
}

MPI_TEST_CASE("of two ports of a rank each takes what is for its tier, in order, from itself, too",
              3) {
  ControlPort server(ranks.comm, Tier::servers), worker(ranks.comm, Tier::workers);
  constexpr int kMessages = 40;
  const int size = ranks.comm.size();
  for (int number = 0; number < kMessages; ++number) {
    for (int peer = 0; peer < size; ++peer) {
      server.send(peer, Tier::workers, kKindOf<Directive>, bytes_of(text("to worker ", number)));
      worker.send(peer, Tier::servers, kKindOf<Report>, bytes_of(text("to server ", number)));
      server.send(peer, Tier::servers, kKindOf<Directive>, bytes_of(text("to server ", number)));
    }
  }
  index_t wrong = 0;
  int at_server = 0, at_worker = 0;
  std::map<std::pair<int, MessageKind>, int> came;
  const auto take = [&](std::string_view mine, int& count) {
    return [&, mine](int source, MessageKind kind, std::span<const std::byte> bytes) {
      const bool own = mine == "to worker ";
      const int number = came[{own ? source + size : source, kind}]++;
      wrong += text_of(bytes) != text(mine, number);
      ++count;
    };
  };
  const auto take_server = take("to server ", at_server),
             take_worker = take("to worker ", at_worker);
  wait_until([&] { return at_server == 2 * kMessages * size && at_worker == kMessages * size; },
             [&] {
               const bool at_one = server.poll(take_server);
               return worker.poll(take_worker) || at_one;
             });
  CHECK(wrong == 0);
}

MPI_TEST_CASE("a message of 64 MiB comes whole, and small ones of other ranks do not wait for it",
              3) {
  ControlPort port(ranks.comm, Tier::servers);
  const std::string large(std::size_t(kLongestMessage), 'x');
  if (ranks.rank == 0) {
    bool large_came = false, small_came = false;
    wait_until([&] { return large_came && small_came; },
               [&] {
                 return port.poll([&](int source, MessageKind, std::span<const std::byte> bytes) {
                   (source == 1 ? large_came : small_came) = true;
                   CHECK((text_of(bytes) == (source == 1 ? large : "small")));
                 });
               });
  } else {
    port.send(0, Tier::servers, kKindOf<Partials>, bytes_of(ranks.rank == 1 ? large : "small"));
    wait_until([&] { return port.idle(); },
               [&] { port.poll([](int, MessageKind, std::span<const std::byte>) {}); });
  }
  ranks.comm.barrier();
}

MPI_TEST_CASE("what is no message of ours is refused with the rank that sent it", 2) {
  std::string good(16, '\0');
  {
    // Catch a true frame on its way, to damage it.
    ControlPort port(ranks.comm, Tier::servers);
    if (ranks.rank == 0) port.send(1, Tier::servers, kKindOf<Report>, bytes_of("abcdefgh"));
    if (ranks.rank == 1) {
      good.resize(16 + 8);
      MPI_Recv(good.data(), 24, MPI_BYTE, 0, MPI_ANY_TAG, ranks.comm.raw(), MPI_STATUS_IGNORE);
    }
  }
  good = ranks.comm.broadcast(good, 1);
  std::string bad_magic = good, bad_length = good, bad_content = good;
  bad_magic[0] = 'X';
  bad_length[8] = char(200);
  bad_content[20] = 'X';
  const std::pair<std::string, const char*> cases[] = {
      {"short", "from rank 0: its length of 5 bytes cannot be"},
      {std::string(std::size_t(kLongestMessage) + 17, 'x'),
       "its length of 67108881 bytes cannot be"},
      {bad_magic, "from rank 0: it is none of ours"},
      {bad_length, "from rank 0: it says 200 bytes and has 8"},
      {bad_content, "from rank 0: its checksum is wrong"}};
  for (const auto& [frame, why] : cases) {
    CAPTURE(why);
    const auto length = static_cast<int>(frame.size());
    if (ranks.rank == 0) {
      MPI_Send(frame.data(), length, MPI_BYTE, 1, 0, ranks.comm.raw());
    } else {
      const auto receive = [&] {
        ControlPort port(ranks.comm, Tier::servers);
        bool came = false;
        const auto take = [&](int, MessageKind, std::span<const std::byte>) { came = true; };
        wait_until([&] { return came; }, [&] { port.poll(take); });
      };
      CHECK_THROWS_WITH_AS(receive(), doctest::Contains(why), Error);
      if (length < 16 || length > kLongestMessage) {  // it was not even taken
        std::string rest(frame.size(), '\0');
        MPI_Recv(rest.data(), length, MPI_BYTE, 0, 0, ranks.comm.raw(), MPI_STATUS_IGNORE);
      }
    }
    ranks.comm.barrier();
  }
}

}  // namespace weir
