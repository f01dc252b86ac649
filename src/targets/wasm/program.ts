/**
 * A whole network as one WebAssembly module: a function a kernel and tactic, and `run`, which each thread enters once an inference.
 *
 * In come kernels, steps and whoever writes the code of one kernel; out go the bytes of one variant, the same for the same input.
 * The module imports env.memory and exports run, step and, with threads, worker (ARCHITECTURE.md, "The program on a CPU").
 * The tiles [T·t/n, T·(t+1)/n) of a step are thread t's, n = min(threads, maxThreads): it takes them in chunks from a counter and then helps
 * the next thread with what is left of theirs, as on x64; where they are few it does them at once. It touches nothing of a step before the
 * barrier in front of it. Addresses are i32 that wrap: base + offset reaches all 4 GiB.
 */
import { Bug } from '../../core/errors.ts';
import type { Step, Tactic } from '../../engine/engine.ts';
import { type ScratchLayout, scratchLayout } from '../../engine/scratch.ts';
import type { Kernel } from '../../loop/ir.ts';
import { type EmitKernel, programFunctions } from '../cpu/functions.ts';
import type { Program } from '../target.ts';
import { WasmAsm } from './asm.ts';
import { CONTROL_BYTES, counterStride, MAX_PAGES, type Variant } from './control.ts';
import { type Bytes, EMPTY_BLOCK } from './encode.ts';
import { FunctionBuilder, type Local } from './function.ts';
import type { ValType } from './instructions.ts';
import { type FuncType, ModuleBuilder } from './module.ts';
import { defineSync } from './sync.ts';

/** The code of one kernel by one tactic. */
export interface KernelCode {
  readonly name: string;
  /** Addresses that it takes. */
  readonly pointers: number;
  /** Tiles that are better done in one call. */
  readonly grain: number;
  readonly body: Bytes;
}

/** Tiles of a kernel that are better done in one call. */
type GrainOf = (kernel: Kernel, tactic: Tactic) => number;

/** The functions a program needs and which of them each step calls; the same for variants that differ in threads only. */
export interface ProgramCode {
  readonly kernels: readonly KernelCode[];
  /** For each step an index into kernels. */
  readonly steps: readonly number[];
}

/** Steps in one function: engines compile function by function, and slowly where one is very large. */
const STEPS_A_FUNCTION = 256;
/** A step that so many threads may share takes all there are. */
const UNLIMITED_THREADS = 1024;

/** Chunks of a thread's range, where tiles allow. */
const CHUNKS = 8;
/** So that a counter stays far below 32 bits, whoever adds to it. */
const MOST_COUNTED = 2 ** 24;

const I32 = (n: number): FuncType => ({ params: new Array<ValType>(n).fill('i32'), results: [] });
const RUN_TYPE = I32(5);
const STEP_TYPE = I32(3);
const WORKER_TYPE = I32(2);

/** The module of a variant, with each kernel's code written by `emitKernel`. */
export function emitProgram(
  program: Program,
  variant: Pick<Variant, 'relaxed' | 'threads'>,
  emitKernel: EmitKernel,
  grainOf: GrainOf = () => 1,
): Uint8Array {
  return emitModule(program, emitKernels(program, variant.relaxed, emitKernel, grainOf), variant.threads);
}

/** The code of each function of the program. */
export function emitKernels(program: Program, relaxed: boolean, emitKernel: EmitKernel, grainOf: GrainOf): ProgramCode {
  const { functions, steps } = programFunctions(program);
  const kernels = functions.map(({ name, kernel, tactic, takesScratch }): KernelCode => {
    const pointers = kernel.buffers.length + (takesScratch ? 1 : 0);
    const asm = new WasmAsm(pointers, { relaxed });
    emitKernel(asm, kernel, tactic);
    return { name, pointers, grain: grainOf(kernel, tactic), body: asm.finish() };
  });
  return { kernels, steps };
}

/** The module over kernels already written. */
export function emitModule(program: Program, code: ProgramCode, threads: boolean): Uint8Array {
  const module = new ModuleBuilder();
  module.importMemory('env', 'memory', threads ? { min: 1, max: MAX_PAGES, shared: true } : { min: 1 });
  const functions = code.kernels.map(({ name, pointers, body }) => {
    const index = module.declare(name, I32(2 + pointers));
    module.define(index, body);
    return index;
  });
  const scratch = scratchLayout(program);
  const calls = program.steps.map((step, i): Call => {
    const function_ = code.steps[i];
    return { step, index: i, callee: functions[function_], grain: code.kernels[function_].grain, scratch };
  });
  const run = threads ? defineThreadedRun(module, calls) : defineRun(module, calls, emitAlone);
  module.exportFunction('run', run);
  module.exportFunction('step', defineStep(module, calls));
  return module.build();
}

