// SPDX-License-Identifier: Apache-2.0
#include "tenon_gpu.cpp"
