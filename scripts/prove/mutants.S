/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What mutate.sh hook puts into a kernel: code to which a call, or the jump of a
 * tail call, is led instead of where it went.  Each piece has the arguments of the
 * function that was to be called, and goes there in the end if it goes anywhere.
 *
 * It lies in __do_adjtimex(), which only the system call adjtimex() runs: no test
 * sets the clock.  In it is nothing that the kernel patches while it boots.  What a
 * piece remembers is in kernfs_pr_cont_buf, for messages of kernfs that no test asks
 * for: code cannot be written to once the kernel is up.
 */

	.set	memory, kernfs_pr_cont_buf
	.set	page, 4096
	.set	huge, 2 * 1024 * 1024

/*
 * Where the structs have their members; mutate.sh compares them with the kernel.
 * That of mm_flags differs between releases, and comes from there.
 */
	.set	vma_mm, 0x10
	.set	mm_has_secondary_tlb, 1 << 28
	.set	gather_mm, 0
	.set	gather_start, 0x8
	.set	gather_end, 0x10
	.set	gather_bits, 0x18		/* bit 0 is fullmm */

	.text

/* Nothing is changed: proves that the place is good for code. */
same:	jmp	__mmu_notifier_invalidate_range

/* Nothing is called. */
nothing:
	ret

/* --- __mmu_notifier_invalidate_range(%rdi mm, %rsi start, %rdx end) --------- */

empty:	mov	%rsi, %rdx
	jmp	__mmu_notifier_invalidate_range

first:	add	$page, %rsi
	jmp	__mmu_notifier_invalidate_range

last:	sub	$page, %rdx
	jmp	__mmu_notifier_invalidate_range

shift:	add	$page, %rsi
	add	$page, %rdx
	jmp	__mmu_notifier_invalidate_range

/* The call is made when the next one is due, or after invalidate_range_end(). */
late:	xchg	%rdi, memory
	xchg	%rsi, memory + 8
	xchg	%rdx, memory + 16
	test	%rdi, %rdi
	jnz	__mmu_notifier_invalidate_range
	ret

late_end:
	call	__mmu_notifier_invalidate_range_end
	xor	%edi, %edi
	xchg	%rdi, memory
	mov	memory + 8, %rsi
	mov	memory + 16, %rdx
	test	%rdi, %rdi
	jnz	__mmu_notifier_invalidate_range
	ret

/* --- __tlb_invalidate_secondary(%rdi gather) --------------------------------- */

/* The pages and page tables that were gathered are freed before the call. */
freed_first:
	push	%rdi
	call	tlb_batch_pages_flush
	pop	%rdi
	jmp	__tlb_invalidate_secondary

/* What the freed page tables mapped is not in the range. */
no_tables:
	testb	$1, gather_bits(%rdi)
	jnz	__tlb_invalidate_secondary
	mov	gather_start(%rdi), %rsi
	mov	gather_end(%rdi), %rdx
	mov	gather_mm(%rdi), %rdi
	jmp	__mmu_notifier_invalidate_range

/* Nothing is called when another gather is under way. */
no_nested:
	testb	$1, gather_bits(%rdi)
	jz	__tlb_invalidate_secondary
	ret

/* --- srcu_barrier(%rdi srcu) ------------------------------------------------ */

	.globl	srcu_barrier		/* where the call went */

/* What has been put is free to be freed, but may not have been yet. */
grace_period:
	jmp	synchronize_srcu

/* --- helpers(%rdi vma, %rsi address, %rdx entry), their own call knocked out -- */

/* The call comes before the entry is cleared. */
	.macro	early helper, size
early_\helper:
	push	%rdi
	push	%rsi
	push	%rdx
	mov	vma_mm(%rdi), %rdi
	testl	$mm_has_secondary_tlb, mm_flags(%rdi)
	jz	1f
	lea	\size(%rsi), %rdx
	call	__mmu_notifier_invalidate_range
1:	pop	%rdx
	pop	%rsi
	pop	%rdi
	jmp	\helper
	.endm

	early	ptep_clear_flush, page
	early	pmdp_huge_clear_flush, huge
	early	pmdp_invalidate, huge
	early	pmdp_collapse_flush, huge

/* --- amd_iommu_flush_range(%rdi domain, %esi PASID, %rdx address, %rcx size) - */

amd_pasid:
	xor	$1, %esi
	jmp	amd_iommu_flush_range

amd_first:
	cmp	$page, %rcx
	jbe	amd_iommu_flush_range
	add	$page, %rdx
	sub	$page, %rcx
	jmp	amd_iommu_flush_range

amd_last:
	cmp	$page, %rcx
	jbe	amd_iommu_flush_range
	sub	$page, %rcx
	jmp	amd_iommu_flush_range

amd_shift:
	add	$page, %rdx
	jmp	amd_iommu_flush_range

amd_all:
	xor	%edx, %edx
	mov	$0x7fffffffffffffff, %rcx
	jmp	amd_iommu_flush_range

/* --- __iommu_queue_command_sync(%rdi iommu, %rsi command, %dl sync) ---------- */

/* Commands of another kind are queued as they are. */
	.set	fence, 1
	.set	iommu_pages, 3
	.set	iotlb_pages, 4

	.macro	if_command kind
	mov	4(%rsi), %eax
	shr	$28, %eax
	cmp	$\kind, %eax
	jne	__iommu_queue_command_sync
	.endm

	.macro	skip name, kind
\name:	if_command \kind
	xor	%eax, %eax
	ret
	.endm

	.macro	change name, kind, insn:vararg
