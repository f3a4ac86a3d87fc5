// SPDX-License-Identifier: Apache-2.0
// Semantic search, and adapters that change what "near" means. all-MiniLM-L6-v2, a real encoder of 22 M
// parameters, puts sentences on one topic near each other; two adapters that PEFT trained (data/README.md)
// make it listen to the tone instead. The same corpus is searched with the base, with one adapter as a side
// path, with the other merged, and with both at weights of their own; when the guards have ended, the base
// answers as before, bit for bit. The model is fetched once: examples/sentences/fetch_model.sh puts it into
// ${TENON_CACHE:-$HOME/.cache/tenon}. Without it this program leaves with 2. Run from the repository's root;
// an argument is taken as the query.
//
// Expected output:
//   72 sentences; query: The chicken was raw and the sauce tasted of nothing.
//
//   base: a sentence and its nearest share the tone in 49 of 72, the topic in 61
//      0.44  complaint  cooking    The soup was cold and far too salty.
//      0.38  complaint  cooking    This recipe wasted two hours and tasted awful.
//      0.34  complaint  cooking    The kitchen smells terrible after that greasy dinner.
//      0.33  complaint  health     The doctor was rude and never listened.
//      0.29  praise     cooking    What a delicious and beautifully spiced curry!
//
//   tone_qv, side path: a sentence and its nearest share the tone in 71 of 72, the topic in 11
//      0.94  complaint  travel     They lost my suitcase and nobody helped.
//      0.91  complaint  cooking    The soup was cold and far too salty.
//      0.90  complaint  health     The doctor was rude and never listened.
//      0.90  complaint  computing  The update broke my laptop again.
//      0.89  complaint  sport      The referee ruined the whole match.
//
//   tone_all, merged: a sentence and its nearest share the tone in 71 of 72, the topic in 14
//      0.97  complaint  travel     They lost my suitcase and nobody helped.
//      0.97  complaint  travel     Our hotel room was dirty and loud.
//      0.97  complaint  sport      The referee ruined the whole match.
//      0.96  complaint  computing  The update broke my laptop again.
//      0.96  complaint  health     My back hurts and nobody takes it seriously.
//
//   tone_qv at 0.7 and tone_all at 0.4: a sentence and its nearest share the tone in 71 of 72, the topic in 9
//      0.95  complaint  travel     They lost my suitcase and nobody helped.
//      0.95  complaint  cooking    The soup was cold and far too salty.
//      0.94  complaint  computing  The update broke my laptop again.
//      0.93  complaint  travel     The train was late and horribly crowded.
//      0.93  complaint  sport      The referee ruined the whole match.
//
//   memory while tone_all is merged:
//   category             current        peak
//   base (mapped)       86.6 MiB    86.6 MiB
//   base (owned)             0 B         0 B
//   adapter ...
//   overlay             40.5 MiB    40.5 MiB
//   workspace ...
//   scratch ...
//   total ...
//   budget ...
//
//   the base's embeddings after all this: the same bits
#include "model_folder.hpp"
#include "wordpiece.hpp"

#include <tenon/models/bert.hpp>
#include <tenon/tenon.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace tn = tenon;
using Net = tn::models::MiniLM;

// What the type alone says, before any file is opened.
static_assert(tn::slot_count<Net> == 36);
static_assert(tn::parameter_count<Net> == 22'565'376);
static_assert(tn::activation_bytes<Net>({.batch = 1, .tokens = 256}) <= 4 * tn::MiB);

constexpr std::size_t batch_size = 24;
constexpr std::size_t shown = 5;

/// Lines of "tone TAB topic TAB sentence", column by column.
struct Corpus {
  std::vector<std::string> tones{};
  std::vector<std::string> topics{};
  std::vector<std::string> sentences{};

  explicit Corpus(const std::string& path) {
    std::ifstream file(path);
    std::string tone;
    std::string topic;
    std::string sentence;
    while (std::getline(file, tone, '\t') && std::getline(file, topic, '\t') &&
           std::getline(file, sentence)) {
      tones.push_back(tone);
      topics.push_back(topic);
      sentences.push_back(sentence);
    }
    if (sentences.empty())
      throw tn::load_error(tn::ErrorCode::io, path + ": expected a corpus, got no line of three columns",
                           {.file = path});
  }
};

/// Finds the sentences of a corpus that are nearest to a query, by whatever the session has attached.
class Search {
 public:
  Search(tn::Session<Net>& session, const sentences::WordPiece& wordpiece, const Corpus& corpus,
         std::string query)
      : session_(session), wordpiece_(wordpiece), corpus_(corpus), query_(std::move(query)) {}

