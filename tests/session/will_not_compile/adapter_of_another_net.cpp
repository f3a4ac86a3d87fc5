// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Session::attach: this is not an adapter of the session's net; load it with load_adapter for the same net
#include <tenon/tenon.hpp>

using namespace tenon;

using Net = Linear<"fc", 8, 8>;
using Other = Linear<"fc", 8, 9>;
#ifdef TENON_POSITIVE_CONTROL
using Wanted = Net;
#else
using Wanted = Other;
#endif
void use(Session<Net>& session, const Adapter<Wanted>& adapter) {
  const Guard guard = session.attach(adapter, 0.5f);
}
