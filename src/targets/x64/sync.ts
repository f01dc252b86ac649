/**
 * How threads of the program meet, in machine code: waiting for a word to change, waking who waits, the barrier between steps.
 *
 * The barrier is the centralised one with a generation in place of a sense (Mellor-Crummey and Scott, 1991): the last to arrive
 * resets the count and changes the generation. Waiting is a bounded number of looks, then sleep in the system (Linux's futex, Windows'
 * WaitOnAddress), so that more threads than cores still get on. A sleeper counts itself before the system compares, and who changes a word does so by a locked
 * instruction and looks at the count after: one of the two sees the other, so no wake is lost.
 */
import type { NativeCalls } from '../../host/native-types.ts';
import { CONTROL, SLEEPERS } from './control.ts';
import { type Encoder, imm, type Label, mem, RAX, RCX, RDI, RDX, RSI, RSP, r32, r64 } from './encode.ts';

/** Holds the address of the control block in all of the program but kernels, which keep it. */
export const R_CONTROL = 13;
const R8 = 8;
const R9 = 9;
const R10 = 10;

/** linux/futex.h and the x86-64 system call table. */
const SYS_SCHED_YIELD = 24;
const SYS_FUTEX = 202;
const FUTEX_WAIT_PRIVATE = 128;
const FUTEX_WAKE_PRIVATE = 129;
const ALL = 2 ** 31 - 1;
/** What a function of Windows may write to above its return address. */
const SHADOW_BYTES = 32;

/** Subroutines; they keep rbx, rbp and r12 to r15. The stack is aligned to 16 where they are called. */
export interface Sync {
  /** rdi is the address of a word, esi what it was when last seen; returns when it is something else: the next inference … */
  readonly await: Label;
  /** … or other threads in this one. */
  readonly meet: Label;
  /** Wakes all that sleep on the word at rdi. */
  readonly wake: Label;
  /** Returns when all threads have come here. */
  readonly barrier: Label;
}

/**
 * How long a thread looks before it sleeps. Within an inference the others are at work, and a thread that sleeps comes late to the next step
 * and makes all wait for it: so there it looks on, but lets whoever is ready have the processor each time, perhaps the one that it waits for.
 */
export interface Patience {
  /** Looks, 20 to 50 ns each. */
  readonly spins: number;
  /**
   * Looks after those within an inference, half a microsecond each where nobody takes the processor; a fifth of them between two.
   * Windows has no system call for it.
   */
  readonly yields: number;
}

/** Emits the subroutines. */
export function emitSync(code: Encoder, threads: number, patience: Patience, calls: NativeCalls): Sync {
  const sync: Sync = { await: code.newLabel(), meet: code.newLabel(), wake: code.newLabel(), barrier: code.newLabel() };
  emitAwait(code, sync.await, { ...patience, yields: Math.floor(patience.yields / 5) }, calls);
  emitAwait(code, sync.meet, patience, calls);
  emitWake(code, sync, calls);
  emitBarrier(code, sync, threads);
  return sync;
}

function emitAwait(code: Encoder, entry: Label, { spins, yields }: Patience, calls: NativeCalls): void {
  const [spin, done] = [code.newLabel(), code.newLabel()];
  code.align(16);
  code.bind(entry);
  code.emit('mov_oi', r32(RCX), imm(spins));
  code.bind(spin);
  code.emit('cmp_mr', mem(RDI), r32(RSI));
  code.emit('jne', done);
  code.emit('pause');
  code.emit('sub_i', r32(RCX), imm(1));
  code.emit('jne', spin);
  if (yields > 0 && calls.convention === 'systemv') emitYields(code, yields, done);
  addTo(code, RDI, SLEEPERS, 1);
  if (calls.convention === 'windows') emitWaitOnAddress(code, calls.waitOnAddress);
  else emitFutexWait(code);
  addTo(code, RDI, SLEEPERS, -1);
  code.emit('jmp', entry);
  code.bind(done);
  code.emit('ret');
}