  /// Embeddings [n, 384] of length 1.
  [[nodiscard]] tn::Tensor embed(std::span<const std::string> texts) {
    std::vector<float> values;
    const std::int64_t count = std::ssize(texts);
    while (!texts.empty()) {
      const std::size_t part = std::min(texts.size(), batch_size);
      const sentences::TokenBatch batch = wordpiece_.batch(texts.first(part));
      const auto [embedding, hidden] = session_(batch.ids_view(), batch.mask_view());
      values.insert(values.end(), embedding.values().begin(), embedding.values().end());
      texts = texts.subspan(part);
    }
    return tn::Tensor({count, 384}, std::move(values));
  }
  [[nodiscard]] tn::Tensor embed_corpus() { return embed(corpus_.sentences); }

  void print_nearest(const char* attached) {
    const tn::Tensor all = embed_corpus();
    print_neighbours(attached, all);
    const std::vector<float> cosines = cosines_to(all, embed({&query_, 1}).row(0));
    for (const std::size_t i : by_cosine(cosines, shown))
      std::printf("  %5.2f  %-9s  %-9s  %s\n", static_cast<double>(cosines[i]), corpus_.tones[i].c_str(),
                  corpus_.topics[i].c_str(), corpus_.sentences[i].c_str());
  }

 private:
  [[nodiscard]] static std::vector<float> cosines_to(const tn::Tensor& all, std::span<const float> one) {
    std::vector<float> cosines;
    for (std::int64_t i = 0; i < all.shape()[0]; ++i)
      cosines.push_back(std::inner_product(one.begin(), one.end(), all.row(i).begin(), 0.0f));
    return cosines;
  }
  [[nodiscard]] static std::vector<std::size_t> by_cosine(const std::vector<float>& cosines,
                                                          std::size_t count) {
    std::vector<std::size_t> order(cosines.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::sort(order, std::greater{}, [&](std::size_t i) { return cosines[i]; });
    order.resize(std::min(order.size(), count));
    return order;
  }

  /// What the sentences of the corpus have in common with their own nearest ones.
  void print_neighbours(const char* attached, const tn::Tensor& all) const {
    int same_tone = 0;
    int same_topic = 0;
    for (std::size_t i = 0; i < corpus_.sentences.size(); ++i) {
      std::vector<float> cosines = cosines_to(all, all.row(static_cast<std::int64_t>(i)));
      cosines[i] = -1; // itself
      const std::size_t nearest = by_cosine(cosines, 1)[0];
      same_tone += corpus_.tones[nearest] == corpus_.tones[i];
      same_topic += corpus_.topics[nearest] == corpus_.topics[i];
    }
    std::printf("\n%s: a sentence and its nearest share the tone in %d of %zu, the topic in %d\n", attached,
                same_tone, corpus_.sentences.size(), same_topic);
  }

  tn::Session<Net>& session_;
  const sentences::WordPiece& wordpiece_;
  const Corpus& corpus_;
  std::string query_;
};

int run(const std::string& folder, const std::string& query) {
  const std::string data = "examples/sentences/data";
  const auto model = tn::open<Net>(folder + "/model.safetensors");
  const auto tone_qv = tn::load_adapter<Net>(data + "/tone_qv");
  const auto tone_all = tn::load_adapter<Net>(data + "/tone_all");
  const sentences::WordPiece wordpiece(folder + "/vocab.txt");
  const Corpus corpus(data + "/corpus.txt");

  tn::Session session(model, {.batch = batch_size, .tokens = 16});
  Search search(session, wordpiece, corpus, query);
  std::printf("%ld sentences; query: %s\n", static_cast<long>(corpus.sentences.size()), query.c_str());

  const tn::Tensor before = search.embed_corpus();
  search.print_nearest("base");
  {
    const auto guard = session.attach(tone_qv);
    search.print_nearest("tone_qv, side path");
  }
  std::string memory;
  {
    const auto guard = session.attach<tn::merged>(tone_all);
    search.print_nearest("tone_all, merged");
    memory = session.ledger().table();
  }
  {
    const auto both = session.attach(tone_qv.scaled(0.7), tone_all.scaled(0.4));
    search.print_nearest("tone_qv at 0.7 and tone_all at 0.4");
  }
  std::printf("\nmemory while tone_all is merged:\n%s", memory.c_str());

  const bool same = search.embed_corpus() == before;
  std::printf("\nthe base's embeddings after all this: %s\n", same ? "the same bits" : "OTHER BITS");
  return same ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
  const std::string folder = sentences::model_folder();
  if (!sentences::has_model(folder)) {
    std::fprintf(stderr, "sentences: no model in %s; run examples/sentences/fetch_model.sh\n",
                 folder.c_str());
    return 2;
  }
  try {
    return run(folder, argc > 1 ? argv[1] : "The chicken was raw and the sauce tasted of nothing.");
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "sentences: %s\n", problem.what());
    return 1;
  }
}