\name:	if_command \kind
	\insn
	jmp	__iommu_queue_command_sync
	.endm

	skip	no_iommu, iommu_pages
	skip	no_fence, fence
	skip	no_device, iotlb_pages
	change	no_f_bit, fence, andb $~4, (%rsi)
	change	iommu_pasid, iommu_pages, xorl $1, (%rsi)
	change	iommu_no_s_bit, iommu_pages, andb $~1, 8(%rsi)
	change	iommu_no_gn_bit, iommu_pages, andb $~4, 8(%rsi)
	change	iommu_shift, iommu_pages, addl $page, 8(%rsi)
	change	device_pasid_low, iotlb_pages, xorl $0x10000, 4(%rsi)
	change	device_pasid_high, iotlb_pages, xorl $0x10000, (%rsi)
	change	device_no_s_bit, iotlb_pages, andb $~1, 8(%rsi)
	change	device_no_gn_bit, iotlb_pages, andb $~4, 8(%rsi)
	change	device_shift, iotlb_pages, addl $page, 8(%rsi)
	change	device_qdep, iotlb_pages, xorb $1, 3(%rsi)

/* Devices whose function is odd are left out. */
one_device:
	testb	$1, (%rsi)
	jz	__iommu_queue_command_sync
	if_command iotlb_pages
	xor	%eax, %eax
	ret

/* The commands for the IOMMU are queued when it is to be waited for. */
device_first:
	if_command iommu_pages
	mov	memory, %eax
	incl	memory
	shl	$4, %eax
	mov	(%rsi), %rdx
	mov	%rdx, memory + 16(%rax)
	mov	8(%rsi), %rdx
	mov	%rdx, memory + 24(%rax)
	xor	%eax, %eax
	ret

device_first_wait:
	push	%rbx
	push	%rdi
	lea	memory, %rbx
1:	decl	memory
	js	2f
	add	$16, %rbx
	mov	%rbx, %rsi
	mov	(%rsp), %rdi
	mov	$1, %edx
	call	__iommu_queue_command_sync
	jmp	1b
2:	incl	memory
	pop	%rdi
	pop	%rbx
	jmp	iommu_completion_wait

/* --- iommu_completion_wait(%rdi iommu) ---------------------------------------- */

no_wait:
	xor	%eax, %eax
	ret

/* --- qi_fill_piotlb(%rdi descriptor, %si domain, %edx PASID, %rcx address, %r8 pages, %r9b hint) --- */

	.macro	piotlb name, insn:vararg
\name:	\insn
	jmp	qi_fill_piotlb
	.endm

	piotlb	vtd_pasid, xor $1, %edx
	piotlb	vtd_pasid_high, xor $0x1000, %edx
	piotlb	vtd_domain, xor $1, %esi
	piotlb	vtd_first_page, mov $1, %r8d
	piotlb	vtd_shift, add $page, %rcx
	piotlb	vtd_hint, mov $1, %r9b
	piotlb	vtd_all, mov $-1, %r8

/* What goes beyond the mask of the capability. */
vtd_no_clamp:
	cmp	$-1, %r8
	jne	qi_fill_piotlb
	mov	$1 << 19, %r8d
	jmp	qi_fill_piotlb

/* Half of it, where there is more than a page. */
vtd_half:
	cmp	$1, %r8
	je	qi_fill_piotlb
	shr	%r8
	jmp	qi_fill_piotlb

/*
 * --- qi_fill_dev_iotlb_pasid(%rdi descriptor, %si source, %dx PFSID, %ecx PASID, %r8w depth,
 * ---			       %r9 address, 8(%rsp) order)
 */

	.macro	devtlb name, insn:vararg
\name:	\insn
	jmp	qi_fill_dev_iotlb_pasid
	.endm

	devtlb	vtd_device_source, xor $0x100, %esi
	devtlb	vtd_device_pasid, xor $1, %ecx
	devtlb	vtd_device_depth, xor $1, %r8d
	devtlb	vtd_device_shift, add $page, %r9
	devtlb	vtd_device_first_page, movl $0, 8(%rsp)

/* --- qi_submit_sync(%rdi iommu, %rsi descriptors, %edx count, %rcx options) --- */

	.set	wait, 5
	.set	descriptor, 32

/* Up to the fence there are those for the IOTLB. */
vtd_no_device:
	xor	%edx, %edx
	mov	%rsi, %rax
1:	inc	%edx
	add	$descriptor, %rax
	cmpb	$0x40 | wait, (%rax)
	jne	1b
	jmp	qi_submit_sync

vtd_no_iotlb:
	dec	%edx
	cmpb	$0x40 | wait, (%rsi)
	lea	descriptor(%rsi), %rsi
	jne	vtd_no_iotlb
	jmp	qi_submit_sync

/* The last one is missing: one of two pieces, or the device. */
vtd_no_last:
	dec	%edx
	jmp	qi_submit_sync

/* Instead of the fence, the first one twice. */
vtd_no_fence:
	mov	%rsi, %rax
1:	add	$descriptor, %rax
	cmpb	$0x40 | wait, (%rax)
	jne	1b
	mov	(%rsi), %r8
	mov	%r8, (%rax)
	mov	8(%rsi), %r8
	mov	%r8, 8(%rax)
	jmp	qi_submit_sync

/* The first and the last one change places. */
vtd_device_before:
	mov	%edx, %eax
	dec	%eax
	shl	$5, %eax
	add	%rsi, %rax
	mov	(%rsi), %r8
	xchg	%r8, (%rax)
	mov	%r8, (%rsi)
	mov	8(%rsi), %r8
	xchg	%r8, 8(%rax)
	mov	%r8, 8(%rsi)
	jmp	qi_submit_sync

vtd_nothing:
	xor	%eax, %eax
	ret

	.section .note.GNU-stack, "", @progbits
