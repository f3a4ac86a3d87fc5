// SPDX-License-Identifier: Apache-2.0
// 100 layers, each of another shape and name: the price of a layer's type.
#include <tenon/tenon.hpp>

using namespace tenon;
using Net = Sequential<
    Linear<"l0", 64, 65>, Linear<"l1", 65, 66>, Linear<"l2", 66, 67>, Linear<"l3", 67, 68>,
    Linear<"l4", 68, 69>, Linear<"l5", 69, 70>, Linear<"l6", 70, 71>, Linear<"l7", 71, 72>,
    Linear<"l8", 72, 73>, Linear<"l9", 73, 74>, Linear<"l10", 74, 75>, Linear<"l11", 75, 76>,
    Linear<"l12", 76, 77>, Linear<"l13", 77, 78>, Linear<"l14", 78, 79>, Linear<"l15", 79, 80>,
    Linear<"l16", 80, 81>, Linear<"l17", 81, 82>, Linear<"l18", 82, 83>, Linear<"l19", 83, 84>,
    Linear<"l20", 84, 85>, Linear<"l21", 85, 86>, Linear<"l22", 86, 87>, Linear<"l23", 87, 88>,
    Linear<"l24", 88, 89>, Linear<"l25", 89, 90>, Linear<"l26", 90, 91>, Linear<"l27", 91, 92>,
    Linear<"l28", 92, 93>, Linear<"l29", 93, 94>, Linear<"l30", 94, 95>, Linear<"l31", 95, 96>,
    Linear<"l32", 96, 97>, Linear<"l33", 97, 98>, Linear<"l34", 98, 99>, Linear<"l35", 99, 100>,
    Linear<"l36", 100, 101>, Linear<"l37", 101, 102>, Linear<"l38", 102, 103>, Linear<"l39", 103, 104>,
    Linear<"l40", 104, 105>, Linear<"l41", 105, 106>, Linear<"l42", 106, 107>, Linear<"l43", 107, 108>,
    Linear<"l44", 108, 109>, Linear<"l45", 109, 110>, Linear<"l46", 110, 111>, Linear<"l47", 111, 112>,
    Linear<"l48", 112, 113>, Linear<"l49", 113, 114>, Linear<"l50", 114, 115>, Linear<"l51", 115, 116>,
    Linear<"l52", 116, 117>, Linear<"l53", 117, 118>, Linear<"l54", 118, 119>, Linear<"l55", 119, 120>,
    Linear<"l56", 120, 121>, Linear<"l57", 121, 122>, Linear<"l58", 122, 123>, Linear<"l59", 123, 124>,
    Linear<"l60", 124, 125>, Linear<"l61", 125, 126>, Linear<"l62", 126, 127>, Linear<"l63", 127, 128>,
    Linear<"l64", 128, 129>, Linear<"l65", 129, 130>, Linear<"l66", 130, 131>, Linear<"l67", 131, 132>,
    Linear<"l68", 132, 133>, Linear<"l69", 133, 134>, Linear<"l70", 134, 135>, Linear<"l71", 135, 136>,
    Linear<"l72", 136, 137>, Linear<"l73", 137, 138>, Linear<"l74", 138, 139>, Linear<"l75", 139, 140>,
    Linear<"l76", 140, 141>, Linear<"l77", 141, 142>, Linear<"l78", 142, 143>, Linear<"l79", 143, 144>,
    Linear<"l80", 144, 145>, Linear<"l81", 145, 146>, Linear<"l82", 146, 147>, Linear<"l83", 147, 148>,
    Linear<"l84", 148, 149>, Linear<"l85", 149, 150>, Linear<"l86", 150, 151>, Linear<"l87", 151, 152>,
    Linear<"l88", 152, 153>, Linear<"l89", 153, 154>, Linear<"l90", 154, 155>, Linear<"l91", 155, 156>,
    Linear<"l92", 156, 157>, Linear<"l93", 157, 158>, Linear<"l94", 158, 159>, Linear<"l95", 159, 160>,
    Linear<"l96", 160, 161>, Linear<"l97", 161, 162>, Linear<"l98", 162, 163>, Linear<"l99", 163, 164>>;

static_assert(slot_count<Net> == 100);
static_assert(activation_bytes<Net>({.tokens = 4}) > 0);
