// SPDX-License-Identifier: Apache-2.0
// The regular expressions that PEFT configurations hold (keys of rank_pattern and alpha_pattern), in the part
// of Python's `re` that such keys use: literals, `.`, classes, groups, alternation, `* + ? {m,n}`, `^ $`, `\d
// \w \s`. Works on sets of positions instead of backtracking, so no key can make it hang. <regex> would
// cost every translation unit far more and follows another grammar.
#pragma once

#include <tenon/core/error.hpp>
#include <tenon/core/text.hpp>
#include <tenon/formats/character_set.hpp>

#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

class Pattern {
 public:
  /// Throws `error{unsupported}` for syntax outside the part above.
  explicit Pattern(std::string_view text) : text_(text) {
    choices_ = parse_choices();
    if (at_ != text_.size()) refuse("an unmatched ')'");
  }

  /// PEFT's rule for a key of a pattern: `re.match(rf"(.*\.)?({key})$", path)`.
  [[nodiscard]] bool matches_module(std::string_view path) const {
    Positions starts(path.size() + 1, false);
    starts[0] = true;
    for (std::size_t i = 0; i < path.size(); ++i)
      if (path[i] == '.') starts[i + 1] = true;
    return match_choices(choices_, path, starts)[path.size()];
  }

 private:
  struct Piece;
  using Branch = std::vector<Piece>;
  using Positions = std::vector<bool>;
  enum class PieceKind : unsigned char { characters, group, start, end };
  static constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

  struct Piece {
    PieceKind kind = PieceKind::characters;
    CharacterSet characters{};
    std::vector<Branch> choices{};
    std::size_t least = 1;
    std::size_t most = 1;
  };

  // --- reading a pattern -------------------------------------------------------------------------
  [[noreturn]] void refuse(std::string_view what) const {
    throw error(ErrorCode::unsupported, concat("pattern '", text_, "': ", what, " at character ", at_,
                                               " is not supported; write the module names in full"));
  }
  [[nodiscard]] bool done() const noexcept { return at_ == text_.size(); }
  [[nodiscard]] bool take(char c) noexcept {
    if (done() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  [[nodiscard]] char next() {
    if (done()) refuse("an early end");
    return text_[at_++];
  }

  [[nodiscard]] std::vector<Branch> parse_choices() {
    std::vector<Branch> choices(1);
    while (!done() && text_[at_] != ')') {
      if (take('|'))
        choices.emplace_back();
      else
        choices.back().push_back(parse_piece());
    }
    return choices;
  }

  [[nodiscard]] Piece parse_piece() {
    Piece piece;
    switch (const char c = next()) {
    case '(':
      piece.kind = PieceKind::group;
      if (take('?') && !take(':')) refuse("a group that is not (...) or (?:...)");
      if (++depth_ > 8) refuse("a group nested more than 8 deep");
      piece.choices = parse_choices();
      --depth_;
      if (!take(')')) refuse("a group without its ')'");
      break;
    case '^':
      piece.kind = PieceKind::start;
      break;
    case '$':
      piece.kind = PieceKind::end;
      break;
    case '[':
      piece.characters = parse_class();
      break;
    case '.':
      piece.characters.set();
      break;
    case '\\':
      piece.characters = parse_escape();
      break;
    case '*':
    case '+':
    case '?':
      refuse("a quantifier with nothing before it");
    default:
      piece.characters.set(static_cast<unsigned char>(c));
    }
    parse_quantifier(piece);
    return piece;
  }

  void parse_quantifier(Piece& piece) {
    if (take('*')) {
      piece.least = 0;
      piece.most = unlimited;
    } else if (take('+')) {
      piece.most = unlimited;
    } else if (take('?')) {
      piece.least = 0;
    } else if (take('{')) {
      piece.least = piece.most = parse_number();
      if (take(',')) piece.most = !done() && text_[at_] == '}' ? unlimited : parse_number();
      if (!take('}') || piece.most < piece.least) refuse("a repetition that is not {m}, {m,} or {m,n}");
    } else {
      return;
    }
    (void)take('?'); // lazy or greedy finds the same paths
    if (!done() && (text_[at_] == '*' || text_[at_] == '+' || text_[at_] == '{'))
      refuse("a repeated quantifier");
  }

  [[nodiscard]] std::size_t parse_number() {
    std::size_t number = 0;
    const std::size_t first = at_;
    while (!done() && text_[at_] >= '0' && text_[at_] <= '9' && number < 1000)
      number = number * 10 + static_cast<std::size_t>(text_[at_++] - '0');
    if (at_ == first || number >= 1000) refuse("a repetition count that is not 0 to 999");
    return number;
  }

  [[nodiscard]] CharacterSet parse_escape() {
    const char c = next();
    if (const std::optional<CharacterSet> set = escaped_set(c)) return *set;
    refuse("this escape");
  }

  [[nodiscard]] CharacterSet parse_class() {
    CharacterSet set;
    const bool inverted = take('^');
    for (bool first = true; first || done() || text_[at_] != ']'; first = false) {
      const char c = next();
      if (c == '\\') {
        set |= parse_escape();
      } else if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
        ++at_;
        const char last = next();
        if (last == '\\' || last < c) refuse("this character range");
        set_range(set, static_cast<unsigned char>(c), static_cast<unsigned char>(last));
      } else {
        set.set(static_cast<unsigned char>(c));
      }
    }
    ++at_;
    return inverted ? ~set : set;
  }

  // --- matching: from the positions where a piece may begin to those where it may end ------------
  [[nodiscard]] static Positions match_choices(const std::vector<Branch>& choices, std::string_view path,
                                               const Positions& starts) {
    Positions ends(starts.size(), false);
    for (const Branch& branch : choices) {
      Positions now = starts;
      for (const Piece& piece : branch) now = match_repeated(piece, path, now);
      add(ends, now);
    }
    return ends;
  }

  [[nodiscard]] static Positions match_repeated(const Piece& piece, std::string_view path, Positions now) {
    for (std::size_t i = 0; i < piece.least; ++i) now = match_once(piece, path, now);
    Positions ends = now;
    for (std::size_t i = piece.least; i < piece.most; ++i) {
      now = match_once(piece, path, now);
      if (!add(ends, now)) break; // nothing new: further rounds reach nothing either
    }
    return ends;
  }

  [[nodiscard]] static Positions match_once(const Piece& piece, std::string_view path,
                                            const Positions& starts) {
    if (piece.kind == PieceKind::group) return match_choices(piece.choices, path, starts);
    Positions ends(starts.size(), false);
    if (piece.kind == PieceKind::start) {
      ends[0] = starts[0];
    } else if (piece.kind == PieceKind::end) {
      ends[path.size()] = starts[path.size()];
    } else {
      for (std::size_t i = 0; i < path.size(); ++i)
        if (starts[i] && piece.characters[static_cast<unsigned char>(path[i])]) ends[i + 1] = true;
    }
    return ends;
  }

  /// Whether `more` had positions that `to` had not.
  static bool add(Positions& to, const Positions& more) {
    bool grew = false;
    for (std::size_t i = 0; i < to.size(); ++i) {
      if (!more[i] || to[i]) continue;
      to[i] = true;
      grew = true;
    }
    return grew;
  }

  std::string text_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::vector<Branch> choices_{};
};

} // namespace tenon
