// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tenon/weights/mapped_file.hpp>

#include "support/file_bytes.hpp"
#include "support/temporary_folder.hpp"

#include <cstring>
#include <filesystem>
#include <string>
#include <utility>

#if !defined(_WIN32)
#include <sys/stat.h>
#endif

using tenon::Category;
using tenon::concat;
using tenon::Ledger;
using tenon::MappedFile;
using tenon::test::TemporaryFolder;
using tenon::test::write_file;

namespace {

std::string text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

} // namespace

TEST_CASE("A mapped file shows the bytes of the file") {
  const TemporaryFolder folder;
  Ledger ledger;
  write_file(folder.file("a"), "twelve bytes");
  const MappedFile file(folder.file("a"), ledger, Category::base_mapped);
  CHECK(text_of(file) == "twelve bytes");
  CHECK(file.size() == 12);
  CHECK(file.path() == folder.file("a"));
  file.check_unchanged();
}

TEST_CASE("A mapping stands in the ledger for as long as it lives") {
  const TemporaryFolder folder;
  Ledger ledger;
  write_file(folder.file("a"), "12345");
  write_file(folder.file("b"), "1234567");
  {
    MappedFile a(folder.file("a"), ledger, Category::base_mapped);
    MappedFile b(folder.file("b"), ledger, Category::adapter);
    CHECK(ledger.current()[Category::base_mapped] == 5);
    CHECK(ledger.current()[Category::adapter] == 7);
    const auto* const address = b.bytes().data();
    a = std::move(b);
    CHECK(ledger.current().total() == 7);
    CHECK(a.bytes().data() == address);
    const MappedFile moved(std::move(a));
    CHECK(text_of(moved) == "1234567");
    CHECK(ledger.current().total() == 7);
  }
  CHECK(ledger.current().total() == 0);
}

TEST_CASE("A mapping that the budget refuses leaves nothing behind") {
  const TemporaryFolder folder;
  Ledger ledger;
  ledger.set_budget(4);
  write_file(folder.file("a"), "12345");
  const std::string sentence =
      concat("mapping ", folder.file("a"),
             ": asked for 5 B (5 B), but the budget of 4 B holds 0 B; at most 4 B (4 B) would fit");
  CHECK_THROWS_WITH_AS(MappedFile(folder.file("a"), ledger, Category::adapter), sentence.c_str(),
                       tenon::budget_error);
  CHECK(ledger.current().total() == 0);
  const MappedFile base(folder.file("a"), ledger, Category::base_mapped); // which no budget counts
  CHECK(ledger.current().total() == 5);
}

TEST_CASE("What is no file with bytes in it is refused in the words of the system") {
  const TemporaryFolder folder;
  Ledger ledger;
  const auto refuses = [&ledger](const std::string& path, const std::string& sentence) {
    CHECK_THROWS_WITH_AS(MappedFile(path, ledger, Category::adapter), concat(path, ": ", sentence).c_str(),
                         tenon::load_error);
    CHECK(ledger.current().total() == 0);
  };
  write_file(folder.file("empty"), "");
  refuses(folder.file("absent"), concat("expected a file that can be opened, got ", std::strerror(ENOENT)));
  refuses(folder.path(), "expected a file, got a folder");
  refuses(folder.file("empty"), "expected a file with bytes in it, got an empty one");
#if !defined(_WIN32)
  REQUIRE(::mkfifo(folder.file("pipe").c_str(), 0600) == 0);
  refuses(folder.file("pipe"),
          "expected a file, got a device, pipe or socket"); // and does not wait for a writer
#endif
}

TEST_CASE("The error for a file that cannot be opened carries its code and path") {
  Ledger ledger;
  try {
    const MappedFile file("no/such/file", ledger, Category::adapter);
    FAIL("opened");
  } catch (const tenon::load_error& e) {
    CHECK(e.code() == tenon::ErrorCode::io);
    CHECK(e.place().file == "no/such/file");
  }
}

#if !defined(_WIN32) // where a mapped file cannot be written at all
TEST_CASE("A file cut short or grown under its mapping is found with both sizes") {
  const TemporaryFolder folder;
  Ledger ledger;
  const std::string path = folder.file("a");
  write_file(path, "twelve bytes");
  const MappedFile file(path, ledger, Category::base_mapped);
  const auto finds = [&](std::int64_t now) {
    const std::string sentence =
        concat(path, ": expected the 12 bytes that were mapped, got a file of ", now, " bytes written since");
    CHECK_THROWS_WITH_AS(file.check_unchanged(), sentence.c_str(), tenon::error);
  };
  std::filesystem::resize_file(path, 5);
  finds(5);
  std::filesystem::resize_file(path, 20);
  finds(20);
}

TEST_CASE("A file written in place with the same size is found by its time") {
  const TemporaryFolder folder;
  Ledger ledger;
  const std::string path = folder.file("a");
  write_file(path, "twelve bytes");
  const MappedFile file(path, ledger, Category::base_mapped);
  const auto written = std::filesystem::last_write_time(path);
  std::filesystem::last_write_time(path, written + std::chrono::seconds(1));
  const std::string sentence =
      concat(path, ": expected the 12 bytes that were mapped, got a file of 12 bytes written since");
  CHECK_THROWS_WITH_AS(file.check_unchanged(), sentence.c_str(), tenon::error);
}

TEST_CASE("A file replaced by renaming or removed stays whole for its mapping") {
  const TemporaryFolder folder;
  Ledger ledger;
  const std::string path = folder.file("a");
  write_file(path, "twelve bytes");
  write_file(folder.file("b"), "new");
  const MappedFile file(path, ledger, Category::base_mapped);
  std::filesystem::rename(folder.file("b"), path);
  file.check_unchanged();
  std::filesystem::remove(path);
  file.check_unchanged();
  CHECK(text_of(file) == "twelve bytes");
}
#endif

TEST_CASE("An empty mapping holds nothing and is never changed") {
  const MappedFile file;
  CHECK(file.bytes().empty());
  CHECK(file.size() == 0);
  file.check_unchanged();
}
