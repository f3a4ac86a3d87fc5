// SPDX-License-Identifier: Apache-2.0
// Adapters in a model's device memory, as a session is asked for them: see residency.hpp, which knows how.
#pragma once

#include <tenon/adapters/adapter_data.hpp>
#include <tenon/core/compiled.hpp>
#include <tenon/session/model.hpp>

#include <memory>

#if TENON_HAS_BODIES
#include <tenon/session/residency.hpp>
#endif

namespace tenon {

/// Throws `error{wrong_state}` for a model of the host.
TENON_INLINE Residency& residency_of(const ModelData& model);

TENON_INLINE void load_on_device(const ModelData& model, const std::shared_ptr<const AdapterData>& adapter);
TENON_INLINE void prefetch_on_device(const ModelData& model,
                                     const std::shared_ptr<const AdapterData>& adapter);
TENON_INLINE void evict_from_device(const ModelData& model,
                                    const std::shared_ptr<const AdapterData>& adapter);
[[nodiscard]] TENON_INLINE bool is_resident_on_device(const ModelData& model, const AdapterData& adapter);
[[nodiscard]] TENON_INLINE DeviceCounts adapter_copies(const ModelData& model);

#if TENON_HAS_BODIES
TENON_INLINE Residency& residency_of(const ModelData& model) {
  if (Residency* const found = model.residency.get()) return *found;
  throw error(ErrorCode::wrong_state, "Session: this model is the host's; open it with .memory = tn::device");
}

TENON_INLINE void load_on_device(const ModelData& model, const std::shared_ptr<const AdapterData>& adapter) {
  residency_of(model).load(adapter);
}
TENON_INLINE void prefetch_on_device(const ModelData& model,
                                     const std::shared_ptr<const AdapterData>& adapter) {
  residency_of(model).prefetch(adapter);
}
TENON_INLINE void evict_from_device(const ModelData& model,
                                    const std::shared_ptr<const AdapterData>& adapter) {
  residency_of(model).evict(adapter);
}
TENON_INLINE bool is_resident_on_device(const ModelData& model, const AdapterData& adapter) {
  return residency_of(model).is_resident(adapter);
}
TENON_INLINE DeviceCounts adapter_copies(const ModelData& model) { return residency_of(model).counts(); }
#endif

} // namespace tenon
