// SPDX-License-Identifier: Apache-2.0
// Session<Net>: one thread's use of a shared model: a workspace, and what is attached to it. The typed shell:
// it checks at compile time that inputs and adapters are the net's, and hands dynamic views to SessionState.
//   auto session = tn::Session{model};
//   auto guard = session.attach(tone, 0.8f);           // side path: exact, no weight memory
//   auto both = session.attach<tn::merged>(tone, other.scaled(-0.5f));
#pragma once

#include <tenon/adapters/adapter.hpp>
#include <tenon/session/adapters_on_device.hpp>
#include <tenon/session/check_dims.hpp>
#include <tenon/session/choose_mode.hpp>
#include <tenon/session/guard.hpp>
#include <tenon/session/input_reader.hpp>
#include <tenon/session/kv_cache.hpp>
#include <tenon/weights/tensor.hpp>

#include <array>
#include <type_traits>

namespace tenon {

template <class Net, class Argument>
struct AdapterIsOfNet : std::false_type {};
template <class Net, class Kind>
struct AdapterIsOfNet<Net, Adapter<Net, Kind>> : std::true_type {};

template <class Net, class Argument, bool OfThisNet>
struct AttachMandates {
  static_assert(OfThisNet,
                "tenon::Session::attach: this is not an adapter of the session's net; load it with "
                "load_adapter for the same net");
};
template <class Net, std::size_t Given, std::size_t Taken>
struct InputMandates {
  static_assert(Given == Taken, "tenon::Session: the number of inputs must be the net's");
};

/// Immovable: guards point at it. It must outlive its guards; one that ends before them stops the program
/// with a sentence, since a destructor cannot throw.
template <class Net, Config C = Config{}>
class Session {
 public:
  using net = Net;

  /// Reserves a workspace for `dims` (a first, larger forward pass grows it, through the ledger's budget).
  /// Throws `budget_error`, `error{out_of_memory}`, and `error{io}` if the checkpoint changed since it was
  /// opened. Without `dims` it reserves the least that the net computes with.
  explicit Session(const Model<Net, C>& model) : Session(model, least_dims(program_of<Net>())) {}
  Session(const Model<Net, C>& model, const Dims& dims) : state_(program_of<Net>(), model.data(), dims) {}

  /// Makes room for forward passes of these dimensions, so that they allocate nothing. Strong guarantee.
  void reserve(const Dims& dims) { state_.reserve(dims); }

  /// From now on this many threads share the work of forward passes and attaches; 1 at first. Results are the
  /// same bits with any number. Each has scratch of its own. Strong guarantee; throws `error{bad_argument}`,
  /// `error{out_of_memory}`, `budget_error`.
  void use_threads(int threads) { state_.workspace().use_threads(threads); }
  [[nodiscard]] int threads() const noexcept { return state_.workspace().threads(); }

  /// From now on another library computes the products with base weights, where it takes them (see
  /// <tenon/interop/onednn.hpp>), or inputs are rounded to bfloat16 for them (`&tn::bf16_products`); null is Tenon's own
  /// kernels. On the host; `products` must outlive the session.
  void use_products(const kernels::ProductBackend* products) noexcept { state_.use_products(products); }

  // --- forward -----------------------------------------------------------------------------------
  /// The net's outputs as tensors of the caller's own: one Tensor, or an array where the net has several
  /// outputs. Throws `shape_error` for inputs that do not fit, `budget_error` if larger dimensions do not fit
  /// the budget.
  template <class... Inputs>
  [[nodiscard]] auto operator()(const Inputs&... inputs) {
    run(inputs...);
    if constexpr (output_count == 1) {
      return owned(0);
    } else {
      return [this]<std::size_t... I>(std::index_sequence<I...>) {
        return std::array<Tensor, output_count>{owned(I)...};
      }(std::make_index_sequence<output_count>{});
    }
  }

