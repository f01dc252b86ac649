/**
 * Runs one kernel of target cuda: emitted as a program of one step, its launches interpreted one after the other, and put into a stream
 * where there is a GPU.
 *
 * Buffers lie in memory that knows their bounds; outputs are poisoned first, inputs read-only. `skew` moves every buffer so many
 * elements from where a whole tensor would begin, so that code for badly aligned parts is run too.
 */
import { DTYPES, type TypedArray } from '../../src/core/dtype.ts';
import type { KernelArgument } from '../../src/cuda/launch.ts';
import { Module } from '../../src/cuda/module.ts';
import type { BufferRef, Step, Tactic } from '../../src/engine/engine.ts';
import type { Kernel } from '../../src/loop/ir.ts';
import { type Chip, type CudaArg, type CudaProgram, emitProgram } from '../../src/targets/cuda/program.ts';
import { GPU, type GuardedBuffer, GuardedMemory, gpuHere, INTERPRETS, launchHere } from '../cuda/gpu-here.ts';
import { argumentIn } from './arguments.ts';
import { PtxProgram } from './machine.ts';
import { GlobalMemory } from './memory.ts';

export const CHIPS: readonly Chip[] = [75, 80, 90].map((computeCapability) => ({
  computeCapability,
  multiprocessors: 132,
  sharedBytesPerBlock: computeCapability === 75 ? 65536 : 101376,
}));

export interface EmittedTactic {
  readonly program: CudaProgram;
  readonly refs: readonly BufferRef[];
}

/** A program of the one kernel; its buffers lie one after the other. `lengths` says how many elements packed ones have. */
export function emitTactic(
  kernel: Kernel,
  tactic: Pick<Tactic, 'template' | 'params'>,
  chip: Chip,
  { skew = 0, lengths = new Map<string, number>() } = {},
): EmittedTactic {
  let end = 0;
  const refs = kernel.buffers.map((b): BufferRef => {
    const size = DTYPES[b.dtype].bytes;
    const bytes = (lengths.get(b.name) ?? b.elements) * size;
    const byteOffset = end + (lengths.has(b.name) ? 0 : skew * size);
    end = Math.ceil((byteOffset + bytes) / 64) * 64;
    return { space: 'arena', byteOffset, bytes };
  });
  const step: Step = {
    kernel: 0,
    tactic: { ...tactic, predictedNs: 0 },
    buffers: refs,
    values: kernel.buffers.map((b) => b.name),
    loc: [],
    tiles: 1,
    maxThreads: 1,
    barrier: false,
    flops: 0,
    bytesMoved: 0,
  };
  return { program: emitProgram({ kernels: [kernel], steps: [step], arenaBytes: 0 }, chip), refs };
}

const parsed = new Map<string, PtxProgram>();

type Inputs = ReadonlyMap<string, TypedArray>;
type Outputs = Map<string, TypedArray>;

/** What a buffer begins as: an input's elements, poison elsewhere. */
function contentsOf(ref: BufferRef, input: TypedArray | undefined): Uint8Array {
  const contents = new Uint8Array(ref.bytes).fill(0xff);
  if (input) contents.set(new Uint8Array(input.buffer, input.byteOffset, input.byteLength));
  return contents;
}

const outputsOf = (kernel: Kernel, bytesOf: (i: number) => Uint8Array): Outputs =>
  new Map(
    kernel.buffers.flatMap((b, i): [string, TypedArray][] =>
      b.role === 'out' ? [[b.name, new DTYPES[b.dtype].array(bytesOf(i).slice().buffer, 0, b.elements)]] : [],
    ),
  );

const argumentsOf = (
  refs: readonly BufferRef[],
  addressOf: (i: number) => number,
  scratch: number,
): ((arg: CudaArg) => number) => argumentIn({ buffer: (ref) => addressOf(refs.indexOf(ref)), scratch });

function interpret(kernel: Kernel, { program, refs }: EmittedTactic, inputs: Inputs): Outputs {
  const memory = new GlobalMemory();
  const addresses = kernel.buffers.map((b, i) => {
    const pad = refs[i].byteOffset % 64;
    const contents = new Uint8Array(pad + refs[i].bytes).fill(0xff);
    contents.set(contentsOf(refs[i], inputs.get(b.name)), pad);
    return memory.alloc(b.name, contents, b.role === 'in') + pad;
  });
  const scratch = memory.alloc('scratch', new Uint8Array(Math.max(1, program.scratchBytes)));
  const argument = argumentsOf(refs, (i) => addresses[i], scratch);
  for (const { module, args, ...launch } of program.launches) {
    const text = program.modules[module];
    const ptx = parsed.get(text) ?? new PtxProgram(text);
    parsed.clear();
    parsed.set(text, ptx);
    ptx.run(memory, { ...launch, args: args.map(argument) });
  }
  if (memory.bytesAt(scratch, program.scratchBytes).some((byte) => byte !== 0)) {
    throw new Error(`${kernel.name} left its scratch memory dirty`);
  }
  return outputsOf(kernel, (i) => memory.bytesAt(addresses[i], refs[i].bytes));
}

/** On the GPU of this machine. */
function runHere(kernel: Kernel, { program, refs }: EmittedTactic, inputs: Inputs): Outputs {
  const here = gpuHere();
  const buffers = kernel.buffers.map((b, i): GuardedBuffer => {
    const bytes = contentsOf(refs[i], inputs.get(b.name));
    return { name: b.name, bytes, skew: refs[i].byteOffset % 64, isConstant: b.role === 'in' };
  });
  const scratch = new Uint8Array(Math.max(1, program.scratchBytes));
  const memory = new GuardedMemory(here, [...buffers, { name: 'scratch', bytes: scratch, isConstant: true }]);
  const argument = argumentsOf(refs, (i) => memory.addressOf(i), memory.addressOf(buffers.length));
  const modules = program.modules.map((text) => new Module(here.gpu, text));
  const asArgument = (arg: CudaArg): KernelArgument =>
    arg.kind === 'u32' ? { type: 'u32', value: arg.value } : { address: argument(arg) };
  try {
    for (const { module, entry, args, step: _, ...options } of program.launches) {
      const { programmatic } = program;
      launchHere(here, modules[module].function(entry), { ...options, programmatic }, args.map(asArgument));
    }
    const parts = memory.finish();
    return outputsOf(kernel, (i) => parts[i]);
  } finally {
    for (const module of modules) module.dispose();
  }
}

/**
 * The outputs by name: as interpreted, and of the GPU where there is one. Inputs may be longer than the kernel says (packed weights); an
 * output that is given begins with that.
 */
export function runTactic(kernel: Kernel, emitted: EmittedTactic, inputs: Inputs): Outputs[] {
  return [
    ...(INTERPRETS ? [interpret(kernel, emitted, inputs)] : []),
    ...(GPU ? [runHere(kernel, emitted, inputs)] : []),
  ];
}
