// SPDX-License-Identifier: Apache-2.0
// A device whose memory is the host's and whose steps are the host's own: what sessions do with a device, seen without
// one. It fills what it gives, checks that copies stay in what it gave, and can refuse any allocation.
#pragma once

#include <tenon/gpu/frozen_step.hpp>
#include <tenon/kernels/merge.hpp>
#include <tenon/tenon.hpp>

#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <new>
#include <string>
#include <vector>

namespace tenon::test {

class StandInDevice : public Device {
 public:
  /// With the functions of `program`'s ops.
  explicit StandInDevice(const Program& program, std::string_view name = "stand-in device") : name_(name) {
    for (const Step& step : program.steps)
      if (step.kind == StepKind::compute) functions_[std::string(step.op)] = {step.run, step.scratch};
  }

  [[nodiscard]] std::string_view name() const noexcept override { return name_; }
  [[nodiscard]] MemorySource memory() noexcept override { return {&allocate, &release, this}; }
  [[nodiscard]] MemorySource pinned_memory() noexcept override { return system_memory(); }
  [[nodiscard]] DeviceFunctions functions(std::string_view op) const noexcept override {
    const auto found = functions_.find(op);
    return found == functions_.end() ? DeviceFunctions{} : found->second;
  }
  [[nodiscard]] std::int64_t merge_room_bytes(std::int64_t terms) const noexcept override {
    return terms <= 1 ? 0 : 256 * terms;
  }
  [[nodiscard]] std::unique_ptr<DeviceLane> make_lane(Ledger&) override {
    return std::make_unique<Lane>(*this);
  }

  /// Of all lanes so far.
  [[nodiscard]] const DeviceCounts& counts() const noexcept { return counts_; }
  [[nodiscard]] std::size_t blocks() const noexcept { return blocks_.size(); }
  /// Whether [data, data + bytes) lies in a block that was given.
  [[nodiscard]] bool owns(const void* data, std::int64_t bytes) const noexcept {
    const auto* const first = static_cast<const std::byte*>(data);
    for (const auto& [block, size] : blocks_)
      if (first >= block && first + bytes <= block + size) return true;
    return false;
  }
  void forget_op(const std::string& op) { functions_.erase(op); }

  int refuse_after = -1; ///< allocations from now on; negative: none is refused
  int fail_after = -1;   ///< the call on a lane after so many fails

 private:
  class Lane : public DeviceLane {
   public:
    explicit Lane(StandInDevice& owner) : owner_(owner) {}

