// SPDX-License-Identifier: Apache-2.0
// Tenon's half of the comparison with PyTorch and PEFT (theirs.py): a warm process that answers questions on stdin,
// "<question> <arguments>", each with a line "<question> <answer> <resident KiB>". The answer is a time in seconds
// where nothing else is said. compare.py asks both sides in turn.   bench_peers NET FOLDER
//   threads N              yes, or no: this many are not to be had
//   adapters N             loads adapters until there are so many; the first is attached as a side path
//   load [how]             load one more and attach it; without its release
//   switch                 from one of the loaded adapters to the next, side path
//   merge [fresh|kept]     of the first adapter, in memory new from the system, or kept from the last merge
//   unmerge                back to the side path: only the end of the merged guard is timed
//   switch_merged          from the first adapter merged to the second
//   forward ROWS           a pass with what is attached; product ROWS: x W^T of the first layer, no adapter
//   rounds yes|no          whether products with bfloat16 weights round their inputs to it, as torch's are
//   output WHAT ROWS FILE  writes what a pass gives (side, merged) as float32
//   changed                share of the base's elements that differ from the file, and by how much at most
//   peak WHAT              of base, load, pass, merge, unmerge, in this order, with an adapter of rank 128: KiB above
//                          what was resident before, at most, and what of it stays in anonymous memory
//   limit WHAT             read, copy: GB/s of memory; fma, pairs: GFLOP/s of multiply-adds of floats, of pairs of
//                          bfloat16, in registers; one thread
#include <tenon/tenon.hpp>

#include "limits.hpp"
#include "line_protocol.hpp"

#include <cstdio>
#include <exception>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace tn = tenon;
using namespace tenon::peers;

using Stack = tn::Sequential<tn::Linear<"fc1", 2048, 2048>, tn::Linear<"fc2", 2048, 2048>,
                             tn::Linear<"fc3", 2048, 2048>, tn::Linear<"fc4", 2048, 2048>>;
using Wide = tn::Sequential<tn::Linear<"fc1", 5120, 5120>, tn::Linear<"fc2", 5120, 5120>>;
/// The first layer of either, to time a product of its own.
template <std::int64_t Width>
using First = tn::Linear<"fc1", Width, Width, tn::NoBias>;

template <class Net, std::int64_t Width>
class Ours {
 public:
  explicit Ours(const std::string& folder)
      : folder_(folder), model_(tn::open<Net>(folder + "/model.safetensors")),
        first_model_(tn::open<First<Width>>(folder + "/model.safetensors")), session_(model_),
        first_(first_model_) {
    std::ifstream file(folder + "/input.f32", std::ios::binary);
    input_.resize(512 * Width);
    file.read(reinterpret_cast<char*>(input_.data()),
              static_cast<std::streamsize>(input_.size() * sizeof(float)));
    if (!file) throw std::runtime_error(folder + "/input.f32: expected 512 rows");
  }

  std::string answer(const std::string& question, std::istringstream& arguments) {
    std::string what;
    if (question == "output" || question == "peak" || question == "merge" || question == "limit" ||
        question == "rounds")
      arguments >> what;
    int count = 0;
    if (question == "threads" || question == "adapters" || question == "forward" || question == "product" ||
        question == "output")
      arguments >> count;
    if (question == "threads")
      return use_threads(session_, count) && use_threads(first_, count) ? "yes" : "no";
    if (question == "adapters") return load_until(count), "yes";
    if (question == "rounds") return round_inputs(what == "yes"), "yes";
    if (question == "load") return number(load());
    if (question == "switch") return number(switch_over());
    if (question == "merge") return number(merge(what != "kept"));
    if (question == "unmerge") return number(unmerge());
    if (question == "own") return own(), "yes";
    if (question == "merge_in_place") return number(merge_in_place());
    if (question == "unmerge_in_place") return number(seconds([&] { own_guard_.reset(); }));
    if (question == "switch_merged") return number(switch_merged());
    if (question == "forward") return number(mean_seconds([&] { session_.run(x(count)); }));
    if (question == "product") return number(mean_seconds([&] { first_.run(x(count)); }));
    if (question == "output") return output(what, count, arguments), "yes";
    if (question == "changed") return changed();
    if (question == "peak") return peak(what);
    if (question == "limit") return number(limit(what));
    throw std::runtime_error("no such question: " + question);
  }

 private:
  template <class T>
  static std::string number(T value) {
    std::ostringstream text;
    text.precision(9);
    text << value;
    return text.str();
  }
  [[nodiscard]] static std::int64_t resident() { return status_kilobytes("VmRSS"); }
  [[nodiscard]] tn::TensorView x(std::int64_t rows) const {
    return tn::view(std::span<const float>(input_).first(static_cast<std::size_t>(rows * Width)),
                    {rows, Width});
  }
  [[nodiscard]] tn::Adapter<Net> read(int i) const {
    char name[16];
    std::snprintf(name, sizeof name, "/adapter_%03d", i);
    return tn::load_adapter<Net>(folder_ + name, {.checks_values = false}); // as PEFT, which does not
  }
  void round_inputs(bool rounds) {
    const tn::kernels::ProductBackend* const products = rounds ? &tn::bf16_products : nullptr;
    session_.use_products(products);
    first_.use_products(products);
  }
  void attach_first() { guard_.emplace(session_.plan(adapters_.front())); }

