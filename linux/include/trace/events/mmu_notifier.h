/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM mmu_notifier

#if !defined(_TRACE_MMU_NOTIFIER_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_MMU_NOTIFIER_H

#include <linux/tracepoint.h>
#include <linux/types.h>

struct mm_struct;

/*
 * The secondary TLBs of so many subscribers are about to be flushed.  caller is
 * where the call was made, often in a helper; caller1 and so on are who called
 * that, as far as it is known.
 */
#define MMU_NOTIFIER_TRACE_CALLERS	4

#if TREE < 703
TRACE_EVENT(mmu_notifier_invalidate_range,
#else
TRACE_EVENT(arch_invalidate_secondary_tlbs,
#endif

	TP_PROTO(struct mm_struct *mm, unsigned long start, unsigned long end,
		 unsigned int subscribers, const unsigned long *callers),

	TP_ARGS(mm, start, end, subscribers, callers),

	TP_STRUCT__entry(
		__field(struct mm_struct *, mm)
		__field(unsigned long, start)
		__field(unsigned long, end)
		__field(unsigned int, subscribers)
		__field(unsigned long, caller)
		__field(unsigned long, caller1)
		__field(unsigned long, caller2)
		__field(unsigned long, caller3)
	),

	TP_fast_assign(
		__entry->mm = mm;
		__entry->start = start;
		__entry->end = end;
		__entry->subscribers = subscribers;
		__entry->caller = callers[0];
		__entry->caller1 = callers[1];
		__entry->caller2 = callers[2];
		__entry->caller3 = callers[3];
	),

	TP_printk("mm=%p start=0x%lx end=0x%lx subscribers=%u caller=%pS <- %pS <- %pS <- %pS",
		  __entry->mm, __entry->start, __entry->end,
		  __entry->subscribers, (void *)__entry->caller,
		  (void *)__entry->caller1, (void *)__entry->caller2,
		  (void *)__entry->caller3)
);

#endif /* _TRACE_MMU_NOTIFIER_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
