/**
 * A whole network as one WebAssembly module: a function a kernel and tactic, and `run`, which each thread enters once an inference.
 *
 * In come kernels, steps and whoever writes the code of one kernel; out go the bytes of one variant, the same for the same input.
 * The module imports env.memory and exports run, step and, with threads, worker (ARCHITECTURE.md, "The program on a CPU").
 * A thread does the tiles [T·t/n, T·(t+1)/n) of a step, n = min(threads, maxThreads), and touches nothing of a step before the
 * barrier in front of it. Addresses are i32 that wrap: base + offset reaches all 4 GiB.
 */
import { Bug } from '../../core/errors.ts';
import type { Step } from '../../engine/engine.ts';
import { type ScratchLayout, scratchLayout } from '../../engine/scratch.ts';
import { type EmitKernel, programFunctions } from '../cpu/functions.ts';
import type { Program } from '../target.ts';
import { WasmAsm } from './asm.ts';
import { MAX_PAGES, type Variant } from './control.ts';
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
  readonly body: Bytes;
}

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

const I32 = (n: number): FuncType => ({ params: new Array<ValType>(n).fill('i32'), results: [] });
const RUN_TYPE = I32(5);
const STEP_TYPE = I32(3);
const WORKER_TYPE = I32(2);

/** The module of a variant, with each kernel's code written by `emitKernel`. */
export function emitProgram(
  program: Program,
  variant: Pick<Variant, 'relaxed' | 'threads'>,
  emitKernel: EmitKernel,
): Uint8Array {
  return emitModule(program, emitKernels(program, variant.relaxed, emitKernel), variant.threads);
}

/** The code of each function of the program. */
export function emitKernels(program: Program, relaxed: boolean, emitKernel: EmitKernel): ProgramCode {
  const { functions, steps } = programFunctions(program);
  const kernels = functions.map(({ name, kernel, tactic, takesScratch }): KernelCode => {
    const pointers = kernel.buffers.length + (takesScratch ? 1 : 0);
    const asm = new WasmAsm(pointers, { relaxed });
    emitKernel(asm, kernel, tactic);
    return { name, pointers, body: asm.finish() };
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
  const calls = program.steps.map((step, i) => ({ step, callee: functions[code.steps[i]], scratch }));
  const run = threads ? defineThreadedRun(module, calls) : defineRun(module, calls, emitAlone);
  module.exportFunction('run', run);
  module.exportFunction('step', defineStep(module, calls));
  return module.build();
}

interface Call {
  readonly step: Step;
  readonly callee: number;
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
    emitShare(code, call, tile);
  });
  const worker = module.declare('worker', WORKER_TYPE);
  defineWorker(worker, run);
  module.exportFunction('worker', worker);
  return run;
}

/** This thread's tiles of a step. */
function emitShare(code: FunctionBuilder, call: Call, tile: number): void {
  const { step, callee } = call;
  const [weights, arena, , thread, threads] = code.params;
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
  code.if(code.emit('i32.lt_u', [thread, sharers]), () => {
    const total = code.constant('i32', tiles);
    const next = code.emit('i32.add', [thread, code.constant('i32', 1)]);
    const begin = code.emit('call', [total, thread, sharers], [tile], code.local('i32'));
    const end = code.emit('call', [total, next, sharers], [tile], code.local('i32'));
    code.effect('call', [begin, end, ...addresses(code, call, weights, arena, thread)], [callee]);
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