/** Up to so many times lets others run, then looks: to `done` where the word has changed. The system keeps rdi, rsi and r8. */
function emitYields(code: Encoder, yields: number, done: Label): void {
  const again = code.newLabel();
  code.emit('mov_oi', r32(R8), imm(yields));
  code.bind(again);
  code.emit('mov_oi', r32(RAX), imm(SYS_SCHED_YIELD));
  code.emit('syscall');
  code.emit('cmp_mr', mem(RDI), r32(RSI));
  code.emit('jne', done);
  code.emit('sub_i', r32(R8), imm(1));
  code.emit('jne', again);
}

/** futex(rdi, FUTEX_WAIT, edx = seen, r10 = no timeout) returns at once where the word has changed already. */
function emitFutexWait(code: Encoder): void {
  code.emit('mov', r32(R8), r32(RSI));
  code.emit('mov', r32(RDX), r32(RSI));
  code.emit('mov_oi', r32(RSI), imm(FUTEX_WAIT_PRIVATE));
  code.emit('xor', r32(R10), r32(R10));
  code.emit('mov_oi', r32(RAX), imm(SYS_FUTEX));
  code.emit('syscall');
  code.emit('mov', r32(RSI), r32(R8));
}

/** WaitOnAddress(rcx = word, rdx = where what was seen lies, r8 = its bytes, r9 = INFINITE); keeps rdi and rsi. */
function emitWaitOnAddress(code: Encoder, address: number): void {
  code.emit('sub_i', r64(RSP), imm(SHADOW_BYTES + 24));
  code.emit('mov_mr', mem(RSP, SHADOW_BYTES), r32(RSI));
  code.emit('mov', r64(RCX), r64(RDI));
  code.emit('lea', r64(RDX), mem(RSP, SHADOW_BYTES));
  code.emit('mov_oi', r32(R8), imm(4));
  code.emit('mov_oi', r32(R9), imm(-1));
  code.emit('movabs', r64(RAX), imm(address));
  code.emit('call_m', r64(RAX));
  code.emit('add_i', r64(RSP), imm(SHADOW_BYTES + 24));
}

function emitWake(code: Encoder, sync: Sync, calls: NativeCalls): void {
  const done = code.newLabel();
  code.align(16);
  code.bind(sync.wake);
  code.emit('cmp_i', mem(RDI, SLEEPERS), imm(0));
  code.emit('je', done);
  if (calls.convention === 'windows') {
    code.emit('sub_i', r64(RSP), imm(SHADOW_BYTES + 8));
    code.emit('mov', r64(RCX), r64(RDI));
    code.emit('movabs', r64(RAX), imm(calls.wakeByAddressAll));
    code.emit('call_m', r64(RAX));
    code.emit('add_i', r64(RSP), imm(SHADOW_BYTES + 8));
  } else {
    code.emit('mov_oi', r32(RSI), imm(FUTEX_WAKE_PRIVATE));
    code.emit('mov_oi', r32(RDX), imm(ALL));
    code.emit('mov_oi', r32(RAX), imm(SYS_FUTEX));
    code.emit('syscall');
  }
  code.bind(done);
  code.emit('ret');
}

function emitBarrier(code: Encoder, sync: Sync, threads: number): void {
  const wait = code.newLabel();
  code.align(16);
  code.bind(sync.barrier);
  code.emit('lea', r64(RDI), mem(R_CONTROL, CONTROL.generation));
  code.emit('mov', r32(RSI), mem(RDI));
  addTo(code, R_CONTROL, CONTROL.arrivals, 1);
  code.emit('cmp_i', r32(RAX), imm(threads - 1));
  code.emit('jne', wait);
  code.emit('mov_mi', mem(R_CONTROL, CONTROL.arrivals), imm(0));
  addTo(code, RDI, 0, 1);
  code.emit('jmp', sync.wake);
  code.bind(wait);
  code.emit('jmp', sync.meet);
}

/** Adds to a word as one locked instruction; eax is the value before. */
export function addTo(code: Encoder, base: number, byteOffset: number, by: number): void {
  code.emit('mov_oi', r32(RAX), imm(by));
  code.emit('lock_xadd', mem(base, byteOffset), r32(RAX));
}
