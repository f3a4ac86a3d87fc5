// SPDX-License-Identifier: Apache-2.0
// What reading an adapter file for a net found: which slots it fits, and everything that does not fit, all of
// it at once. Strict loading throws the same text; report-only loading leaves it to the caller.
#pragma once

#include <tenon/core/compiled.hpp>
#include <tenon/core/text.hpp>
#include <tenon/core/text_table.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

enum class FindingKind : std::uint8_t {
  unmatched_key,   ///< names no slot of the net
  incomplete,      ///< A without B, or B without A
  wrong_shape,     ///< A or B does not fit its slot, or their ranks differ
  wrong_rank,      ///< the tensors' rank is not the configuration's, or not the adapter type's
  wrong_dtype,     ///< none of F32, F16, BF16, F8_E4M3, F8_E5M2
  refused_kind,    ///< the slot, or Tenon, does not take this kind of adapter
  duplicate,       ///< two keys for one place
  unsupported,     ///< a setting of the configuration that changes the result and is not supported
  ambiguous,       ///< a name that two modules of the net share once dots are underscores
  not_finite,      ///< NaN or infinity among its values
  other_component, ///< for another part of a pipeline than the one that was asked for
};

[[nodiscard]] constexpr std::string_view finding_name(FindingKind kind) noexcept {
  constexpr std::string_view names[] = {"unmatched key", "incomplete pair",     "wrong shape",
                                        "wrong rank",    "wrong dtype",         "refused kind",
                                        "duplicate",     "unsupported setting", "ambiguous name",
                                        "not finite",    "other component"};
  return names[static_cast<std::size_t>(kind)];
}

/// One thing that does not fit: `what` says expected, got and, where there is one, the nearest slot.
struct Finding {
  FindingKind kind;
  std::string key; ///< tensor or setting in the file
  std::string what;
};

struct MatchedSlot {
  std::string slot; ///< path in the net
  std::int64_t rank = 0;
  double scale = 0; ///< alpha / rank, or alpha / sqrt(rank)
  std::string_view kind = "LoRA";
};

struct AdapterReport {
  std::string file{};
  std::string_view dialect{}; ///< "PEFT"
  std::vector<MatchedSlot> matched{};
  std::vector<Finding> findings{};

  [[nodiscard]] bool fits() const noexcept { return findings.empty() && !matched.empty(); }

  /// A line for the whole, then one for each finding.
  [[nodiscard]] TENON_INLINE std::string text() const;

  /// Everything, as tables: a row for each slot that matched, then one for each finding.
  [[nodiscard]] TENON_INLINE std::string table() const;
};

#if TENON_HAS_BODIES
TENON_INLINE std::string AdapterReport::text() const {
  std::string out = concat(file, ": ", dialect, " adapter, ", matched.size(), " slots matched, ",
                           findings.size(), findings.size() == 1 ? " finding" : " findings");
  if (matched.empty()) out += "; not one slot of this net is named in the file";
  for (const Finding& finding : findings)
    out += concat("\n  ", finding_name(finding.kind), ": ", finding.key, ": ", finding.what);
  return out;
}

TENON_INLINE std::string AdapterReport::table() const {
  std::vector<std::vector<std::string>> slots{{"slot", "kind", "rank", "scale"}};
  for (const MatchedSlot& slot : matched)
    slots.push_back({slot.slot, std::string(slot.kind), slot.rank == 0 ? std::string("-") : concat(slot.rank),
                     rounded_text(slot.scale)});
  std::vector<std::vector<std::string>> rest{{"finding", "key", "what"}};
  for (const Finding& finding : findings)
    rest.push_back({std::string(finding_name(finding.kind)), finding.key, finding.what});
  std::string out = concat(file, ": ", dialect, " adapter\n");
  if (!matched.empty()) out += text_table(slots);
  if (!findings.empty()) out += text_table(rest);
  return out;
}
#endif

} // namespace tenon