interface Call {
  readonly step: Step;
  /** Of the step. */
  readonly index: number;
  readonly callee: number;
  readonly grain: number;
  readonly scratch: ScratchLayout;
}

/** run(weights, arena, control, thread, threads), in parts where there are very many steps. */
function defineRun(
  module: ModuleBuilder,
  calls: readonly Call[],
  emit: (code: FunctionBuilder, call: Call) => void,
): number {
  const part = (name: string, some: readonly Call[]): number => {
    const code = new FunctionBuilder(RUN_TYPE.params);
    for (const call of some) emit(code, call);
    const index = module.declare(name, RUN_TYPE);
    module.define(index, code.finish());
    return index;
  };
  if (calls.length <= STEPS_A_FUNCTION) return part('run', calls);
  const code = new FunctionBuilder(RUN_TYPE.params);
  for (let at = 0; at < calls.length; at += STEPS_A_FUNCTION) {
    code.effect('call', code.params, [part(`run.${at}`, calls.slice(at, at + STEPS_A_FUNCTION))]);
  }
  const run = module.declare('run', RUN_TYPE);
  module.define(run, code.finish());
  return run;
}

/** All tiles of a step, by thread 0. */
function emitWholeStep(code: FunctionBuilder, call: Call, weights: Local, arena: Local): void {
  const range = [code.constant('i32', 0), code.constant('i32', call.step.tiles)];
  code.effect('call', [...range, ...addresses(code, call, weights, arena)], [call.callee]);
}

/** A step where there is one thread. */
function emitAlone(code: FunctionBuilder, call: Call): void {
  const [weights, arena] = code.params;
  emitWholeStep(code, call, weights, arena);
}

/** Of the buffers, and of the scratch of thread `thread` (absent: 0) where the step needs some. */
function addresses(
  code: FunctionBuilder,
  { step, scratch }: Call,
  weights: Local,
  arena: Local,
  thread?: Local,
): Local[] {
  const buffers = step.buffers.map(({ space, byteOffset }) =>
    address(code, byteOffset, space === 'weights' ? weights : arena),
  );
  if (!step.scratchBytes) return buffers;
  const first = address(code, scratch.byteOffset, arena);
  if (!thread) return [...buffers, first];
  const before = code.emit('i32.mul', [thread, code.constant('i32', scratch.bytesPerThread)]);
  return [...buffers, code.emit('i32.add', [first, before])];
}

function address(code: FunctionBuilder, byteOffset: number, base: Local): Local {
  if (byteOffset >= 2 ** 32) throw new Bug('wasm-address', `byte offset ${byteOffset} is beyond 32 bits`);
  return byteOffset === 0 ? base : code.emit('i32.add', [base, code.constant('i32', byteOffset)]);
}

function defineThreadedRun(module: ModuleBuilder, calls: readonly Call[]): number {
  const { barrier, defineWorker } = defineSync(module);
  const tile = defineTile(module);
  const run = defineRun(module, calls, (code, call) => {
    const [, , control, thread, threads] = code.params;
    if (call.step.barrier) code.effect('call', [control, thread, threads], [barrier]);
    emitShare(code, call, tile, counterStride(calls.length));
  });
  const worker = module.declare('worker', WORKER_TYPE);
  defineWorker(worker, run);
  module.exportFunction('worker', worker);
  return run;
}

