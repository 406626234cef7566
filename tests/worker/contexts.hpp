#pragma once

#include <algorithm>
#include <barrier>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "common/base/error.hpp"
#include "tests/worker/low_types.hpp"
#include "worker/groups/context_group.hpp"

namespace weir::test {

/// The contexts of sequences as threads of this process: a ContextGroup without MPI, for each
/// thread its own.
class ThreadContexts {
 public:
  explicit ThreadContexts(index_t count) : count_(count), offers_(count), barrier_(count) {}

  /// Calls body(group) on `count` threads at once, each with its own index, and waits for all.
  void run(const std::function<void(worker::ContextGroup&)>& body) {
    std::vector<std::thread> threads;
    for (index_t index = 0; index < count_; ++index) {
      threads.emplace_back([this, index, &body] { body(*group(index)); });
    }
    for (std::thread& thread : threads) thread.join();
  }

  /// For the thread that is context `index`; looks at this.
  std::unique_ptr<worker::ContextGroup> group(index_t index) {
    return std::make_unique<Group>(*this, index);
  }

 private:
  /// What a context shows the others in one call.
  struct Offer {
    std::span<const float> values, to_previous, to_next;
  };

  class Group final : public worker::ContextGroup {
   public:
    Group(ThreadContexts& contexts, index_t index) : contexts_(contexts), index_(index) {}
    index_t size() const override { return contexts_.count_; }
    index_t index() const override { return index_; }
    void sum(Vector vector) override {
      const std::vector<float> values = floats_of(vector);
      std::vector<float> result(values.size(), 0);
      meet({values, {}, {}}, [&] {
        for (const Offer& offer : contexts_.offers_) {
          WEIR_ASSERT(offer.values.size() == result.size());
          for (std::size_t i = 0; i < result.size(); ++i) result[i] += offer.values[i];
        }
      });
      round_to(result, vector);
    }
    void gather(ConstVector vector, Vector vectors) override {
      const std::vector<float> values = floats_of(vector);
      std::vector<float> all(values.size() * contexts_.offers_.size());
      WEIR_ASSERT(vectors.size() == std::ssize(all));
      meet({values, {}, {}}, [&] {
        auto to = all.begin();
        for (const Offer& offer : contexts_.offers_) {
          WEIR_ASSERT(offer.values.size() == values.size());
          to = std::ranges::copy(offer.values, to).out;
        }
      });
      round_to(all, vectors);
    }
    void exchange(ConstVector to_previous, ConstVector to_next, Vector from_previous,
                  Vector from_next) override {
      const std::vector<float> back = floats_of(to_previous);
      const std::vector<float> on = floats_of(to_next);
      meet({{}, back, on}, [&] {
        const auto receive = [](std::span<const float> sent, Vector to) {
          WEIR_ASSERT(std::ssize(sent) == to.size());
          round_to(sent, to);
        };
        const auto offer = [&](index_t of) -> const Offer& { return contexts_.offers_[of]; };
        if (index_ > 0) receive(offer(index_ - 1).to_next, from_previous);
        if (index_ + 1 < size()) receive(offer(index_ + 1).to_previous, from_next);
      });
    }

   private:
    /// Runs `read` while all offers stand.
    template <class Read>
    void meet(const Offer& own, const Read& read) {
      contexts_.offers_[index_] = own;
      contexts_.barrier_.arrive_and_wait();
      read();
      contexts_.barrier_.arrive_and_wait();
    }

    ThreadContexts& contexts_;
    index_t index_;
  };

  index_t count_;
  std::vector<Offer> offers_;
  std::barrier<> barrier_;
};

}  // namespace weir::test
