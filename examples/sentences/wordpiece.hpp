// SPDX-License-Identifier: Apache-2.0
// BERT's uncased tokenizer (Devlin et al. 2018; WordPiece: Wu et al. 2016, arXiv 1609.08144), with the ids
// that transformers' BertTokenizer gives: text is cleaned, folded (no case, no accents), split at spaces,
// punctuation and CJK ideographs; then each word is cut into the longest pieces of the vocabulary.
// Compared over all of Unicode with tokenizers 0.23, 759 characters differ, none of them in BERT's
// vocabulary: they are younger than its tables (Unicode 8, ours are 14), have changed their class since, or
// are the first 256 of CJK extension E, which it does not split. Not done: canonical order of the marks that
// stay (it shows only with two in a row that are not Mn). Bytes that are not UTF-8 are dropped.
// Cost: one pass over the text, a look-up per piece tried. Threads: const members may be called from any.
#pragma once

#include "unicode_table.hpp"

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/core/utf8.hpp>
#include <tenon/weights/tensor.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <fstream>
#include <functional>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace sentences {

// --- characters --------------------------------------------------------------------------------

/// Takes the first character off `text`; U+FFFD, which is dropped later, for a byte that begins none.
/// Precondition: `text` is not empty.
[[nodiscard]] constexpr char32_t take_character(std::string_view& text) noexcept {
  const std::size_t length = tenon::utf8_length(text);
  const auto first = static_cast<unsigned char>(text[0]);
  char32_t code = length == 0 ? 0xFFFD : length == 1 ? first : first & (0xFFU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) code = code << 6U | (static_cast<unsigned char>(text[i]) & 0x3FU);
  text.remove_prefix(std::max<std::size_t>(length, 1));
  return code;
}

/// The last entry of a sorted table that does not begin after `code`, or nullptr.
template <class Entry, std::size_t N, class First>
[[nodiscard]] constexpr const Entry* entry_before(const Entry (&table)[N], char32_t code,
                                                  First first) noexcept {
  const Entry* const after = std::ranges::upper_bound(table, code, {}, first);
  return after == std::begin(table) ? nullptr : after - 1;
}

template <std::size_t N>
[[nodiscard]] constexpr bool in_ranges(const CharacterRange (&ranges)[N], char32_t code) noexcept {
  const CharacterRange* const range = entry_before(ranges, code, &CharacterRange::first);
  return range != nullptr && code <= range->last;
}

[[nodiscard]] constexpr bool is_space(char32_t c) noexcept {
  constexpr CharacterRange spaces[] = {{0x09, 0x0A},     {0x0D, 0x0D},     {0x20, 0x20},     {0xA0, 0xA0},
                                       {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                       {0x205F, 0x205F}, {0x3000, 0x3000}};
  return in_ranges(spaces, c);
}

/// Ideographs, each a word of its own; not kana or Hangul, which write words.
[[nodiscard]] constexpr bool is_cjk(char32_t c) noexcept {
  constexpr CharacterRange blocks[] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},
                                       {0x20000, 0x2A6DF}, {0x2A700, 0x2B81F}, {0x2B820, 0x2CEAF},
                                       {0x2F800, 0x2FA1F}};
  return in_ranges(blocks, c);
}

/// What a character is folded to, without its nonspacing marks; zeros after the end. Hangul syllables become
/// their two or three letters (the Unicode Standard, 3.12).
[[nodiscard]] constexpr std::array<char32_t, 3> folded(char32_t c) noexcept {
  if (c >= 0xAC00 && c < 0xD7A4) {
    const char32_t syllable = c - 0xAC00;
    const char32_t tail = syllable % 28;
    return {0x1100 + syllable / 588, 0x1161 + syllable % 588 / 28, tail == 0 ? 0 : 0x11A7 + tail};
  }
  const FoldRun* const run = entry_before(fold_runs, c, &FoldRun::first);
  if (run != nullptr && c <= run->last && (c - run->first) % run->step == 0)
    return {run->to + (c - run->first)};
  const Fold* const fold = entry_before(folds, c, &Fold::from);
  if (fold != nullptr && fold->from == c) return {fold->to};
  const LongFold* const many = entry_before(long_folds, c, &LongFold::from);
  if (many != nullptr && many->from == c) return {many->first, many->second, many->third};
  return {c};
}

