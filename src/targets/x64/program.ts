/**
 * A whole network as machine code: a function a kernel and tactic, and for each thread the straight line of its calls.
 *
 * In come kernels, steps, the number of threads and whoever writes the code of one kernel; out go bytes that run at any address, the
 * same for the same input. How many threads there are is known here, so a step that a thread has no part in is not in its line. Tiles
 * are shared out as share.ts says, or by fixed ranges where they are few. Entries follow the system's convention:
 *
 *     run(weights, arena, control)           thread 0: wakes the workers, does its share, returns when all have finished
 *     worker(control)                        one entry a worker: waits for the epoch to change, runs, waits again, until told to stop
 *     stop(control)                          tells the workers
 *     step(entry, weights, arena)            one step on the calling thread, by its entry
 *
 * On Windows (x64 ABI conventions of Microsoft's C++ documentation) an entry keeps rdi, rsi and xmm6 to xmm15 too, and moves its
 * arguments to where System V has them. Between entries and kernels rbx holds the weights' address, r12 the arena's, r13 the control block's.
 */
import type { BufferRef, Step, Tactic } from '../../engine/engine.ts';
import { type ScratchLayout, scratchLayout } from '../../engine/scratch.ts';
import type { NativeCalls } from '../../host/native-types.ts';
import type { Kernel } from '../../loop/ir.ts';
import { type EmitKernel, programFunctions, tileRange } from '../cpu/functions.ts';
import type { Program } from '../target.ts';
import { X64Asm } from './asm.ts';
import { vnniOf } from './byte-ops.ts';
import { CONTROL } from './control.ts';
import { Encoder, imm, type Label, mem, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP, r32, r64, xmm } from './encode.ts';
import { callShare, chunkOf, counterBytes, emitClear, emitShare, shareRow, sharersOf } from './share.ts';
import { addTo, emitSync, type Patience, R_CONTROL, type Sync } from './sync.ts';

export interface ProgramOptions {
  readonly threads: number;
  readonly patience: Patience;
  readonly calls: NativeCalls;
  /** Tiles of a kernel that are better done in one call. */
  grainOf(kernel: Kernel, tactic: Tactic): number;
}

/** Code, and byte offsets of its entries. */
export interface ProgramCode {
  readonly bytes: Uint8Array;
  /** What the control block takes. */
  readonly controlBytes: number;
  readonly run: number;
  readonly stop: number;
  readonly step: number;
  /** For each step the entry that `step` takes. */
  readonly steps: readonly number[];
  /** Entries of threads 1, 2, …. */
  readonly workers: readonly number[];
}

const R_WEIGHTS = RBX;
const R_ARENA = 12;
const R8 = 8;
const SYSTEMV_SAVED = [RBX, RBP, 12, 13, 14, 15];
/** What an entry must leave as it was. */
const CALLEE_SAVED = {
  systemv: { general: SYSTEMV_SAVED, vector: [] },
  windows: { general: [...SYSTEMV_SAVED, RDI, RSI], vector: [6, 7, 8, 9, 10, 11, 12, 13, 14, 15] },
} as const;
const FUNCTION_ALIGNMENT = 64;
const RETURN_ADDRESS_BYTES = 8;

export function emitProgram(program: Program, options: ProgramOptions, emitKernel: EmitKernel): ProgramCode {
  const encoder = new Encoder();
  const { functions, steps } = programFunctions(program);
  const entries = functions.map(({ kernel, tactic, takesScratch }) => {
    encoder.align(FUNCTION_ALIGNMENT);
    const pointers = kernel.buffers.length + (takesScratch ? 1 : 0);
    const asm = new X64Asm(encoder, pointers, tactic.params.lanes === 16 ? 16 : 8, vnniOf(tactic.params));
    emitKernel(asm, kernel, tactic);
    return asm.finish();
  });
  const scratch = scratchLayout(program);
  const grains = functions.map(({ kernel, tactic }) => options.grainOf(kernel, tactic));
  const calls = program.steps.map(
    (step, i): Call => ({ step, kernel: entries[steps[i]], grain: grains[steps[i]], scratch }),
  );
  return new ControlEmitter(encoder, calls, options).emit();
}

interface Call {
  readonly step: Step;
  readonly kernel: Label;
  readonly grain: number;
  readonly scratch: ScratchLayout;
}

/** Addresses that a kernel takes: those of its buffers, and where the step needs some that of the thread's scratch. */
const pointersOf = ({ step }: Call): number => step.buffers.length + (step.scratchBytes ? 1 : 0);

/** Everything but the kernels. */
class ControlEmitter {
  readonly #code: Encoder;
  readonly #calls: readonly Call[];
  readonly #threads: number;
  readonly #convention: NativeCalls['convention'];
  readonly #sync: Sync | undefined;
  /** Shares out tiles; undefined on one thread. */
  readonly #share: Label | undefined;
  readonly #counterBytes: number;
  /** By call: stores its buffers' addresses above its return address, the same for all threads. */
  readonly #fills: ReadonlyMap<Call, Label>;
  /** Bytes below the return address of a line: a kernel's buffer addresses, and what keeps the stack aligned to 16 at calls. */
  readonly #frameBytes: number;

