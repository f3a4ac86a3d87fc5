// SPDX-License-Identifier: Apache-2.0
#include "support/file_bytes.hpp"
#include "support/sentence_model.hpp"
#include "support/temporary_folder.hpp"

#include <doctest/doctest.h>
#include <sentences/wordpiece.hpp>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

namespace {

using sentences::TokenBatch;
using sentences::WordPiece;
using tenon::test::fetched_model;
using tenon::test::TemporaryFolder;
using tenon::test::write_file;
using Ids = std::vector<std::int32_t>;

struct GoldenText {
  std::string text{};
  Ids ids{};
};

/// Rows of "text TAB ids".
std::vector<GoldenText> golden_texts(const std::string& name) {
  std::ifstream file(std::string(TENON_TEST_DATA "/goldens/minilm/") + name, std::ios::binary);
  std::vector<GoldenText> rows;
  for (std::string line; std::getline(file, line);) {
    const std::size_t tab = line.find('\t');
    REQUIRE(tab != std::string::npos);
    std::istringstream ids(line.substr(tab + 1));
    rows.push_back({line.substr(0, tab), Ids(std::istream_iterator<std::int32_t>(ids), {})});
  }
  return rows;
}

/// Ids 0 to 9.
constexpr const char* small_vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhe\n##llo\nhello\n!\n##o\n";

struct SmallVocabulary {
  TemporaryFolder folder{};
  std::string path = folder.file("vocab.txt");
  SmallVocabulary() { write_file(path, small_vocabulary); }
};

constexpr bool sorted_without_overlap(const auto& table, auto first, auto last) {
  for (std::size_t i = 1; i < std::size(table); ++i)
    if (table[i].*first <= table[i - 1].*last) return false;
  return true;
}

} // namespace

static_assert(sorted_without_overlap(sentences::dropped_characters, &sentences::CharacterRange::first,
                                     &sentences::CharacterRange::last));
static_assert(sorted_without_overlap(sentences::punctuation, &sentences::CharacterRange::first,
                                     &sentences::CharacterRange::last));
static_assert(sorted_without_overlap(sentences::fold_runs, &sentences::FoldRun::first,
                                     &sentences::FoldRun::last));
static_assert(sorted_without_overlap(sentences::folds, &sentences::Fold::from, &sentences::Fold::from));
static_assert(sorted_without_overlap(sentences::long_folds, &sentences::LongFold::from,
                                     &sentences::LongFold::from));

TEST_CASE("Characters lose their case and accents, and Hangul comes apart") {
  CHECK(sentences::folded(U'A')[0] == U'a');
  CHECK(sentences::folded(U'\u00C9')[0] == U'e');      // E with acute
  CHECK(sentences::folded(U'\u0130')[0] == U'i');      // capital I with dot
  CHECK(sentences::folded(U'\u0131')[0] == U'\u0131'); // small dotless i
  CHECK(sentences::folded(U'\uAC00') == std::array{U'\u1100', U'\u1161', U'\0'});
  CHECK(sentences::folded(U'\uD55C') == std::array{U'\u1112', U'\u1161', U'\u11AB'});
  CHECK(sentences::folded(U'\U0001D160') == std::array{U'\U0001D158', U'\U0001D165', U'\U0001D16E'});
}

TEST_CASE("Every golden text gets the ids of the real tokenizer") {
  const auto folder = fetched_model();
  if (!folder) return;
  const WordPiece wordpiece(*folder + "/vocab.txt");
  CHECK(wordpiece.size() == 30522);
  for (const char* name : {"tokens.tsv", "tokens_hard.tsv"}) {
    const std::vector<GoldenText> rows = golden_texts(name);
    CHECK(rows.size() >= 13);
    for (const GoldenText& row : rows) {
      CAPTURE(row.text);
      CHECK(wordpiece.ids(row.text) == row.ids);
    }
  }
}

