/**
 * Tensor-core kernels in the interpreter of PTX and on the GPU where there is one, beside eval: inputs made, weights packed, outputs poisoned.
 */
import { expect } from 'vitest';
import { DTYPES, type DType, type TypedArray } from '../../src/core/dtype.ts';
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from '../../src/core/float16.ts';
import type { LaunchOptions } from '../../src/cuda/launch.ts';
import { Module } from '../../src/cuda/module.ts';
import { contractKernel } from '../../src/loop/contract.ts';
import { evalKernel } from '../../src/loop/eval.ts';
import * as e from '../../src/loop/expr.ts';
import type { Kernel } from '../../src/loop/ir.ts';
import { exprMapper, mapStmts } from '../../src/targets/cpu/walk.ts';
import type { GemmSite } from '../../src/targets/cuda/gemm-context.ts';
import { emitGemm } from '../../src/targets/cuda/gemm-emit.ts';
import { packRows, rowsPacking } from '../../src/targets/cuda/gemm-packing.ts';
import { type GemmShape, sharedBytes, type TileParams } from '../../src/targets/cuda/gemm-tiles.ts';
import { moduleText } from '../../src/targets/cuda/ptx.ts';
import type { PtxText } from '../../src/targets/cuda/ptx-text.ts';
import { GPU, GuardedMemory, gpuHere, INTERPRETS, launchHere } from '../cuda/gpu-here.ts';
import { PtxProgram } from '../ptx/machine.ts';
import { GlobalMemory } from '../ptx/memory.ts';
import { random } from '../random-kernel.ts';

/** The kernel with all its buffers in another float type: loads widen, stores round. */
export function withDType(kernel: Kernel, dtype: DType): Kernel {
  if (kernel.form.kind !== 'contract') throw new Error(`${kernel.name} is no contract`);
  const map = exprMapper((x) => (x.kind === 'load' ? e.cast('f32', { ...x, dtype }) : x));
  const epilogue = mapStmts(kernel.form.epilogue, map).map((s) =>
    s.kind === 'store' ? { ...s, value: e.cast(dtype, s.value) } : s,
  );
  const buffers = kernel.buffers.map((b) => ({ ...b, dtype }));
  return contractKernel(`${kernel.name}_${dtype}`, buffers, { ...kernel.form, epilogue });
}

const encode = (dtype: DType, x: number): number =>
  dtype === 'f16' ? numberToF16(x) : dtype === 'bf16' ? numberToBf16(x) : x;
const decode = (dtype: DType, x: number): number =>
  dtype === 'f16' ? f16ToNumber(x) : dtype === 'bf16' ? bf16ToNumber(x) : x;

export interface GemmRun {
  readonly got: readonly number[];
  readonly want: readonly number[];
  readonly dtype: DType;
}

type OneLaunch = LaunchOptions & { readonly entry: string };

/** Every buffer's bytes after the launch on the GPU here. */
function runHere(
  kernel: Kernel,
  text: string,
  { entry, ...options }: OneLaunch,
  inputs: ReadonlyMap<string, TypedArray>,
): readonly Uint8Array[] {
  const here = gpuHere();
  const memory = new GuardedMemory(
    here,
    kernel.buffers.map(({ name, role, dtype, elements }) => {
      if (role !== 'in') return { name, bytes: new Uint8Array(elements * DTYPES[dtype].bytes).fill(0xff) };
      const { buffer, byteOffset, byteLength } = inputs.get(name) as TypedArray;
      return { name, bytes: new Uint8Array(buffer, byteOffset, byteLength), isConstant: true };
    }),
  );
  const module = new Module(here.gpu, text);
  try {
    const args = kernel.buffers.map((_, i) => ({ address: memory.addressOf(i) }));
    launchHere(here, module.function(entry), { ...options, programmatic: true }, args);
    return memory.finish();
  } finally {
    module.dispose();
  }
}

/** What an emitter of products gives. */
interface Emitted {
  readonly code: PtxText;
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
  readonly cluster?: readonly [number, number, number] | undefined;
}

/** What the kernel gives, interpreted and on the GPU where there is one, beside eval. */
export const runTensorCores = (kernel: Kernel, shape: GemmShape, tile: TileParams, seed = 1): readonly GemmRun[] =>
  runEmitted(kernel, shape, sharedBytes(tile), (site) => emitGemm(site, shape, tile), seed);

export function runEmitted(
  kernel: Kernel,
  shape: GemmShape,
  sharedBytes: number,
  emit: (site: GemmSite) => Emitted,
  seed = 1,
): readonly GemmRun[] {
  const rnd = random(seed);
  const data = new Map<string, TypedArray>();
  for (const b of kernel.buffers) {
    const array = new DTYPES[b.dtype].array(b.elements) as Float32Array;
    // Halves of small integers: products and sums are exact, so every tile gives the same sum.
    if (b.role === 'in') for (let i = 0; i < array.length; i++) array[i] = encode(b.dtype, (rnd.below(9) - 4) / 4);
    data.set(b.name, array);
  }
  evalKernel(kernel, data);
  const packed = new Map(data);
  if (shape.b === 'packed') {
    const name = shape.plan.b.buffer;
    packed.set(name, packRows(data.get(name) as TypedArray, rowsPacking(shape)));
  }
  const emitted = emit({ name: 'k', kernel, alignments: kernel.buffers.map(() => 64), programmatic: true });
  const launch = {
    entry: 'k',
    grid: emitted.grid,
    block: emitted.block,
    sharedBytes,
    ...(emitted.cluster && { cluster: emitted.cluster }),
  };
  const text = moduleText(90, [emitted.code]);
  const out = kernel.buffers.findIndex((b) => b.role === 'out');
  const { name, dtype, elements } = kernel.buffers[out];
  const decoded = (values: TypedArray): number[] => [...(values as Float32Array)].map((x) => decode(dtype, x));
  const results: Uint8Array[] = [];
  if (INTERPRETS) {
    const memory = new GlobalMemory();
    const args = kernel.buffers.map((b) =>
      b.role === 'in'
        ? memory.alloc(b.name, packed.get(b.name) as TypedArray, true)
        : memory.alloc(b.name, b.elements * DTYPES[b.dtype].bytes),
    );
    new PtxProgram(text).run(memory, { ...launch, args });
    results.push(memory.bytesAt(args[out], elements * DTYPES[dtype].bytes).slice());
  }
  if (GPU && GPU.chip.computeCapability >= 90) results.push(runHere(kernel, text, launch, packed)[out]);
  const want = decoded(data.get(name) as TypedArray);
  return results.map((bytes) => ({ got: decoded(new DTYPES[dtype].array(bytes.buffer, 0, elements)), want, dtype }));
}
/** Sums are exact; the last rounding of a value that lies between two may fall either way. */
const TOLERANCE: Partial<Record<DType, number>> = { f16: 2 ** -10, bf16: 2 ** -7, f32: 2 ** -22 };

export function closeTo(runs: readonly GemmRun[], tile: object): void {
  for (const { got, want, dtype } of runs) {
    const wrong = want.findIndex(
      (w, i) => !(Math.abs(got[i] - w) <= (TOLERANCE[dtype] as number) * Math.max(1, Math.abs(w))),
    );
    if (wrong >= 0)
      expect.fail(
        `${JSON.stringify(tile)}: element ${wrong} of ${want.length} is ${got[wrong]}, expected ${want[wrong]}`,
      );
  }
}
