// SPDX-License-Identifier: Apache-2.0
// The device behind <tenon/gpu.hpp>: CUDA's first GPU, or, where this is compiled for the processor, a stand-in with the
// same code whose memory is the host's.
#pragma once

#include <tenon/gpu/device_run.hpp>
#include <tenon/gpu/merge.hpp>
#include <tenon/gpu/recording.hpp>
#include <tenon/gpu/staging.hpp>
#include <tenon/gpu/step_table.hpp>
#include <tenon/session/device.hpp>

#include <thrust/system_error.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#if TENON_ON_CUDA
#include <tenon/gpu/cublaslt.hpp>
#else
#include <tenon/gpu/host_products.hpp>
#endif

namespace tenon::gpu {

#if TENON_ON_CUDA
using SystemProducts = CublasLtProducts;
#else
using SystemProducts = HostProducts;
#endif

class ThrustLane final : public DeviceLane {
 public:
  ThrustLane(Ledger& host_ledger, const DeviceOptions& options) : staging_(host_ledger), options_(options) {}
  ~ThrustLane() override {
    try {
      queue_.wait(); // its memory may be given back now
    } catch (...) {  // a device that failed holds nothing up
    }
  }

  void run(StepFunction function, StepContext context, std::span<std::byte> scratch,
           std::int32_t* fault) override {
    ++counts_.steps;
#if !TENON_ON_CUDA
    if (recorded_ != nullptr) return recorded_->add(function, context, scratch, fault);
#endif
    launch(function, context, scratch, fault);
  }
  void merge(const kernels::WeightMatrix& base, std::span<const kernels::LowRankTerm> terms, std::byte* out,
             std::span<std::byte> room) override {
    in_words([&] { gpu::merge(queue_, base, terms, {.data = out, .stride = base.stride}, room); });
    ++counts_.merges;
  }
  void upload(std::byte* to, std::span<const std::byte> from) override {
    staging_.upload(queue_, to, from);
    ++counts_.uploads;
    counts_.upload_bytes += std::ssize(from);
  }
  void download(std::byte* to, const std::byte* from, std::int64_t bytes) override {
    queue_.copy(to, from, bytes);
    ++counts_.downloads;
    counts_.download_bytes += bytes;
  }
  void copy(std::byte* to, const std::byte* from, std::int64_t bytes) override {
    queue_.copy(to, from, bytes);
  }
  void clear(std::byte* to, std::int64_t bytes) override { queue_.clear(to, bytes); }
#if TENON_ON_CUDA
  void begin_recording() override {
    check_cuda(cudaStreamBeginCapture(queue_.stream(), cudaStreamCaptureModeThreadLocal), "record a pass");
  }
  [[nodiscard]] std::unique_ptr<DeviceRecording> end_recording() override {
    cudaGraph_t graph = nullptr;
    check_cuda(cudaStreamEndCapture(queue_.stream(), &graph), "record a pass");
    ++counts_.recordings;
    return std::make_unique<GraphRecording>(graph);
  }
  void drop_recording() noexcept override {
    cudaGraph_t graph = nullptr;
    static_cast<void>(cudaStreamEndCapture(queue_.stream(), &graph));
    if (graph != nullptr) static_cast<void>(cudaGraphDestroy(graph));
    static_cast<void>(cudaGetLastError());
  }
  void replay(const DeviceRecording& recording) override {
    static_cast<const GraphRecording&>(recording).launch(queue_); // which a lane of this class made
    ++counts_.replays;
  }
#else
  void begin_recording() override { recorded_ = std::make_unique<StepsRecording>(); }
  [[nodiscard]] std::unique_ptr<DeviceRecording> end_recording() override {
    ++counts_.recordings;
    return std::move(recorded_);
  }
  void drop_recording() noexcept override { recorded_.reset(); }
  void replay(const DeviceRecording& recording) override {
    static_cast<const StepsRecording&>(recording).replay(
        [this](StepFunction function, const StepContext& context, std::span<std::byte> scratch,
               std::int32_t* fault) { launch(function, context, scratch, fault); });
    ++counts_.replays;
  }
#endif
  void come_after(DeviceLane& other) override {
    auto& first = static_cast<ThrustLane&>(other); // of the same device, hence of this class
    first.mark_.set(first.queue_);
    first.mark_.go_before(queue_);
  }
  void wait() override { queue_.wait(); }
  [[nodiscard]] DeviceCounts counts() const noexcept override {
    DeviceCounts counts = counts_;
    counts.waits = queue_.waits() + staging_.waits();
    return counts;
  }

