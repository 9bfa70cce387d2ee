// SPDX-License-Identifier: GPL-2.0
//
// The mechanism itself: the op, the functions that call it on every
// subscriber, and the argument that told the end of a range to skip it.
// For include/linux/mmu_notifier.h and mm/mmu_notifier.c.

// The op, and with it the comment above.
@op@
identifier sub, mm, start, end;
@@
 struct mmu_notifier_ops {
 	...
-	void (*invalidate_range)(struct mmu_notifier *sub, struct mm_struct *mm,
-				 unsigned long start, unsigned long end);
 	...
 };

// Its dispatcher: declaration and definition.
@dispatcher_decl@
@@
-extern void __mmu_notifier_invalidate_range(...);

@dispatcher@
@@
-__mmu_notifier_invalidate_range(...) { ... }

// The wrapper for callers, with and without CONFIG_MMU_NOTIFIER.
@wrapper@
@@
-mmu_notifier_invalidate_range(...) { ... }

// The end of a range that skipped the op, likewise.
@wrapper_only_end@
@@
-mmu_notifier_invalidate_range_only_end(...) { ... }

// The end of a range called the op once more, unless told not to.
@call_at_end@
expression sub;
identifier only_end;
@@
-if (!only_end && sub->ops->invalidate_range)
-	sub->ops->invalidate_range(...);

// Without that call nobody needs to be told: parameters first, then arguments.
@param@
identifier range, only_end;
@@
 __mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range
-				     , bool only_end
				     )
 { ... }

@param_decl@
identifier range, only_end;
@@
 extern void __mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range
-						 , bool only_end
						 );

@param_hlist@
identifier subs, range, only_end;
@@
 mn_hlist_invalidate_end(struct mmu_notifier_subscriptions *subs,
			 struct mmu_notifier_range *range
-			 , bool only_end
			 )
 { ... }

@arg@
expression range, only_end;
@@
 __mmu_notifier_invalidate_range_end(range
-				     , only_end
				     )

@arg_hlist@
expression subs, range, only_end;
@@
 mn_hlist_invalidate_end(subs, range
-			 , only_end
			 )
