/**
 * Runs one kernel of target cuda without a GPU: emitted as a program of one step, its launches interpreted one after the other.
 *
 * Buffers lie in memory that knows their bounds; outputs are poisoned first, inputs read-only. `skew` moves every buffer so many
 * elements from where a whole tensor would begin, so that code for badly aligned parts is run too.
 */
import { DTYPES, type TypedArray } from '../../src/core/dtype.ts';
import type { BufferRef, Step, Tactic } from '../../src/engine/engine.ts';
import type { Kernel } from '../../src/loop/ir.ts';
import { type Chip, type CudaArg, type CudaProgram, emitProgram } from '../../src/targets/cuda/program.ts';
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

/** The outputs by name. Inputs may be longer than the kernel says (packed weights); an output that is given begins with that. */
export function runTactic(
  kernel: Kernel,
  { program, refs }: EmittedTactic,
  inputs: ReadonlyMap<string, TypedArray>,
): Map<string, TypedArray> {
  const memory = new GlobalMemory();
  const addresses = kernel.buffers.map((b, i) => {
    const pad = refs[i].byteOffset % 64;
    const contents = new Uint8Array(pad + refs[i].bytes).fill(0xff);
    const input = inputs.get(b.name);
    if (input) contents.set(new Uint8Array(input.buffer, input.byteOffset, input.byteLength), pad);
    return memory.alloc(b.name, contents, b.role === 'in') + pad;
  });
  const scratch = memory.alloc('scratch', new Uint8Array(Math.max(1, program.scratchBytes)));
  const argument = (arg: CudaArg): number => {
    if (arg.kind === 'u32') return arg.value;
    return arg.kind === 'scratch' ? scratch + arg.byteOffset : addresses[refs.indexOf(arg.ref)];
  };
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
  return new Map(
    kernel.buffers.flatMap((b, i): [string, TypedArray][] => {
      if (b.role !== 'out') return [];
      const bytes = memory.bytesAt(addresses[i], refs[i].bytes).slice();
      return [[b.name, new DTYPES[b.dtype].array(bytes.buffer, 0, b.elements)]];
    }),
  );
}