  /// The same without a copy: the first output as a view of the workspace, valid until the next forward pass
  /// or `reserve`. Allocates nothing within the reserved dimensions.
  template <class... Inputs>
  TensorView run(const Inputs&... inputs) {
    (void)sizeof(InputMandates<Net, sizeof...(Inputs), Net::inputs>);
    // what a reader had to copy lives until the end of the statement
    state_.run(std::array<TensorView, sizeof...(Inputs)>{TensorView(InputReader<Inputs>::read(inputs))...});
    return state_.output(0);
  }
  /// The same after the tokens in `cache`, to which those of these inputs are added. Throws `error{wrong_state}` if the
  /// cache was filled before an adapter was attached or released, `shape_error` if it is full.
  template <class... Inputs>
  TensorView run(KvCache<Net>& cache, const Inputs&... inputs) {
    (void)sizeof(InputMandates<Net, sizeof...(Inputs), Net::inputs>);
    state_.run(std::array<TensorView, sizeof...(Inputs)>{TensorView(InputReader<Inputs>::read(inputs))...},
               cache.table_);
    return state_.output(0);
  }
  /// Output `i` of the last `run`. Precondition: there was one, `i < output_count`.
  [[nodiscard]] TensorView output(std::size_t i) noexcept { return state_.output(i); }
  static constexpr std::size_t output_count = tenon::output_count<Net>();

  // --- adapters ----------------------------------------------------------------------------------
  /// Attaches adapters of this net until the guard ends, by `Mode` (`side_path`, `merged`, `in_place` or
  /// `automatic`). After the adapters, in any order: a number, a scale for all of them (scales may be
  /// negative or fractional); `on_progress(f)`, to watch and to cancel; `measure_loss`; for `automatic`, an
  /// `Expect`. Throws as `Guard` does; strong guarantee.
  template <class Mode = side_path, class... Arguments>
  [[nodiscard]] Guard attach(const Arguments&... arguments) {
    ProgressRef progress;
    (find_progress(arguments, progress), ...);
    return Guard(plan<Mode>(arguments...), progress);
  }

  /// What `attach` with these arguments would do, hold and cost; changes nothing.
  template <class Mode = side_path, class... Arguments>
  [[nodiscard]] AttachPlan plan(const Arguments&... arguments) {
    AttachPlan plan{.session = &state_};
    Expect expect;
    double scale = 1;
    (take(arguments, plan, scale, expect), ...);
    for (double& weight : plan.weights) weight *= scale;
    if constexpr (!std::is_same_v<Mode, automatic>) plan.mode = Mode::mode;
    count_plan(plan);
    if constexpr (std::is_same_v<Mode, automatic>) return choose_mode(std::move(plan), expect);
    return plan;
  }

  // --- adapters on a device: all throw `error{wrong_state}` for a model of the host ---------------------------------
  /// Copies what a device reads of the adapter (LoRA's factors, biases), and nothing else, to the device, where it stays
  /// until `evict`; without it a guard copies it and gives it back. Throws `budget_error`, `error{out_of_memory}`, `error{device_failed}`.
  template <class Kind>
  void load(const Adapter<Net, Kind>& adapter) const {
    load_on_device(state_.model(), adapter.data());
  }
  /// The same without waiting for the device: the copy goes on beside what computes, and the first attach comes after it.
  template <class Kind>
  void prefetch(const Adapter<Net, Kind>& adapter) const {
    prefetch_on_device(state_.model(), adapter.data());
  }
  /// Gives its memory back. Throws `error{wrong_state}` while the device computes with it for a guard.
  template <class Kind>
  void evict(const Adapter<Net, Kind>& adapter) const {
    evict_from_device(state_.model(), adapter.data());
  }
  template <class Kind>
  [[nodiscard]] bool is_resident(const Adapter<Net, Kind>& adapter) const {
    return is_resident_on_device(state_.model(), *adapter.data());
  }
  /// From now on a pass that is like the one before it in dimensions and in what is attached is recorded (on CUDA as a
  /// graph), and then replayed: the host goes through the steps no more. Another input, or `Guard::rescale` of LoRA beside the weights, needs no new
  /// recording. Passes with a KvCache are not recorded: each has more tokens behind it. Off by default.
  void record_passes(bool records = true) {
    static_cast<void>(residency_of(state_.model()));
    state_.record_passes(records);
  }
  /// What was copied and done for this session, and, of `adapter_copies`, for adapters of its model.
  [[nodiscard]] DeviceCounts device_counts() const {
    static_cast<void>(residency_of(state_.model()));
    return state_.lane_counts();
  }
  [[nodiscard]] DeviceCounts adapter_copies() const { return tenon::adapter_copies(state_.model()); }

