#pragma once

#include <algorithm>
#include <barrier>
#include <functional>
#include <span>
#include <thread>
#include <vector>

#include "worker/parallel/context_group.hpp"

namespace weir::test {

/// The contexts of one sequence as threads of this process: a ContextGroup without MPI.
class ThreadContexts {
 public:
  explicit ThreadContexts(index_t count)
      : count_(count), parts_(static_cast<std::size_t>(count)), barrier_(count) {}

  /// Calls body(group) on `count` threads at once, each with its own index, and waits for all.
  void run(const std::function<void(worker::ContextGroup&)>& body) {
    std::vector<std::thread> threads;
    for (index_t index = 0; index < count_; ++index) {
      threads.emplace_back([this, index, &body] {
        Group group(*this, index);
        body(group);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  /// What one context offers to the others during a call.
  struct Offer {
    std::span<const float> values;  ///< or what goes to the previous context
    std::span<const float> to_next;
  };

  class Group final : public worker::ContextGroup {
   public:
    Group(ThreadContexts& contexts, index_t index) : contexts_(contexts), index_(index) {}
    index_t size() const override { return contexts_.count_; }
    index_t index() const override { return index_; }

    void sum(std::span<float> values) override {
      std::vector<float> result(values.size(), 0.0F);
      offer({values, {}}, [&] {
        for (const Offer& part : contexts_.parts_) {
          for (std::size_t i = 0; i < result.size(); ++i) result[i] += part.values[i];
        }
      });
      std::ranges::copy(result, values.begin());
    }
    void gather(std::span<const float> values, std::span<float> all) override {
      offer({values, {}}, [&] {
        auto to = all.begin();
        for (const Offer& part : contexts_.parts_) to = std::ranges::copy(part.values, to).out;
      });
    }
    void exchange(std::span<const float> to_previous, std::span<const float> to_next,
                  std::span<float> from_previous, std::span<float> from_next) override {
      offer({to_previous, to_next}, [&] {
        if (index_ > 0) std::ranges::copy(part(index_ - 1).to_next, from_previous.begin());
        if (index_ + 1 < size()) std::ranges::copy(part(index_ + 1).values, from_next.begin());
      });
    }

   private:
    const Offer& part(index_t index) const {
      return contexts_.parts_[static_cast<std::size_t>(index)];
    }
    /// read() runs while all offers stand.
    template <class Read>
    void offer(const Offer& mine, const Read& read) {
      contexts_.parts_[static_cast<std::size_t>(index_)] = mine;
      contexts_.barrier_.arrive_and_wait();
      read();
      contexts_.barrier_.arrive_and_wait();
    }

    ThreadContexts& contexts_;
    index_t index_;
  };

  index_t count_;
  std::vector<Offer> parts_;
  std::barrier<> barrier_;
};

}  // namespace weir::test