  void load_until(int count) {
    while (std::ssize(adapters_) < count) adapters_.push_back(read(static_cast<int>(adapters_.size())));
    if (!guard_) attach_first();
  }
  double load() {
    double total = 0;
    for (int i = 0; i < 3; ++i) {
      std::optional<tn::Adapter<Net>> fresh;
      total += seconds([&] {
        fresh.emplace(read(1));
        guard_.emplace(session_.plan(*fresh));
      });
      attach_first();
    }
    return total / 3;
  }
  double switch_over() {
    const double each = mean_seconds([&] {
      at_ = (at_ + 1) % adapters_.size();
      guard_.emplace(session_.plan(adapters_[at_]));
    });
    attach_first();
    return each;
  }
  double merge(bool fresh) {
    if (fresh) session_.trim();
    session_.keep_overlays(fresh ? 0 : 4 * tn::GiB);
    guard_.reset();
    return seconds([&] { guard_.emplace(session_.template plan<tn::merged>(adapters_[0])); });
  }
  double unmerge() {
    const double taken = seconds([&] { guard_.reset(); });
    attach_first();
    return taken;
  }
  /// A base in memory of its own, to merge in place.
  void own() {
    own_guard_.reset();
    own_session_.reset();
    own_model_.reset();
    own_model_.emplace(tn::open<Net>(folder_ + "/model.safetensors", {.own_weights = true}));
    own_session_.emplace(*own_model_);
    static_cast<void>(use_threads(*own_session_, session_.threads()));
  }
  double merge_in_place() {
    return seconds([&] { own_guard_.emplace(own_session_->template plan<tn::in_place>(adapters_[0])); });
  }
  double switch_merged() {
    guard_.emplace(session_.template plan<tn::merged>(adapters_[0]));
    const double taken =
        seconds([&] { guard_->switch_to(session_.template plan<tn::merged>(adapters_[1])); });
    attach_first();
    return taken;
  }

  void output(const std::string& what, std::int64_t rows, std::istringstream& arguments) {
    std::string path;
    arguments >> path;
    guard_.reset();
    if (what == "side") attach_first();
    if (what == "merged") guard_.emplace(session_.template plan<tn::merged>(adapters_[0]));
    const tn::TensorView y = session_.run(x(rows));
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(y.data), y.bytes());
    attach_first();
  }

  /// What the session computes with once nothing is attached, against the file as it is read anew.
  std::string changed() {
    guard_.reset();
    const auto again = tn::open<Net>(folder_ + "/model.safetensors");
    bool same = true;
    for (std::int32_t i = 0; i < tn::slot_count<Net>; ++i) {
      const tn::TensorView now = session_.slot_weight(i);
      for (const tn::CheckpointTensor& tensor : again.checkpoint().tensors())
        if (tensor.name == "fc" + std::to_string(i + 1) + ".weight")
          same = same && std::memcmp(now.data, tensor.view.data, static_cast<std::size_t>(now.bytes())) == 0;
    }
    attach_first();
    return same ? "0 0" : "1 1";
  }

  std::string peak(const std::string& what) {
    const std::int64_t before = resident();
    const std::int64_t own = status_kilobytes("RssAnon");
    reset_peak();
    if (what == "load") {
      adapters_.push_back(tn::load_adapter<Net>(folder_ + "/adapter_rank_128", {.checks_values = false}));
      attach_first();
    } else if (what == "merge") {
      static_cast<void>(merge(true));
    } else if (what == "merge_in_place") {
      static_cast<void>(merge_in_place());
    } else if (what == "unmerge") {
      guard_.reset();
      adapters_.clear();
    } else {
      session_.run(x(64));
    }
    return number(status_kilobytes("VmHWM") - before) + " " + number(status_kilobytes("RssAnon") - own);
  }

  std::string folder_;
  tn::Model<Net> model_;
  tn::Model<First<Width>> first_model_;
  tn::Session<Net> session_;
  tn::Session<First<Width>> first_;
  std::vector<float> input_;
  std::vector<tn::Adapter<Net>> adapters_;
  std::optional<tn::Guard> guard_;
  std::optional<tn::Model<Net>> own_model_;
  std::optional<tn::Session<Net>> own_session_;
  std::optional<tn::Guard> own_guard_;
  std::size_t at_ = 0;
};

template <class Net, std::int64_t Width>
void serve_net(const std::string& folder) {
  Ours<Net, Width> ours(folder);
  serve(ours);
}

} // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: bench_peers stack|wide FOLDER\n");
    return 2;
  }
  try {
    if (std::string(argv[1]) == "stack")
      serve_net<Stack, 2048>(argv[2]);
    else
      serve_net<Wide, 5120>(argv[2]);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "bench_peers: %s\n", problem.what());
    return 1;
  }
}
