// SPDX-License-Identifier: Apache-2.0
// expect: tenon::Session: the number of inputs must be the net's
// expect: 2.*==.*1
#include <tenon/tenon.hpp>

using namespace tenon;

#ifdef TENON_POSITIVE_CONTROL
Tensor use(Session<Linear<"fc", 8, 8>>& session, const Tensor& x) { return session(x); }
#else
Tensor use(Session<Linear<"fc", 8, 8>>& session, const Tensor& x) { return session(x, x); }
#endif