  constructor(code: Encoder, calls: readonly Call[], { threads, patience, calls: native }: ProgramOptions) {
    this.#code = code;
    this.#calls = calls;
    this.#threads = threads;
    this.#convention = native.convention;
    const most = calls.reduce((n, call) => Math.max(n, pointersOf(call)), 0);
    this.#frameBytes = 8 * (most % 2 === 0 ? most + 1 : most);
    this.#sync = threads > 1 ? emitSync(code, threads, patience, native) : undefined;
    this.#share = threads > 1 ? emitShare(code, calls.length) : undefined;
    this.#counterBytes = threads > 1 ? counterBytes(calls.length, threads) : 0;
    this.#fills = new Map(calls.map((call) => [call, this.#fill(call)]));
  }

  emit(): ProgramCode {
    const lines = Array.from({ length: this.#threads }, (_, thread) => this.#line(thread));
    const run = this.#run(lines[0]);
    const workers = lines.slice(1).map((line) => this.#worker(line));
    const stop = this.#stop();
    const step = this.#stepEntry();
    const steps = this.#calls.map((call) => this.#subroutine(() => this.#call(call, 0, 0, call.step.tiles)));
    const bytes = this.#code.finish();
    const at = (label: Label): number => this.#code.offsetOf(label);
    const controlBytes = CONTROL.counters + this.#counterBytes;
    return {
      bytes,
      controlBytes,
      run: at(run),
      stop: at(stop),
      step: at(step),
      steps: steps.map(at),
      workers: workers.map(at),
    };
  }

  /** All that one thread does in one inference. */
  #line(thread: number): Label {
    return this.#subroutine(() => {
      for (const [i, call] of this.#calls.entries()) {
        if (call.step.barrier && this.#sync) this.#code.emit('call', this.#sync.barrier);
        const sharers = sharersOf(call.step, this.#threads);
        const chunk = chunkOf(call.step, sharers, call.grain);
        const [begin, end] = tileRange(call.step, thread, this.#threads);
        if (chunk !== undefined && this.#share && thread < sharers) {
          this.#pointers(call, thread);
          const row = shareRow(this.#code, i, call.step.tiles, sharers, chunk);
          callShare(this.#code, this.#share, row, call.kernel, thread);
        } else if (begin < end) this.#call(call, thread, begin, end);
      }
    });
  }

  #subroutine(body: () => void): Label {
    const code = this.#code;
    const entry = this.#entry();
    code.emit('sub_i', r64(RSP), imm(this.#frameBytes));
    body();
    code.emit('add_i', r64(RSP), imm(this.#frameBytes));
    code.emit('ret');
    return entry;
  }

  #entry(): Label {
    const label = this.#code.newLabel();
    this.#code.align(16);
    this.#code.bind(label);
    return label;
  }

  /** kernel(edi: begin, esi: end, rdx: the addresses of its buffers and of its scratch) */
  #call(call: Call, thread: number, begin: number, end: number): void {
    const code = this.#code;
    this.#pointers(call, thread);
    code.emit('mov_oi', r32(RDI), imm(begin));
    code.emit('mov_oi', r32(RSI), imm(end));
    code.emit('mov', r64(RDX), r64(RSP));
    code.emit('call', call.kernel);
  }

  /** The addresses that a kernel takes, from rsp on. */
  #pointers(call: Call, thread: number): void {
    const { step, scratch } = call;
    this.#code.emit('call', this.#fills.get(call) as Label);
    if (!step.scratchBytes) return;
    this.#address(RAX, { space: 'arena', byteOffset: scratch.byteOffset + thread * scratch.bytesPerThread });
    this.#code.emit('mov_mr', mem(RSP, 8 * step.buffers.length), r64(RAX));
  }

  #fill({ step }: Call): Label {
    const entry = this.#entry();
    step.buffers.forEach((buffer, i) => {
      this.#address(RAX, buffer);
      this.#code.emit('mov_mr', mem(RSP, RETURN_ADDRESS_BYTES + 8 * i), r64(RAX));
    });
    this.#code.emit('ret');
    return entry;
  }

  #address(register: number, { space, byteOffset }: Pick<BufferRef, 'space' | 'byteOffset'>): void {
    const base = space === 'weights' ? R_WEIGHTS : R_ARENA;
    if (byteOffset < 2 ** 31) {
      this.#code.emit('lea', r64(register), mem(base, byteOffset));
      return;
    }
    this.#code.emit('movabs', r64(register), imm(byteOffset));
    this.#code.emit('add', r64(register), r64(base));
  }

  #run(line: Label): Label {
    const code = this.#code;
    const sync = this.#sync;
    return this.#outerEntry(() => {
      code.emit('mov', r64(R_WEIGHTS), r64(RDI));
      code.emit('mov', r64(R_ARENA), r64(RSI));
      code.emit('mov', r64(R_CONTROL), r64(RDX));
      if (sync) {
        code.emit('mov_mr', mem(R_CONTROL, CONTROL.weights), r64(R_WEIGHTS));
        code.emit('mov_mr', mem(R_CONTROL, CONTROL.arena), r64(R_ARENA));
        code.emit('mov_mi', mem(R_CONTROL, CONTROL.finished), imm(0));
        emitClear(code, this.#counterBytes);
        this.#change(sync, CONTROL.epoch);
      }
      code.emit('call', line);
      if (sync) this.#awaitWorkers(sync);
    });
  }

  /** Adds 1 to a word and wakes who waits for it. */
  #change(sync: Sync, word: number): void {
    addTo(this.#code, R_CONTROL, word, 1);
    this.#code.emit('lea', r64(RDI), mem(R_CONTROL, word));
    this.#code.emit('call', sync.wake);
  }

  #awaitWorkers(sync: Sync): void {
    const code = this.#code;
    const [again, done] = [code.newLabel(), code.newLabel()];
    code.bind(again);
    code.emit('lea', r64(RDI), mem(R_CONTROL, CONTROL.finished));
    code.emit('mov', r32(RSI), mem(RDI));
    code.emit('cmp_i', r32(RSI), imm(this.#threads - 1));
    code.emit('je', done);
    code.emit('call', sync.meet);
    code.emit('jmp', again);
    code.bind(done);
  }

  #worker(line: Label): Label {
    const code = this.#code;
    const sync = this.#sync as Sync;
    return this.#outerEntry(() => {
      const [again, done] = [code.newLabel(), code.newLabel()];
      code.emit('mov', r64(R_CONTROL), r64(RDI));
      // ebp is the epoch last seen: 0 until the first inference, which may already have been asked for.
      code.emit('xor', r32(RBP), r32(RBP));
      code.bind(again);
      code.emit('lea', r64(RDI), mem(R_CONTROL, CONTROL.epoch));
      code.emit('mov', r32(RSI), r32(RBP));
      code.emit('call', sync.await);
      code.emit('mov', r32(RBP), mem(R_CONTROL, CONTROL.epoch));
      code.emit('cmp_i', mem(R_CONTROL, CONTROL.stop), imm(0));
      code.emit('jne', done);
      code.emit('mov', r64(R_WEIGHTS), mem(R_CONTROL, CONTROL.weights));
      code.emit('mov', r64(R_ARENA), mem(R_CONTROL, CONTROL.arena));
      code.emit('call', line);
      // Thread 0 sleeps until the last worker has finished.
      addTo(code, R_CONTROL, CONTROL.finished, 1);
      code.emit('cmp_i', r32(RAX), imm(this.#threads - 2));
      code.emit('jne', again);
      code.emit('lea', r64(RDI), mem(R_CONTROL, CONTROL.finished));
      code.emit('call', sync.wake);
      code.emit('jmp', again);
      code.bind(done);
    });
  }

  #stop(): Label {
    return this.#outerEntry(() => {
      if (!this.#sync) return;
      this.#code.emit('mov', r64(R_CONTROL), r64(RDI));
      this.#code.emit('mov_mi', mem(R_CONTROL, CONTROL.stop), imm(1));
      this.#change(this.#sync, CONTROL.epoch);
    });
  }

  #stepEntry(): Label {
    const code = this.#code;
    return this.#outerEntry(() => {
      code.emit('mov', r64(R_WEIGHTS), r64(RSI));
      code.emit('mov', r64(R_ARENA), r64(RDX));
      code.emit('call_m', r64(RDI));
    });
  }

  /** A function that code outside may call: keeps what the convention asks for. Kernels leave the vector registers clean. */
  #outerEntry(body: () => void): Label {
    const code = this.#code;
    const entry = this.#entry();
    const { general, vector } = CALLEE_SAVED[this.#convention];
    for (const register of general) code.emit('push', r64(register));
    // The return address and an even number of registers: 8 more keep the stack aligned to 16.
    const bytes = 8 + 16 * vector.length;
    code.emit('sub_i', r64(RSP), imm(bytes));
    vector.forEach((register, i) => {
      code.emit('vmovups_mr', mem(RSP, 16 * i), xmm(register));
    });
    if (this.#convention === 'windows') {
      code.emit('mov', r64(RDI), r64(RCX));
      code.emit('mov', r64(RSI), r64(RDX));
      code.emit('mov', r64(RDX), r64(R8));
    }
    body();
    vector.forEach((register, i) => {
      code.emit('vmovups', xmm(register), mem(RSP, 16 * i));
    });
    code.emit('add_i', r64(RSP), imm(bytes));
    for (const register of general.toReversed()) code.emit('pop', r64(register));
    code.emit('xor', r32(RAX), r32(RAX));
    code.emit('ret');
    return entry;
  }
}
