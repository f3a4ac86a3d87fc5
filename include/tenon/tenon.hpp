// SPDX-License-Identifier: Apache-2.0
// The whole of Tenon that needs nothing but a compiler: architectures as types, adapters, sessions, guards.
// Architectures of real models are in <tenon/models/...>, included by name.
#pragma once

#include <tenon/adapters/adapter.hpp>
#include <tenon/adapters/load.hpp>
#include <tenon/core/units.hpp>
#include <tenon/core/version.hpp>
#include <tenon/graph/describe.hpp>
#include <tenon/graph/graph.hpp>
#include <tenon/graph/repeat.hpp>
#include <tenon/graph/scope.hpp>
#include <tenon/graph/sequential.hpp>
#include <tenon/graph/tables.hpp>
#include <tenon/graph/targets.hpp>
#include <tenon/kernels/bf16_products.hpp>
#include <tenon/layers/activations.hpp>
#include <tenon/layers/attention.hpp>
#include <tenon/layers/channels.hpp>
#include <tenon/layers/combine.hpp>
#include <tenon/layers/convolution.hpp>
#include <tenon/layers/embedding.hpp>
#include <tenon/layers/group_norm.hpp>
#include <tenon/layers/image_patches.hpp>
#include <tenon/layers/join.hpp>
#include <tenon/layers/joined_linear.hpp>
#include <tenon/layers/linear.hpp>
#include <tenon/layers/modulation.hpp>
#include <tenon/layers/norm.hpp>
#include <tenon/layers/pooling.hpp>
#include <tenon/layers/resample.hpp>
#include <tenon/layers/rotary.hpp>
#include <tenon/layers/timestep.hpp>
#include <tenon/layers/tokens.hpp>
#include <tenon/memory/ledger.hpp>
#include <tenon/session/session.hpp>
#include <tenon/weights/tensor.hpp>
