"""LLVM IR text of the thread pool: starting, ending, surviving a fork. See `pool_ir`."""

from __future__ import annotations

DECLARATIONS = """
declare i32 @pthread_create(ptr, ptr, ptr, ptr) nounwind
declare i32 @pthread_join($WORD, ptr) nounwind
declare $WORD @pthread_self() nounwind
declare i32 @pthread_sigmask(i32, ptr, ptr) nounwind
declare i32 @sched_yield() nounwind
declare i32 @getpid() nounwind
declare ptr @mmap(ptr, $WORD, i32, i32, i32, $WORD) nounwind
declare i32 @munmap(ptr, $WORD) nounwind
declare i32 @madvise(ptr, $WORD, i32) nounwind
declare $WORD @syscall($WORD, ...) nounwind
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
$DECLARE_HINT

define i64 @flowc_pool_size(i32 %n) nounwind {
  %n64 = sext i32 %n to i64
  %records = mul i64 %n64, $RECORD
  %size = add i64 %records, $HEADER
  ret i64 %size
}

define internal void @flowc_futex_wait(ptr %word, i32 %value) nounwind {
  %r = call $WORD ($WORD, ...) @syscall($WORD $FUTEX, ptr %word, i32 128, i32 %value, ptr null,
                                        ptr null, i32 0)
  ret void
}

define internal void @flowc_futex_wake(ptr %word, i32 %count) nounwind {
  %r = call $WORD ($WORD, ...) @syscall($WORD $FUTEX, ptr %word, i32 129, i32 %count, ptr null,
                                        ptr null, i32 0)
  ret void
}

define internal void @flowc_pause(i32 %i) nounwind {
  $PAUSE
  %low = and i32 %i, $YIELDMASK
  %yields = icmp eq i32 %low, $YIELDMASK
  br i1 %yields, label %yield, label %out
yield:
  %r = call i32 @sched_yield()
  br label %out
out:
  ret void
}
"""

LIFE = """
define i32 @flowc_pool_init(ptr %pool, i32 %n) nounwind {
entry:
  %low = icmp slt i32 %n, 1
  %wanted = select i1 %low, i32 1, i32 %n
  %size = call i64 @flowc_pool_size(i32 %wanted)
  call void @llvm.memset.p0.i64(ptr %pool, i8 0, i64 %size, i1 false)
  %p.wanted = $&wanted
  store i32 %wanted, ptr %p.wanted
  %page = call ptr @mmap(ptr null, $WORD 4096, i32 3, i32 34, i32 -1, $WORD 0)
  %value = ptrtoint ptr %page to $WORD
  %failed = icmp eq $WORD %value, -1
  br i1 %failed, label %start, label %advise
advise:
  %rc = call i32 @madvise(ptr %page, $WORD 4096, i32 18)
  %ok = icmp eq i32 %rc, 0
  br i1 %ok, label %keep, label %unmap
keep:
  %p.page = $&page
  store ptr %page, ptr %p.page
  br label %start
unmap:
  %ignored = call i32 @munmap(ptr %page, $WORD 4096)
  br label %start
start:
  call void @flowc_pool_start(ptr %pool)
  %p.n = $&n
  %got = load i32, ptr %p.n
  ret i32 %got
}

; Create the threads and mark the pool as this process's, unlocked.
define internal void @flowc_pool_start(ptr %pool) nounwind {
entry:
  %mask = alloca [16 x i64], align 16
  %old = alloca [16 x i64], align 16
  %p.busy = $&busy
  %p.stop = $&stop
  %p.epoch = $&epoch
  %p.sleepers = $&sleepers
  %p.job = $&job
  %p.n = $&n
  %p.pid = $&pid
  %p.wanted = $&wanted
  store i32 0, ptr %p.stop
  store i32 0, ptr %p.epoch
  store i32 0, ptr %p.sleepers
  store i32 $CLOSED, ptr %p.job
  store i32 1, ptr %p.n
  %wanted = load i32, ptr %p.wanted
  call void @llvm.memset.p0.i64(ptr %mask, i8 -1, i64 128, i1 false)
  store i64 $SIGNALS, ptr %mask
  %r1 = call i32 @pthread_sigmask(i32 2, ptr %mask, ptr %old)
  br label %loop
loop:
  %i = phi i32 [ 1, %entry ], [ %i.next, %created ]
  %more = icmp slt i32 %i, %wanted
  br i1 %more, label %create, label %done
create:
  %i64 = sext i32 %i to i64
  %offset = mul i64 %i64, $RECORD
  %at = add i64 %offset, $HEADER
  %record = getelementptr i8, ptr %pool, i64 %at
  %index = getelementptr i8, ptr %record, i64 8
  %tid = getelementptr i8, ptr %record, i64 16
  store ptr %pool, ptr %record
  store i32 %i, ptr %index
  %rc = call i32 @pthread_create(ptr %tid, ptr null, ptr @flowc_worker, ptr %record)
  %ok = icmp eq i32 %rc, 0
  br i1 %ok, label %created, label %done
created:
  %i.next = add i32 %i, 1
  store i32 %i.next, ptr %p.n
  br label %loop
done:
  %r2 = call i32 @pthread_sigmask(i32 2, ptr %old, ptr null)
  %p.page = $&page
  %page = load ptr, ptr %p.page
  %none = icmp eq ptr %page, null
  br i1 %none, label %publish, label %mark
mark:
  store atomic i32 1, ptr %page seq_cst, align 4
  br label %publish
publish:
  %pid = call i32 @getpid()
  store atomic i32 %pid, ptr %p.pid seq_cst, align 4
  ret void
}

define i32 @flowc_pool_destroy(ptr %pool) nounwind {
entry:
  %alive = call i1 @flowc_pool_alive(ptr %pool)
  br i1 %alive, label %lock, label %free
lock:
  %p.busy = $&busy
  %pair = cmpxchg ptr %p.busy, i32 0, i32 1 acquire monotonic
  %got = extractvalue { i32, i1 } %pair, 1
  br i1 %got, label %stop, label %refuse
refuse:
  ret i32 1
stop:
  %p.stop = $&stop
  %p.epoch = $&epoch
  %p.n = $&n
  store atomic i32 1, ptr %p.stop seq_cst, align 4
  %e = atomicrmw add ptr %p.epoch, i32 1 seq_cst
  call void @flowc_futex_wake(ptr %p.epoch, i32 2147483647)
  %n = load i32, ptr %p.n
  br label %loop
loop:
  %i = phi i32 [ 1, %stop ], [ %i.next, %join ]
  %more = icmp slt i32 %i, %n
  br i1 %more, label %join, label %joined
join:
  %i64 = sext i32 %i to i64
  %offset = mul i64 %i64, $RECORD
  %at = add i64 %offset, $HEADER
  %record = getelementptr i8, ptr %pool, i64 %at
  %tidp = getelementptr i8, ptr %record, i64 16
  %tid = load $WORD, ptr %tidp
  %rc = call i32 @pthread_join($WORD %tid, ptr null)
  %i.next = add i32 %i, 1
  br label %loop
joined:
  store i32 1, ptr %p.n
  store atomic i32 0, ptr %p.busy release, align 4
  br label %free
free:
  %p.page = $&page
  %page = load ptr, ptr %p.page
  %none = icmp eq ptr %page, null
  br i1 %none, label %out, label %unmap
unmap:
  %r = call i32 @munmap(ptr %page, $WORD 4096)
  store ptr null, ptr %p.page
  br label %out
out:
  ret i32 0
}
"""

