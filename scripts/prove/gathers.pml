/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Gathers on one mm that meet: which range must the finisher of a nested one
 * tell secondary TLBs of? For Spin: scripts/prove/model.sh.
 *
 * There are two addresses in one page table, frames that are freed and used again,
 * a device that walks when it likes and caches translations and a pointer to the
 * table, and two or three gathers. A gather zaps, write-protects, or zaps and frees
 * the table; it can flush in the middle. Asserted: no frame and no table is freed
 * while the device holds it; and what a gather has looked at is gone from the device
 * when its operation returns.
 *
 * -DP_OP is what mm/mmu_gather.c does: what was looked at, what was changed, and the
 * table. The other P_ and M_ are other designs and mistakes.
 */
#define NA 2            /* addresses, both in one page table */
#define NF 4            /* frames 1..NF-1 */
#ifndef MAPS
#define MAPS 2
#endif
byte pte[NA], ep[NA];   bit w[NA];
byte dev[NA], dep[NA];  bit dw[NA];     /* device translations */
bit devT;                               /* device pointer to the table */
bit linked = 1, tfreed = 0;             /* page table */
byte st[NF];                            /* 0 free, 1 mapped, 2 in a batch */
byte pend;                              /* mm->tlb_flush_pending */
byte scanning;                          /* gathers that still walk the table */
byte left = MAPS;
byte opn[3];  /* registry for (ii): bit per address: 1=addr0, 2=addr1, of open gathers */

inline drop(a) { dev[a]=0; dep[a]=0; dw[a]=0 }
#define HOLDS(f) (dev[0]==f || dev[1]==f)

inline freebatch() {
  atomic {
    f = 1;
    do
    :: f < NF -> if :: (batch & (1<<f)) -> assert(!HOLDS(f)); st[f]=0 :: else fi; f++
    :: else -> break
    od; f = 0;
    if :: ownT -> assert(!devT); tfreed=1 :: else fi;
    batch = 0
  }
}
inline flushmask(m) {  /* one command per address, other things happen between */
  if :: (m & 1) -> atomic { drop(0); if :: (m & 4) || ((m&3)==3) -> devT = 0 :: else fi } :: else fi;
  if :: (m & 2) -> atomic { drop(1); if :: (m & 4) || ((m&3)==3) -> devT = 0 :: else fi } :: else fi;
}

/* kind: 0 zap, 1 write-protect, 2 zap and free the table (munmap) */
proctype gather(byte id; byte lo; byte hi; byte kind) {
  byte a, f, m; byte batch; byte own; bit ownT; bit nested; byte rec[NA]; byte sc; byte op;
  atomic { pend++; scanning++; op = (lo==hi -> (1<<lo) : 3); opn[id]=op; }
#ifdef M_NESTEARLY
  nested = (pend > 1);
#endif
  a = lo;
  do
  :: a <= hi ->
     atomic {
       sc = sc | (1<<a); rec[a] = ep[a];
       if
       :: pte[a] && kind != 1 -> f = pte[a]; st[f]=2; batch = batch | (1<<f); pte[a]=0; own = own | (1<<a); f=0
       :: pte[a] && kind == 1 && w[a] -> w[a]=0; own = own | (1<<a)
       :: else
       fi; a++
     };
     if      /* batch full, dirty page, PFN mapping, next VMA: flush in the middle */
     :: skip
     :: own -> flushmask(own); freebatch(); own = 0;
#ifdef M_RESETMID
        sc = 0; op = 0;
#endif
     fi
  :: else -> break
  od;
  scanning--;
  if
  :: kind == 2 -> /* locks keep scanners out before a table is freed */
     atomic { scanning == 0 -> linked = 0; ownT = 1 }
  :: else
  fi;
#ifndef M_NESTEARLY
  nested = (pend > 1);
#endif
#ifdef M_DECEARLY
  pend--;
#endif
  m = own | (ownT -> 7 : 0);
  if
  :: nested ->
#if defined(P_WHOLE)
     m = 7
#elif defined(P_OP)
     m = m | op
#elif defined(P_OPONLY)
     m = op
#elif defined(P_OWN)
     skip
#elif defined(P_EMPTY)
     if :: m == 0 -> skip :: else -> m = m | op fi
#elif defined(P_INTER)
     atomic { m = m | (op & ((id!=0 -> opn[0] : 0) | (id!=1 -> opn[1] : 0) | (id!=2 -> opn[2] : 0))) }
#endif
  :: else
  fi;
#ifdef M_FREEFIRST
  freebatch(); flushmask(m);
#else
  flushmask(m); freebatch();
#endif
#ifndef M_DECEARLY
  atomic { opn[id]=0; pend-- };
#else
  opn[id]=0;
#endif
  /* the operation returns: what it scanned is gone */
  d_step {
    a = lo;
    do
    :: a <= hi ->
       assert(!(dev[a] && dep[a] <= rec[a] && (kind != 1 || dw[a]))); a++
    :: else -> break
    od
  }
}

active proctype mapper() {
  byte f; byte a;
  do
  :: atomic { left && linked && pte[0]==0 && st[3]==0 -> a=0; f=3; st[f]=1; pte[a]=f; w[a]=1; ep[a]++; left--; a=0; f=0 }
  :: atomic { left && linked && pte[1]==0 && st[3]==0 -> a=1; f=3; st[f]=1; pte[a]=f; w[a]=1; ep[a]++; left--; a=0; f=0 }
  :: atomic { left && linked && pte[0]==0 && st[1]==0 -> a=0; f=1; st[f]=1; pte[a]=f; w[a]=1; ep[a]++; left--; a=0; f=0 }
  :: left == 0 -> break
  :: break
  od
}
active proctype device() {
  do
  :: atomic { linked -> devT = 1 }
  :: atomic { linked && pte[0] -> dev[0]=pte[0]; dep[0]=ep[0]; dw[0]=w[0]; devT=1 }
  :: atomic { linked && pte[1] -> dev[1]=pte[1]; dep[1]=ep[1]; dw[1]=w[1]; devT=1 }
  /* by a cached table pointer, without the upper levels */
  :: atomic { devT && pte[0] -> dev[0]=pte[0]; dep[0]=ep[0]; dw[0]=w[0] }
  :: atomic { devT && pte[1] -> dev[1]=pte[1]; dep[1]=ep[1]; dw[1]=w[1] }
  :: atomic { dev[0] -> drop(0) }
  od
}
init {
  atomic {
    ep[0]=1; ep[1]=1; pte[0]=1; pte[1]=2; st[1]=1; st[2]=1; w[0]=1; w[1]=1;
    run gather(0, G0LO, G0HI, G0K);
    run gather(1, G1LO, G1HI, G1K);
#ifdef G2K
    run gather(2, G2LO, G2HI, G2K);
#endif
  }
}