// --- words -------------------------------------------------------------------------------------

/// A word as WordPiece takes it, folded, and its length in characters.
struct Word {
  std::string text{};
  std::size_t characters = 0;
};

/// Cleans, folds and splits a text.
[[nodiscard]] inline std::vector<Word> words_of(std::string_view text) {
  std::vector<Word> words;
  bool open = false; // the last word may grow
  const auto append = [&](char32_t c, bool alone) {
    if (!open || alone) words.emplace_back();
    tenon::append_utf8(words.back().text, c);
    ++words.back().characters;
    open = !alone;
  };
  while (!text.empty()) {
    const char32_t c = take_character(text);
    if (in_ranges(dropped_characters, c)) continue;
    if (is_space(c)) {
      open = false;
      continue;
    }
    const bool alone = is_cjk(c);
    for (const char32_t part : folded(c))
      if (part != 0) append(part, alone || in_ranges(punctuation, part));
  }
  return words;
}

// --- batches -----------------------------------------------------------------------------------

/// Sentences of unequal length in one rectangle, as an encoder takes them.
struct TokenBatch {
  std::int64_t batch = 0;
  std::int64_t tokens = 0;         ///< of the longest sentence
  std::vector<std::int32_t> ids{}; ///< [batch, tokens]
  std::vector<float> mask{};       ///< [batch, tokens]: 1 a token, 0 padding

  /// Views, good for as long as the batch lives and is not changed.
  [[nodiscard]] tenon::TensorView ids_view() const {
    return tenon::view(std::span<const std::int32_t>(ids), {batch, tokens});
  }
  [[nodiscard]] tenon::TensorView mask_view() const {
    return tenon::view(std::span<const float>(mask), {batch, tokens});
  }
};

/// Fills each sentence with `padding` up to the longest one.
[[nodiscard]] inline TokenBatch pad(std::span<const std::vector<std::int32_t>> sentences,
                                    std::int32_t padding) {
  TokenBatch out{.batch = std::ssize(sentences)};
  for (const auto& ids : sentences) out.tokens = std::max<std::int64_t>(out.tokens, std::ssize(ids));
  const auto width = static_cast<std::size_t>(out.tokens);
  for (const auto& ids : sentences) {
    out.ids.insert(out.ids.end(), ids.begin(), ids.end());
    out.ids.insert(out.ids.end(), width - ids.size(), padding);
    out.mask.insert(out.mask.end(), ids.size(), 1.0f);
    out.mask.insert(out.mask.end(), width - ids.size(), 0.0f);
  }
  return out;
}

// --- the tokenizer -----------------------------------------------------------------------------

class WordPiece {
 public:
  /// Tokens of a text, [CLS] and [SEP] included: what sentence-transformers keeps for all-MiniLM-L6-v2, and
  /// the most that a BERT has positions for.
  static constexpr std::int64_t default_tokens = 256;
  static constexpr std::int64_t most_tokens = 512;
  /// A longer word is unknown.
  static constexpr std::size_t most_characters = 100;

  /// Reads `vocab.txt`: a token a line, its id the line's number from 0. Longer texts are cut to
  /// `max_tokens`. Throws `load_error` for a file that cannot be read or lacks a special token,
  /// `error{bad_argument}` unless 2 <= max_tokens <= 512.
  explicit WordPiece(const std::string& path, std::int64_t max_tokens = default_tokens)
      : max_tokens_(max_tokens) {
    if (max_tokens < 2 || max_tokens > most_tokens)
      throw tenon::error(
          tenon::ErrorCode::bad_argument,
          tenon::concat("WordPiece: expected 2 to ", most_tokens, " tokens, got ", max_tokens));
    std::ifstream file(path, std::ios::binary);
    if (!file)
      throw tenon::load_error(tenon::ErrorCode::io,
                              tenon::concat(path, ": expected a vocabulary, got no file to read"),
                              {.file = path});
    std::string line;
    for (std::int32_t id = 0; std::getline(file, line); ++id) {
      if (line.ends_with('\r')) line.pop_back();
      vocabulary_.insert_or_assign(line, id);
    }
    for (std::size_t i = 0; i < special_tokens.size(); ++i) special_[i] = special_id(special_tokens[i], path);
  }