 private:
  void launch(StepFunction function, StepContext context, std::span<std::byte> scratch, std::int32_t* fault) {
    if (!products_) products_.emplace(options_);
    DeviceRun here{queue_, *products_, scratch, fault};
    context.device = &here;
    in_words([&] { function(context); });
  }
  /// What Thrust throws as an error of ours.
  template <class F>
  static void in_words(const F& f) {
    try {
      f();
    } catch (const thrust::system_error& failure) {
      throw error(ErrorCode::device_failed, concat("on the device: ", failure.what()));
    }
  }

  Queue queue_{};
  Mark mark_{};
  Staging staging_;
  DeviceOptions options_;
  std::optional<SystemProducts> products_{}; ///< from the first step on: a lane for copies needs none
  DeviceCounts counts_{};
#if !TENON_ON_CUDA
  std::unique_ptr<StepsRecording> recorded_{}; ///< while a pass is recorded
#endif
};

class ThrustDevice final : public Device {
 public:
  /// Throws `error{device_failed}` where there is none, or its driver is older than what this was compiled with.
  explicit ThrustDevice(const DeviceOptions& options = {}) : options_(options), name_(found_name()) {}

  [[nodiscard]] std::string_view name() const noexcept override { return name_; }
  [[nodiscard]] MemorySource memory() noexcept override { return device_memory_source(this); }
  [[nodiscard]] MemorySource pinned_memory() noexcept override { return pinned_memory_source(); }
  [[nodiscard]] DeviceFunctions functions(std::string_view op) const noexcept override {
    const DeviceStep* const step = find_device_step(op);
    return step == nullptr ? DeviceFunctions{} : DeviceFunctions{step->run, step->scratch};
  }
  [[nodiscard]] std::int64_t merge_room_bytes(std::int64_t terms) const noexcept override {
    return gpu::merge_room_bytes(terms);
  }
#if TENON_ON_CUDA
  [[nodiscard]] std::int64_t free_bytes() const override {
    std::size_t free = 0;
    std::size_t all = 0;
    check_cuda(cudaMemGetInfo(&free, &all), "ask for free memory");
    return static_cast<std::int64_t>(free);
  }
#endif
  [[nodiscard]] std::unique_ptr<DeviceLane> make_lane(Ledger& ledger) override {
    return std::make_unique<ThrustLane>(ledger, options_);
  }

 private:
#if TENON_ON_CUDA
  [[nodiscard]] static std::string found_name();
#else
  [[nodiscard]] static std::string found_name() {
    return concat("device memory of this machine (Thrust's ", system_name, " system)");
  }
#endif

  DeviceOptions options_;
  std::string name_;
};

#if TENON_ON_CUDA
/// Does nothing: whether it could run tells whether this program has code for the device.
template <int>
__global__ void probe_kernel() {}

inline std::string ThrustDevice::found_name() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) {
    int driver = 0;
    int runtime = 0;
    static_cast<void>(cudaDriverGetVersion(&driver));
    static_cast<void>(cudaRuntimeGetVersion(&runtime));
    static_cast<void>(cudaGetLastError());
    throw error(
        ErrorCode::device_failed,
        driver == 0
            ? std::string(
                  "open a device: there is no NVIDIA driver on this machine; install one, or open the "
                  "model on the host")
            : concat("open a device: the driver knows CUDA ", driver / 1000, ".", driver % 1000 / 10,
                     ", and this program was compiled with ", runtime / 1000, ".", runtime % 1000 / 10,
                     "; install a newer driver, or compile with an older toolkit"));
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) {
    static_cast<void>(cudaGetLastError());
    throw error(
        ErrorCode::device_failed,
        "open a device: this machine has no GPU that CUDA can use (see CUDA_VISIBLE_DEVICES); open the model "
        "on the host");
  }
  check_cuda(status, "open a device");
  int at = 0;
  cudaDeviceProp facts{};
  check_cuda(cudaGetDevice(&at), "open a device");
  check_cuda(cudaGetDeviceProperties(&facts, at), "open a device");
  cudaFuncAttributes attributes{};
  if (cudaFuncGetAttributes(&attributes, &probe_kernel<0>) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    throw error(ErrorCode::device_failed,
                concat("open a device: ", facts.name, " has compute capability ", facts.major, ".",
                       facts.minor,
                       ", and this program holds no code for it; set CMAKE_CUDA_ARCHITECTURES to ",
                       facts.major, facts.minor));
  }
  return concat("CUDA device ", at, " (", facts.name, ")");
}
#endif

} // namespace tenon::gpu
