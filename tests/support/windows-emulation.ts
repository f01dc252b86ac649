/**
 * Code for Windows run on Linux: a native system whose functions are called, and whose threads start, by Windows' calling convention,
 * and whose WaitOnAddress and WakeByAddressAll are a few instructions around the futex.
 *
 * Callers fill every register that a function of Windows must keep, and look at them after; the two functions of the system change
 * every register that they may change, write to their callers' shadow space, and look whether the stack is aligned. What is
 * found wrong is counted in one word.
 */
import type { NativeFunction, NativeType } from '../../src/host/ffi.ts';
import type { NativeSystem } from '../../src/host/native-types.ts';
import {
  Encoder,
  imm,
  type Label,
  mem,
  RAX,
  RBP,
  RBX,
  RCX,
  RDI,
  RDX,
  RSI,
  RSP,
  r32,
  r64,
  xmm,
} from '../../src/targets/x64/encode.ts';

const [R8, R9, R10, R11] = [8, 9, 10, 11];
const SYSTEMV_SAVED = [RBX, RBP, 12, 13, 14, 15];
const WINDOWS_SAVED = [...SYSTEMV_SAVED, RDI, RSI];
const WINDOWS_SAVED_VECTORS = [6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const SHADOW_BYTES = 32;
const SYS_FUTEX = 202;
const [WAIT, WAKE] = [128, 129];
const CODE_BYTES = 8192;

export interface WindowsEmulation {
  readonly system: NativeSystem;
  /** Breaches of the convention so far. */
  faults(): number;
}

export function emulateWindows(linux: NativeSystem): WindowsEmulation {
  const word = new Int32Array(new SharedArrayBuffer(64));
  const code = new Encoder();
  const labels = emitAll(code, linux.ffi.addressOf(word));
  const bytes = code.finish();
  const base = linux.mapPages(CODE_BYTES);
  linux.write(base, bytes);
  linux.makeExecutable(base, CODE_BYTES);
  const at = (label: Label): number => base + code.offsetOf(label);
  // A thread's block holds its entry and its argument; blocks live as long as the emulation.
  const blocks: BigInt64Array[] = [];
  const system: NativeSystem = {
    ...linux,
    calls: { convention: 'windows', waitOnAddress: at(labels.wait), wakeByAddressAll: at(labels.wake) },
    ffi: {
      ...linux.ffi,
      functionAt: (address: number, result: NativeType, args: readonly NativeType[]): NativeFunction => {
        const call = linux.ffi.functionAt(at(labels.call), result, ['intptr', ...args]);
        return (...values) => call(address, ...values);
      },
    },
    startThread: (entry, argument) => {
      const block = new BigInt64Array(new SharedArrayBuffer(64));
      block.set([BigInt(entry), BigInt(argument)]);
      blocks.push(block);
      return linux.startThread(at(labels.thread), linux.ffi.addressOf(block));
    },
  };
  return { system, faults: () => word[0] };
}

function emitAll(code: Encoder, faults: number): Record<'call' | 'thread' | 'wait' | 'wake', Label> {
  const entry = (body: () => void): Label => {
    const label = code.newLabel();
    code.align(16);
    code.bind(label);
    body();
    return label;
  };
  return {
    call: entry(() => emitCall(code, faults)),
    thread: entry(() => emitThread(code)),
    wait: entry(() => emitFunction(code, faults, () => emitWait(code))),
    wake: entry(() => emitFunction(code, faults, () => emitWake(code))),
  };
}

/** Counts where the last comparison was unequal; changes r11 only. */
function countUnlessEqual(code: Encoder, faults: number): void {
  const equal = code.newLabel();
  code.emit('je', equal);
  code.emit('movabs', r64(R11), imm(faults));
  code.emit('add_i', mem(R11), imm(1));
  code.bind(equal);
}

/** System V's call(entry, a, b, c) as Windows' entry(a, b, c). */
function emitCall(code: Encoder, faults: number): void {
  for (const n of SYSTEMV_SAVED) code.emit('push', r64(n));
  code.emit('sub_i', r64(RSP), imm(SHADOW_BYTES + 8));
  code.emit('mov', r64(RAX), r64(RDI));
  code.emit('mov', r64(R8), r64(RCX));
  code.emit('mov', r64(RCX), r64(RSI));
  WINDOWS_SAVED.forEach((n) => {
    code.emit('mov_oi', r32(n), imm(0x1000 + n));
  });
  WINDOWS_SAVED_VECTORS.forEach((n) => {
    code.emit('mov_oi', r32(R10), imm(0x2000 + n));
    code.emit('vmovd', xmm(n), r32(R10));
  });
  code.emit('call_m', r64(RAX));
  WINDOWS_SAVED.forEach((n) => {
    code.emit('cmp_i', r64(n), imm(0x1000 + n));
    countUnlessEqual(code, faults);
  });
  WINDOWS_SAVED_VECTORS.forEach((n) => {
    code.emit('vmovd_mr', r32(R10), xmm(n));
    code.emit('cmp_i', r32(R10), imm(0x2000 + n));
    countUnlessEqual(code, faults);
  });
  code.emit('add_i', r64(RSP), imm(SHADOW_BYTES + 8));
  for (const n of SYSTEMV_SAVED.toReversed()) code.emit('pop', r64(n));
  code.emit('ret');
}

/** System V's thread(block) as Windows' block[0](block[1]). */
function emitThread(code: Encoder): void {
  code.emit('sub_i', r64(RSP), imm(SHADOW_BYTES + 8));
  code.emit('mov', r64(RCX), mem(RDI, 8));
  code.emit('call_m', { ...mem(RDI), isWide: true });
  code.emit('add_i', r64(RSP), imm(SHADOW_BYTES + 8));
  code.emit('ret');
}

/** A function of Windows around `body`, as unkind as one may be. */
function emitFunction(code: Encoder, faults: number, body: () => void): void {
  code.emit('mov', r64(RAX), r64(RSP));
  code.emit('and_i', r32(RAX), imm(15));
  code.emit('cmp_i', r32(RAX), imm(8));
  countUnlessEqual(code, faults);
  for (let at = 8; at < 8 + SHADOW_BYTES; at += 8) code.emit('mov_mr', mem(RSP, at), r64(RAX));
  code.emit('push', r64(RDI));
  code.emit('push', r64(RSI));
  body();
  code.emit('pop', r64(RSI));
  code.emit('pop', r64(RDI));
  for (const n of [RCX, RDX, R8, R9, R10, R11]) code.emit('mov_oi', r32(n), imm(-1));
  for (const n of [0, 1, 2, 3, 4, 5]) code.emit('vmovd', xmm(n), r32(RCX));
  code.emit('mov_oi', r32(RAX), imm(1));
  code.emit('ret');
}

/** WaitOnAddress(rcx: word, rdx: what it was, r8d: 4, r9d: forever) */
function emitWait(code: Encoder): void {
  code.emit('mov', r64(RDI), r64(RCX));
  code.emit('mov', r32(RDX), mem(RDX));
  code.emit('mov_oi', r32(RSI), imm(WAIT));
  code.emit('xor', r32(R10), r32(R10));
  code.emit('mov_oi', r32(RAX), imm(SYS_FUTEX));
  code.emit('syscall');
}

/** WakeByAddressAll(rcx: word) */
function emitWake(code: Encoder): void {
  code.emit('mov', r64(RDI), r64(RCX));
  code.emit('mov_oi', r32(RDX), imm(2 ** 31 - 1));
  code.emit('mov_oi', r32(RSI), imm(WAKE));
  code.emit('mov_oi', r32(RAX), imm(SYS_FUTEX));
  code.emit('syscall');
}