  /// Keeps up to `bytes` of the overlays that end for the next merged attach, whose pages are then there
  /// already. They stay in the ledger; by default nothing is kept.
  void keep_overlays(std::int64_t bytes) noexcept { state_.overlays().keep_at_most(bytes); }
  [[nodiscard]] std::int64_t kept_overlay_bytes() const noexcept { return state_.overlays().kept_bytes(); }
  /// While an overlay stands in for a mapped weight, lets the process do without that weight's pages: a
  /// merged net is then as resident as the base alone. Other sessions over the model read them from the file
  /// again. Off by default.
  void drop_covered_pages(bool drops = true) noexcept { state_.drop_covered_pages(drops); }
  /// Gives kept overlays back to the system.
  void trim() noexcept { state_.overlays().trim(); }

  // --- what is held ------------------------------------------------------------------------------
  [[nodiscard]] Ledger& ledger() const noexcept { return state_.ledger(); }
  /// Of the device's memory; `ledger()` for a model of the host.
  [[nodiscard]] Ledger& device_ledger() const noexcept { return *state_.model().memory; }
  [[nodiscard]] std::int64_t activation_bytes() const noexcept {
    return state_.workspace().activation_bytes();
  }
  [[nodiscard]] std::int64_t scratch_bytes() const noexcept { return state_.workspace().scratch_bytes(); }
  /// Changes with every attach and release: what a caller derives from weights (a cache of keys and values,
  /// of text embeddings) is stale once this differs.
  [[nodiscard]] std::uint64_t adapter_generation() const noexcept { return state_.adapter_generation(); }
  /// The weight that slot `i` computes with now: a view of the base, or of an overlay, which may be a device's memory;
  /// [out, in * kernel] for a convolution's.
  [[nodiscard]] const TensorView& slot_weight(std::int32_t i) const noexcept {
    return state_.slots().active(i).weight;
  }

 private:
  friend class KvCache<Net>;

  template <class Argument>
  static void find_progress(const Argument&, ProgressRef&) noexcept {}
  template <class F>
  static void find_progress(const OnProgress<F>& callback, ProgressRef& progress) noexcept {
    progress = callback;
  }

  /// One argument of `attach`.
  template <class Argument>
  static void take(const Argument& argument, AttachPlan& plan, double& scale, Expect& expect) {
    if constexpr (std::is_arithmetic_v<Argument>) {
      scale = static_cast<double>(argument);
    } else if constexpr (std::is_same_v<Argument, Expect>) {
      expect = argument;
    } else if constexpr (std::is_same_v<Argument, MeasureLoss>) {
      plan.measures_loss = true;
    } else if constexpr (!IsProgress<Argument>::value) {
      (void)sizeof(AttachMandates<Net, Argument, AdapterIsOfNet<Net, Argument>::value>);
      if constexpr (AdapterIsOfNet<Net, Argument>::value) {
        plan.adapters.push_back(argument.data());
        plan.weights.push_back(argument.weight());
        plan.slot_weights.push_back(argument.slot_weights());
      }
    }
  }

  [[nodiscard]] Tensor owned(std::size_t i) {
    const TensorView view = state_.output(i);
    const auto* values = reinterpret_cast<const float*>(view.data);
    return Tensor(std::vector<std::int64_t>(view.shape().begin(), view.shape().end()),
                  std::vector<float>(values, values + view.size()));
  }

  SessionState state_;
};

template <class Net, Config C>
Session(const Model<Net, C>&) -> Session<Net, C>;
template <class Net, Config C>
Session(const Model<Net, C>&, Dims) -> Session<Net, C>;

} // namespace tenon
