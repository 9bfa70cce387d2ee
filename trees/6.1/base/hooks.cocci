// SPDX-License-Identifier: GPL-2.0
//
// Drivers and KVM: the entry for the op goes, and the function that stood there,
// whatever its name. The flush functions that it called stay.

@hook@
identifier ops, fn;
@@
 struct mmu_notifier_ops ops = {
-	.invalidate_range = fn,
 };

@hook_fn@
identifier hook.fn;
@@
-fn(...) { ... }
