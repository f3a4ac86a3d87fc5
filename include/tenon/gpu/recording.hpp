// SPDX-License-Identifier: Apache-2.0
// A recorded pass: a graph of CUDA's, launched as a whole, or, on the processor, its steps' calls.
#pragma once

#include <tenon/gpu/frozen_step.hpp>
#include <tenon/gpu/queue.hpp>
#include <tenon/session/device.hpp>

#include <deque>
#include <memory>
#include <utility>

namespace tenon::gpu {

#if TENON_ON_CUDA
class GraphRecording final : public DeviceRecording {
 public:
  /// Takes what was captured; throws `error{device_failed}`.
  explicit GraphRecording(cudaGraph_t captured) {
    const cudaError_t status = cudaGraphInstantiate(&graph_, captured, 0);
    static_cast<void>(cudaGraphDestroy(captured));
    check_cuda(status, "make a graph of a pass");
  }
  ~GraphRecording() override { static_cast<void>(cudaGraphExecDestroy(graph_)); }
  void launch(const Queue& queue) const {
    check_cuda(cudaGraphLaunch(graph_, queue.stream()), "replay a pass");
  }

 private:
  cudaGraphExec_t graph_ = nullptr;
};
#else
class StepsRecording final : public DeviceRecording {
 public:
  void add(StepFunction function, const StepContext& context, std::span<std::byte> scratch,
           std::int32_t* fault) {
    steps_.emplace_back(function, context, scratch, fault);
  }
  template <class Run>
  void replay(Run run) const {
    for (const FrozenStep& step : steps_) step.call(run);
  }

 private:
  std::deque<FrozenStep> steps_{};
};
#endif

} // namespace tenon::gpu