FORK = """
; Whether the threads belong to this process.
define internal i1 @flowc_pool_alive(ptr %pool) nounwind {
entry:
  %p.page = $&page
  %page = load ptr, ptr %p.page
  %none = icmp eq ptr %page, null
  br i1 %none, label %bypid, label %bypage
bypage:
  %mark = load atomic i32, ptr %page acquire, align 4
  %marked = icmp ne i32 %mark, 0
  ret i1 %marked
bypid:
  %p.pid = $&pid
  %pid = load atomic i32, ptr %p.pid acquire, align 4
  %me = call i32 @getpid()
  %mine = icmp eq i32 %pid, %me
  ret i1 %mine
}

; In a forked child: one thread starts the pool anew (1), all others run inline (0).
define internal i1 @flowc_pool_revive(ptr %pool) noinline cold nounwind {
entry:
  %p.pid = $&pid
  %p.busy = $&busy
  %old = load atomic i32, ptr %p.pid seq_cst, align 4
  %rebuilding = icmp eq i32 %old, -1
  br i1 %rebuilding, label %no, label %claim
claim:
  %pair = cmpxchg ptr %p.pid, i32 %old, i32 -1 seq_cst seq_cst
  %got = extractvalue { i32, i1 } %pair, 1
  br i1 %got, label %check, label %no
check:
  %p.page = $&page
  %page = load ptr, ptr %p.page
  %none = icmp eq ptr %page, null
  br i1 %none, label %start, label %checkpage
checkpage:
  %mark = load atomic i32, ptr %page seq_cst, align 4
  %done = icmp ne i32 %mark, 0
  br i1 %done, label %undo, label %start
undo:
  store atomic i32 %old, ptr %p.pid seq_cst, align 4
  br label %no
start:
  store atomic i32 0, ptr %p.busy seq_cst, align 4
  call void @flowc_pool_start(ptr %pool)
  ret i1 true
no:
  ret i1 false
}

; The index of the calling thread in the running job: nested loops keep their worker's scratch.
define internal i32 @flowc_whoami(ptr %pool) noinline cold nounwind {
entry:
  %self = call $WORD @pthread_self()
  %p.owner = $&owner
  %owner = load atomic $WORD, ptr %p.owner monotonic, align 8
  %p.n = $&n
  %n = load i32, ptr %p.n
  %isowner = icmp eq $WORD %self, %owner
  br i1 %isowner, label %zero, label %loop
loop:
  %i = phi i32 [ 1, %entry ], [ %i.next, %next ]
  %more = icmp slt i32 %i, %n
  br i1 %more, label %test, label %zero
test:
  %i64 = sext i32 %i to i64
  %offset = mul i64 %i64, $RECORD
  %at = add i64 %offset, $HEADER
  %record = getelementptr i8, ptr %pool, i64 %at
  %p.tid = getelementptr i8, ptr %record, i64 24
  %tid = load atomic $WORD, ptr %p.tid monotonic, align 8
  %match = icmp eq $WORD %tid, %self
  br i1 %match, label %found, label %next
next:
  %i.next = add i32 %i, 1
  br label %loop
found:
  ret i32 %i
zero:
  ret i32 0
}
"""
