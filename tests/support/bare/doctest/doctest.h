// SPDX-License-Identifier: Apache-2.0
// What the tests of a device use of doctest, for machines that have none and no network (TENON_BARE_TESTS): the same macros,
// without the values of a failed comparison and without SUBCASE. Options: --test-case=FILTERS and
// --test-case-exclude=FILTERS (between commas; * and ? stand for any text and any character).
#pragma once

#include <atomic>
#include <cctype>
#include <cstdio>
#include <exception>
#include <functional>
#include <mutex>
#include <ostream>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace doctest {

/// The words of INFO, MESSAGE and FAIL: `a, b` and `a << b` alike, one behind the other.
class Words {
 public:
  template <class T>
  Words& operator*(const T& value) {
    if constexpr (std::is_same_v<T, bool>)
      out_ << (value ? "true" : "false");
    else if constexpr (requires(std::ostream& out) { out << value; })
      out_ << value;
    else
      out_ << "{?}";
    return *this;
  }
  template <class T>
  Words& operator<<(const T& value) {
    return *this * value;
  }
  template <class T>
  Words& operator,(const T& value) {
    return *this * value;
  }
  [[nodiscard]] std::string text() const { return out_.str(); }

 private:
  std::ostringstream out_{};
};

struct Test {
  void (*run)();
  const char* name;
  const char* file;
  int line;
};
/// Thrown by what ends a test case: REQUIRE and FAIL.
struct Ended {};

struct Run {
  std::vector<Test> tests{};
  std::atomic<long> passed{0};
  std::atomic<long> failed{0};
  const Test* current = nullptr;
  std::mutex mutex{}; ///< of what is printed

  static Run& the() {
    static Run run;
    return run;
  }
};
struct Registration {
  Registration(void (*run)(), const char* name, const char* file, int line) {
    Run::the().tests.push_back({run, name, file, line});
  }
};

/// INFO and CAPTURE: words that a failure in the same scope prints. They are not made before.
class Info {
 public:
  explicit Info(std::function<std::string()> words) { stack().push_back(std::move(words)); }
  ~Info() { stack().pop_back(); }
  Info(const Info&) = delete;
  Info& operator=(const Info&) = delete;
  static std::vector<std::function<std::string()>>& stack() {
    thread_local std::vector<std::function<std::string()>> words;
    return words;
  }
};

inline void say(const char* file, int line, const std::string& what) {
  Run& run = Run::the();
  const std::scoped_lock lock(run.mutex);
  std::printf("%s:%d: %s\n  TEST CASE: %s\n", file, line, what.c_str(),
              run.current == nullptr ? "" : run.current->name);
  for (const auto& words : Info::stack()) std::printf("  logged: %s\n", words().c_str());
  std::fflush(stdout);
}
inline void count(bool holds, const char* file, int line, const std::string& what) {
  ++(holds ? Run::the().passed : Run::the().failed);
  if (!holds) say(file, line, "ERROR: " + what);
}
[[nodiscard]] inline std::string in_flight() {
  try {
    throw;
  } catch (const std::exception& thrown) {
    return thrown.what();
  } catch (...) {
    return "something that is no std::exception";
  }
}

/// Whether `condition()` gives `wanted`.
template <class F>
bool check(const F& condition, bool wanted, const char* file, int line, const std::string& what) {
  bool holds = false;
  try {
    holds = condition() == wanted;
  } catch (const Ended&) {
    throw;
  } catch (...) {
    count(false, file, line, what + " threw: " + in_flight());
    return false;
  }
  count(holds, file, line, what);
  return holds;
}
inline void require(bool holds) {
  if (!holds) throw Ended{};
}
/// Whether `f()` throws an `Error`, with these words unless `words` is null.
template <class Error, class F>
void check_throws(const F& f, const std::string* words, const char* file, int line, const std::string& what) {
  try {
    f();
  } catch (const Error& thrown) {
    if constexpr (std::is_base_of_v<std::exception, Error>)
      if (words != nullptr && *words != thrown.what())
        return count(false, file, line, what + " threw: " + thrown.what());
    return count(true, file, line, what);
  } catch (...) {
    return count(false, file, line, what + " threw another type: " + in_flight());
  }
  count(false, file, line, what + " threw nothing");
}

/// `pattern` with * and ?, of any case.
[[nodiscard]] inline bool matches(std::string_view pattern, std::string_view name) {
  if (pattern.empty()) return name.empty();
  if (pattern.front() == '*')
    return matches(pattern.substr(1), name) || (!name.empty() && matches(pattern, name.substr(1)));
  const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
  return !name.empty() && (pattern.front() == '?' || lower(pattern.front()) == lower(name.front())) &&
         matches(pattern.substr(1), name.substr(1));
}
[[nodiscard]] inline bool matches_any(std::string_view patterns, std::string_view name) {
  for (;;) {
    const std::size_t end = patterns.find(',');
    if (matches(patterns.substr(0, end), name)) return true;
    if (end == std::string_view::npos) return false;
    patterns.remove_prefix(end + 1);
  }
}

/// Whether the test case failed nowhere.
inline bool run_one(const Test& test) {
  Run& run = Run::the();
  const long failed_before = run.failed;
  run.current = &test;
  try {
    test.run();
  } catch (const Ended&) {
  } catch (...) {
    ++run.failed;
    say(test.file, test.line, "ERROR: test case threw: " + in_flight());
  }
  return run.failed == failed_before;
}