TEST_CASE("Words are cut into the longest pieces, or are unknown as a whole") {
  const SmallVocabulary small;
  const WordPiece wordpiece(small.path);
  CHECK(wordpiece.size() == 10);
  CHECK(wordpiece.ids("") == Ids{2, 3});
  CHECK(wordpiece.ids("Hello hello!") == Ids{2, 7, 7, 8, 3});
  CHECK(wordpiece.ids("heo helloo") == Ids{2, 5, 9, 7, 9, 3});
  CHECK(wordpiece.ids("hellos hello") == Ids{2, 1, 7, 3});
  CHECK(wordpiece.ids("he" + std::string(98, 'o')).size() == 101);
  CHECK(wordpiece.ids("he" + std::string(99, 'o')) == Ids{2, 1, 3});
  CHECK(wordpiece.ids("hello[MASK]he") == Ids{2, 7, 4, 5, 3});
}

TEST_CASE("Lines that end with CR LF are the same vocabulary") {
  const TemporaryFolder folder;
  std::string text = small_vocabulary;
  for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 2) text.insert(at, "\r");
  write_file(folder.file("vocab.txt"), text);
  CHECK(WordPiece(folder.file("vocab.txt")).ids("hello!") == Ids{2, 7, 8, 3});
}

TEST_CASE("Bytes that are not UTF-8 are dropped") {
  const SmallVocabulary small;
  const WordPiece wordpiece(small.path);
  CHECK(wordpiece.ids("he\xFFllo \xC3") == Ids{2, 7, 3});
  CHECK(wordpiece.ids("\xF0\x9F\x9A hello") == Ids{2, 7, 3});
}

TEST_CASE("A long text is cut to the tokens that were asked for, [SEP] included") {
  const SmallVocabulary small;
  std::string text;
  for (int i = 0; i < 600; ++i) text += "hello ";
  CHECK(WordPiece(small.path).ids(text).size() == 256);
  CHECK(WordPiece(small.path, 512).ids(text).size() == 512);
  CHECK(WordPiece(small.path, 4).ids(text) == Ids{2, 7, 7, 3});
  CHECK(WordPiece(small.path, 4).ids("hello hello") == Ids{2, 7, 7, 3});
  CHECK(WordPiece(small.path, 2).ids(text) == Ids{2, 3});
}

TEST_CASE("A batch is padded to its longest text") {
  const SmallVocabulary small;
  const std::vector<std::string> texts{"hello", "he hello!"};
  const TokenBatch batch = WordPiece(small.path).batch(texts);
  CHECK(batch.ids == Ids{2, 7, 3, 0, 0, 2, 5, 7, 8, 3});
  CHECK(batch.mask == std::vector<float>{1, 1, 1, 0, 0, 1, 1, 1, 1, 1});
  CHECK(batch.ids_view().text() == "[2, 5] I32");
  CHECK(batch.mask_view().text() == "[2, 5] F32");
  CHECK(sentences::pad({}, 0).ids_view().text() == "[0, 0] I32");
}

TEST_CASE("A vocabulary that cannot be used is refused with its file's name") {
  const TemporaryFolder folder;
  const std::string path = folder.file("vocab.txt");
  CHECK_THROWS_WITH_AS(WordPiece{path}, (path + ": expected a vocabulary, got no file to read").c_str(),
                       tenon::load_error);
  write_file(path, "[PAD]\n[UNK]\n[CLS]\nhello\n");
  CHECK_THROWS_WITH_AS(WordPiece{path}, (path + ": [SEP]: expected a line with this token, got none").c_str(),
                       tenon::load_error);
  write_file(path, small_vocabulary);
  CHECK_THROWS_WITH_AS(WordPiece(path, 513), "WordPiece: expected 2 to 512 tokens, got 513", tenon::error);
  CHECK_THROWS_WITH_AS(WordPiece(path, 1), "WordPiece: expected 2 to 512 tokens, got 1", tenon::error);
}