    void run(StepFunction function, StepContext context, std::span<std::byte> scratch,
             std::int32_t* fault) override {
      act();
      if (recorded_ != nullptr) {
        static_cast<void>(recorded_->steps.emplace_back(function, context, scratch, fault));
        return;
      }
      for (const WireView& wire : context.inputs) expect(owner_.owns(wire.data, wire.bytes()));
      expect(owner_.owns(context.output.data, context.output.bytes()));
      for (const TensorView& weight : context.weights)
        expect(weight.data == nullptr || owner_.owns(weight.data, weight.bytes()));
      if (const StateView& state = context.state; state.data != nullptr)
        expect(owner_.owns(state.data, state.sequences * state.capacity * state.width * 4));
      if (context.slot != nullptr)
        for (const SideTerm* side = context.slot->terms.first; side != nullptr; side = side->next) {
          expect(owner_.owns(side->term.a.data, side->term.a.bytes()));
          expect(owner_.owns(side->term.scale_at, sizeof(float)));
          // the host's functions know only the term's own: as a device, let them see what is in memory now
          const_cast<SideTerm*>(side)->term.scale = *side->term.scale_at;
        }
      if (context.slot != nullptr)
        for (const SideBias* side = context.slot->biases.first; side != nullptr; side = side->next) {
          expect(is_weight_dtype(side->term.values.dtype));
          expect(owner_.owns(side->term.values.data,
                             side->term.values.size * dtype_bytes(side->term.values.dtype)));
        }
      context.workers = kernels::Workers(kernels::Scratch(scratch));
      function(context);
      ++count(&DeviceCounts::steps);
    }
    void merge(const kernels::WeightMatrix& base, std::span<const kernels::LowRankTerm> terms, std::byte* out,
               std::span<std::byte> room) override {
      act();
      expect(owner_.owns(base.data, base.bytes()) && owner_.owns(out, base.bytes()));
      expect(std::ssize(room) >= owner_.merge_room_bytes(std::ssize(terms)) &&
             (room.empty() || owner_.owns(room.data(), std::ssize(room))));
      for (const kernels::LowRankTerm& term : terms)
        for (const kernels::WeightMatrix& factor : {term.a, term.b})
          expect(is_weight_dtype(factor.dtype) && owner_.owns(factor.data, factor.bytes()));
      std::vector<std::byte> copy(base.data, base.data + base.bytes());
      std::vector<std::byte> scratch(static_cast<std::size_t>(kernels::merge_scratch_bytes) + 64);
      kernels::WeightMatrix pristine = base;
      pristine.data = copy.data();
      kernels::merge_low_rank(pristine, terms, out, kernels::Scratch(scratch));
      ++count(&DeviceCounts::merges);
    }
    void upload(std::byte* to, std::span<const std::byte> from) override {
      act();
      expect(owner_.owns(to, std::ssize(from)));
      std::memcpy(to, from.data(), from.size());
      ++count(&DeviceCounts::uploads);
      count(&DeviceCounts::upload_bytes) += std::ssize(from);
    }
    void download(std::byte* to, const std::byte* from, std::int64_t bytes) override {
      act();
      expect(owner_.owns(from, bytes));
      std::memcpy(to, from, static_cast<std::size_t>(bytes));
      ++count(&DeviceCounts::downloads);
      count(&DeviceCounts::download_bytes) += bytes;
    }
    void copy(std::byte* to, const std::byte* from, std::int64_t bytes) override {
      act();
      expect(owner_.owns(to, bytes) || owner_.owns(from, bytes));
      std::memcpy(to, from, static_cast<std::size_t>(bytes));
    }
    void clear(std::byte* to, std::int64_t bytes) override {
      expect(owner_.owns(to, bytes));
      std::memset(to, 0, static_cast<std::size_t>(bytes));
    }
    void begin_recording() override {
      act();
      recorded_ = std::make_unique<Recording>();
    }
    [[nodiscard]] std::unique_ptr<DeviceRecording> end_recording() override {
      ++count(&DeviceCounts::recordings);
      return std::move(recorded_);
    }
    void drop_recording() noexcept override { recorded_.reset(); }
    void replay(const DeviceRecording& recording) override {
      for (const gpu::FrozenStep& step : static_cast<const Recording&>(recording).steps)
        step.call([this](StepFunction f, const StepContext& context, std::span<std::byte> scratch,
                         std::int32_t* fault) { run(f, context, scratch, fault); });
      ++count(&DeviceCounts::replays);
    }
    void come_after(DeviceLane&) override {}
    void wait() override { ++count(&DeviceCounts::waits); }
    [[nodiscard]] DeviceCounts counts() const noexcept override { return counts_; }

   private:
    /// Adds to the device's counts too.
    struct Both {
      std::int64_t& lane;
      std::int64_t& all;
      void operator++() { ++lane, ++all; }
      void operator+=(std::int64_t n) { lane += n, all += n; }
    };
    Both count(std::int64_t DeviceCounts::* which) { return {counts_.*which, owner_.counts_.*which}; }
    static void expect(bool holds) {
      if (!holds) throw std::logic_error("stand-in device: memory that is not the device's");
    }
    void act() {
      if (owner_.fail_after < 0 || owner_.fail_after-- > 0) return;
      throw error(ErrorCode::device_failed, "stand-in device: told to fail");
    }

    struct Recording : DeviceRecording {
      std::deque<gpu::FrozenStep> steps{};
    };

    StandInDevice& owner_;
    DeviceCounts counts_{};
    std::unique_ptr<Recording> recorded_{};
  };

  static void* allocate(std::size_t bytes, void* context) noexcept {
    auto& self = *static_cast<StandInDevice*>(context);
    if (self.refuse_after == 0) return nullptr;
    if (self.refuse_after > 0) --self.refuse_after;
    auto* const block =
        static_cast<std::byte*>(::operator new(bytes, std::align_val_t{device_alignment}, std::nothrow));
    if (block == nullptr) return nullptr;
    std::memset(block, 0xff, bytes); // NaNs
    try {
      self.blocks_[block] = static_cast<std::int64_t>(bytes);
    } catch (const std::bad_alloc&) {
      ::operator delete(block, std::align_val_t{device_alignment});
      return nullptr;
    }
    return block;
  }
  static void release(void* block, std::size_t, void* context) noexcept {
    static_cast<StandInDevice*>(context)->blocks_.erase(static_cast<std::byte*>(block));
    ::operator delete(block, std::align_val_t{device_alignment});
  }

  std::string name_;
  std::map<std::string, DeviceFunctions, std::less<>> functions_{};
  std::map<std::byte*, std::int64_t> blocks_{};
  DeviceCounts counts_{};
};

} // namespace tenon::test