inline int run_all(int argc, char** argv) {
  std::string_view wanted = "*";
  std::string_view unwanted;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const auto value_of = [&word](std::string_view option, std::string_view& value) {
      if (!word.starts_with(option)) return false;
      value = word.substr(option.size());
      return true;
    };
    if (!value_of("--test-case=", wanted) && !value_of("--test-case-exclude=", unwanted))
      return std::printf("%s: expected --test-case= or --test-case-exclude=\n", argv[i]), 2;
  }
  Run& run = Run::the();
  std::vector<const char*> failures;
  long count = 0;
  for (const Test& test : run.tests) {
    if (!matches_any(wanted, test.name) || (!unwanted.empty() && matches_any(unwanted, test.name))) continue;
    ++count;
    if (!run_one(test)) failures.push_back(test.name);
  }
  const auto failed = static_cast<long>(failures.size());
  for (const char* const name : failures) std::printf("FAILED: %s\n", name);
  std::printf("[doctest] test cases: %ld | %ld passed | %ld failed | %ld skipped\n", count, count - failed,
              failed, static_cast<long>(run.tests.size()) - count);
  std::printf("[doctest] assertions: %ld | %ld passed | %ld failed |\n", run.passed + run.failed,
              run.passed.load(), run.failed.load());
  std::printf("[doctest] Status: %s!\n", failed == 0 ? "SUCCESS" : "FAILURE");
  return failed == 0 ? 0 : 1;
}

} // namespace doctest

// clang-format off: one macro a line
#define BARE_JOINED(a, b) a##b
#define BARE_NAME(a, b) BARE_JOINED(a, b)
#define BARE_TEST(f, name) \
  static void f(); \
  [[maybe_unused]] static const ::doctest::Registration BARE_JOINED(f, _registration)(&f, name, __FILE__, __LINE__); \
  static void f()
#define TEST_CASE(name) BARE_TEST(BARE_NAME(bare_test_, __COUNTER__), name)

#define BARE_CHECK(wanted, what, ...) \
  ::doctest::check([&]() -> bool { return static_cast<bool>((__VA_ARGS__)); }, wanted, __FILE__, __LINE__, what)
#define BARE_WORDS(...) ([&] { ::doctest::Words bare_text; static_cast<void>((bare_text * __VA_ARGS__)); return bare_text.text(); })
#define CHECK(...) static_cast<void>(BARE_CHECK(true, "CHECK(" #__VA_ARGS__ ")", __VA_ARGS__))
#define CHECK_FALSE(...) static_cast<void>(BARE_CHECK(false, "CHECK_FALSE(" #__VA_ARGS__ ")", __VA_ARGS__))
#define REQUIRE(...) ::doctest::require(BARE_CHECK(true, "REQUIRE(" #__VA_ARGS__ ")", __VA_ARGS__))
#define REQUIRE_FALSE(...) ::doctest::require(BARE_CHECK(false, "REQUIRE_FALSE(" #__VA_ARGS__ ")", __VA_ARGS__))
#define CHECK_MESSAGE(condition, ...) static_cast<void>(BARE_CHECK(true, "CHECK(" #condition "): " + BARE_WORDS(__VA_ARGS__)(), condition))
#define REQUIRE_MESSAGE(condition, ...) ::doctest::require(BARE_CHECK(true, "REQUIRE(" #condition "): " + BARE_WORDS(__VA_ARGS__)(), condition))
#define CHECK_NOTHROW(...) static_cast<void>(BARE_CHECK(true, "CHECK_NOTHROW(" #__VA_ARGS__ ")", (static_cast<void>(__VA_ARGS__), true)))
#define BARE_THROWS(expression, words, what, ...) \
  ::doctest::check_throws<std::remove_cvref_t<__VA_ARGS__>>([&] { static_cast<void>(expression); }, words, __FILE__, __LINE__, what)
#define CHECK_THROWS_AS(expression, ...) BARE_THROWS(expression, nullptr, "CHECK_THROWS_AS(" #expression ", " #__VA_ARGS__ ")", __VA_ARGS__)
#define CHECK_THROWS_WITH_AS(expression, message, ...) \
  [&](const std::string& bare_words) { \
    BARE_THROWS(expression, &bare_words, "CHECK_THROWS_WITH_AS(" #expression ", " #__VA_ARGS__ ") \"" + bare_words + "\"", __VA_ARGS__); \
  }(message)

#define INFO(...) const ::doctest::Info BARE_NAME(bare_info_, __COUNTER__)(BARE_WORDS(__VA_ARGS__))
#define CAPTURE(value) INFO(#value " := ", value)
#define MESSAGE(...) ::doctest::say(__FILE__, __LINE__, "MESSAGE: " + BARE_WORDS(__VA_ARGS__)())
#define FAIL_CHECK(...) ::doctest::count(false, __FILE__, __LINE__, BARE_WORDS(__VA_ARGS__)())
#define FAIL(...) (FAIL_CHECK(__VA_ARGS__), ::doctest::require(false))
// clang-format on

#if defined(DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN)
int main(int argc, char** argv) { return ::doctest::run_all(argc, argv); }
#endif
