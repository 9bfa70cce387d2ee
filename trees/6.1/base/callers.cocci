// SPDX-License-Identifier: GPL-2.0
//
// Whoever called the op: by hand after a TLB flush, through a helper that
// flushed and then called it, or by ending a range in a way that skipped it.

// By hand: the flush before it stays.
@by_hand@
@@
-mmu_notifier_invalidate_range(...);

// Through a helper: the plain one remains.
@helper_pte@
@@
-ptep_clear_flush_notify
+ptep_clear_flush
 (...)

@helper_pmd@
@@
-pmdp_huge_clear_flush_notify
+pmdp_huge_clear_flush
 (...)

@helper_pud@
@@
-pudp_huge_clear_flush_notify
+pudp_huge_clear_flush
 (...)

// One way to end a range is left.
@end@
@@
-mmu_notifier_invalidate_range_only_end
+mmu_notifier_invalidate_range_end
 (...)

// Only a comment about the op made this a block.
@bare@
expression zero;
expression list args;
@@
-if (zero) {
-	return __split_huge_zero_page_pmd(args);
-}
+if (zero)
+	return __split_huge_zero_page_pmd(args);