/** This thread's tiles of a step. */
function emitShare(code: FunctionBuilder, call: Call, tile: number, stride: number): void {
  const { step, callee, grain } = call;
  const [weights, arena, control, thread, threads] = code.params;
  const { tiles, maxThreads } = step;
  if (maxThreads <= 1 || tiles <= 1) {
    code.if(code.emit('i32.eqz', [thread]), () => emitWholeStep(code, call, weights, arena));
    return;
  }
  const limit = code.constant('i32', maxThreads);
  const sharers =
    maxThreads >= UNLIMITED_THREADS
      ? threads
      : code.emit('select', [threads, limit, code.emit('i32.lt_u', [threads, limit])], [], code.local('i32'));
  const c = (value: number): Local => code.constant('i32', value);
  const total = c(tiles);
  const bound = (owner: Local, plus: 0 | 1): Local =>
    code.emit(
      'call',
      [total, plus === 0 ? owner : code.emit('i32.add', [owner, c(1)]), sharers],
      [tile],
      code.local('i32'),
    );
  code.if(code.emit('i32.lt_u', [thread, sharers]), () => {
    const buffers = addresses(code, call, weights, arena, thread);
    const own = (): void => code.effect('call', [bound(thread, 0), bound(thread, 1), ...buffers], [callee]);
    if (tiles > MOST_COUNTED) {
      own();
      return;
    }
    const parts = code.emit('i32.div_u', [c(Math.ceil(tiles / grain)), code.emit('i32.mul', [sharers, c(CHUNKS)])]);
    const atLeastOne = code.emit('select', [parts, c(1), parts], [], code.local('i32'));
    const chunk = code.emit('i32.mul', [atLeastOne, c(grain)], [], code.local('i32'));
    const two = code.emit('i32.mul', [code.emit('i32.mul', [chunk, c(2)]), sharers]);
    const isAlone = code.emit('i32.eq', [sharers, c(1)]);
    code.if(code.emit('i32.or', [isAlone, code.emit('i32.gt_u', [two, total])]), own, () => {
      const [owner, left] = [code.local('i32'), code.local('i32')];
      code.move(owner, thread);
      code.move(left, sharers);
      code.loop(() => {
        const [begin, end] = [bound(owner, 0), bound(owner, 1)];
        const counter = code.emit(
          'i32.add',
          [control, code.emit('i32.mul', [owner, c(stride)])],
          [],
          code.local('i32'),
        );
        code.loop(() => {
          const taken = code.emit('i32.atomic.rmw.add', [counter, chunk], [2, CONTROL_BYTES + 4 * call.index]);
          const from = code.emit('i32.add', [begin, taken], [], code.local('i32'));
          code.if(code.emit('i32.lt_u', [from, end]), () => {
            const next = code.emit('i32.add', [from, chunk], [], code.local('i32'));
            const to = code.emit('select', [next, end, code.emit('i32.lt_u', [next, end])], [], code.local('i32'));
            code.effect('call', [from, to, ...buffers], [callee]);
            code.effect('br', [], [1]);
          });
        });
        code.emit('i32.add', [owner, c(1)], [], owner);
        code.emit('select', [c(0), owner, code.emit('i32.eq', [owner, sharers])], [], owner);
        code.emit('i32.sub', [left, c(1)], [], left);
        code.effect('br_if', [left], [0]);
      });
    });
  });
}

/** tile(tiles, thread, threads) = floor(tiles · thread / threads), in 64 bits so that the product cannot overflow. */
function defineTile(module: ModuleBuilder): number {
  const code = new FunctionBuilder(['i32', 'i32', 'i32']);
  const [tiles, thread, threads] = code.params.map((x) => code.emit('i64.extend_i32_u', [x]));
  const quotient = code.emit('i64.div_u', [code.emit('i64.mul', [tiles, thread]), threads]);
  code.effect('return', [code.emit('i32.wrap_i64', [quotient])]);
  const index = module.declare('tile', { params: ['i32', 'i32', 'i32'], results: ['i32'] });
  module.define(index, code.finish());
  return index;
}

/** step(index, weights, arena): one step on one thread; nothing where there is no such step. */
function defineStep(module: ModuleBuilder, calls: readonly Call[]): number {
  const code = new FunctionBuilder(STEP_TYPE.params);
  const [index, weights, arena] = code.params;
  // block … block br_table end (step 0) return end (step 1) return … end: the depth of a branch is the number of the step.
  for (let i = 0; i <= calls.length; i++) code.effect('block', [], [EMPTY_BLOCK]);
  code.effect('br_table', [index], [Array.from({ length: calls.length + 1 }, (_, depth) => depth)]);
  code.effect('end');
  for (const call of calls) {
    emitWholeStep(code, call, weights, arena);
    code.effect('return');
    code.effect('end');
  }
  const step = module.declare('step', STEP_TYPE);
  module.define(step, code.finish());
  return step;
}
