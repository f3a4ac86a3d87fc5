// SPDX-License-Identifier: Apache-2.0
#include "session/fixture.hpp"

#include <doctest/doctest.h>

#include <csignal>
#include <cstdio>
#include <optional>
#include <string>

#if defined(__unix__)
#include <sys/wait.h>
#include <unistd.h>

using namespace tenon;
using namespace tenon::test;

TEST_CASE("A session that ends before its guard stops the program with a sentence") {
  const Fixture<Mlp> f;
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL); // doctest's handler would report the abort as a failure of this test
    ::dup2(ends[1], 2);
    std::optional<Guard> guard; // declared before its session: the wrong way round
    std::optional<Session<Mlp>> session;
    session.emplace(f.model);
    guard.emplace(session->plan(f.tone));
    session.reset();
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string said;
  char buffer[256];
  for (ssize_t got; (got = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    said.append(buffer, static_cast<std::size_t>(got));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT));
  CHECK(said.find("tenon: a Session ended while an adapter was attached to it; declare the guard after its "
                  "session\n") != std::string::npos);
}
#endif