  /// [CLS], the pieces of `text`, [SEP]. A special token's name in the text is that token, as in
  /// transformers.
  [[nodiscard]] std::vector<std::int32_t> ids(std::string_view text) const {
    std::vector<std::int32_t> out{special_[cls]};
    const auto room = static_cast<std::size_t>(max_tokens_) - 1; // [SEP] comes after
    while (!text.empty() && out.size() < room) {
      const auto [begin, which] = first_special(text);
      for (const Word& word : words_of(text.substr(0, begin))) append_pieces(word, out);
      if (begin == text.size()) break;
      out.push_back(special_[which]);
      text.remove_prefix(begin + special_tokens[which].size());
    }
    if (out.size() > room) out.resize(room);
    out.push_back(special_[sep]);
    return out;
  }

  /// The ids of several texts, padded with [PAD].
  [[nodiscard]] TokenBatch batch(std::span<const std::string> texts) const {
    std::vector<std::vector<std::int32_t>> all;
    for (const std::string& text : texts) all.push_back(ids(text));
    return pad(all, special_[padding]);
  }

  /// Tokens in the vocabulary.
  [[nodiscard]] std::int64_t size() const noexcept { return static_cast<std::int64_t>(vocabulary_.size()); }

 private:
  static constexpr std::array<std::string_view, 5> special_tokens{"[PAD]", "[UNK]", "[CLS]", "[SEP]",
                                                                  "[MASK]"};
  enum Special : std::size_t { padding, unknown, cls, sep }; // places in it

  /// Lets the map look up a piece without a string made of it.
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept {
      return std::hash<std::string_view>{}(text);
    }
  };

  [[nodiscard]] std::int32_t special_id(std::string_view token, const std::string& path) const {
    const auto found = vocabulary_.find(token);
    if (found == vocabulary_.end())
      throw tenon::load_error(tenon::ErrorCode::missing_key,
                              tenon::concat(path, ": ", token, ": expected a line with this token, got none"),
                              {.file = path, .key = std::string(token)});
    return found->second;
  }

  /// Where the first special token in `text` begins, and which; its size if it has none.
  [[nodiscard]] static std::pair<std::size_t, std::size_t> first_special(std::string_view text) noexcept {
    std::pair<std::size_t, std::size_t> first{text.size(), 0};
    for (std::size_t i = 0; i < special_tokens.size(); ++i)
      if (const std::size_t at = text.find(special_tokens[i]); at < first.first) first = {at, i};
    return first;
  }

  /// Longest match first: the longest beginning that is a token, then the longest "##..." of the rest, and so
  /// on. A word that cannot be used up this way is [UNK] as a whole.
  void append_pieces(const Word& word, std::vector<std::int32_t>& out) const {
    const std::size_t before = out.size();
    std::string piece = word.characters > most_characters ? "" : word.text; // what is tried next
    std::string_view rest = word.text;
    while (!rest.empty()) {
      const std::size_t mark = rest.size() == word.text.size() ? 0 : 2; // "##"
      auto found = vocabulary_.find(piece);
      while (found == vocabulary_.end() && piece.size() > mark) {
        piece.pop_back();
        found = vocabulary_.find(piece);
      }
      if (piece.size() <= mark) {
        out.resize(before);
        out.push_back(special_[unknown]);
        return;
      }
      out.push_back(found->second);
      rest.remove_prefix(piece.size() - mark);
      piece = tenon::concat("##", rest);
    }
  }

  std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>> vocabulary_{};
  std::array<std::int32_t, special_tokens.size()> special_{};
  std::int64_t max_tokens_;
};

} // namespace sentences
