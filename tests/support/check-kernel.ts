/**
 * Kernels by every legal tactic of the CPU templates on every machine that runs here, against evalKernel: the tiles cut into random
 * ranges, outputs poisoned before, and gaps between buffers must keep their poison.
 *
 * Tolerance of floats: kernels sum in f32 in another order than eval, so errors are bounded by k·2^-24 of the sum of magnitudes; inputs
 * are in [-1, 1], so 1e-6·(k + 1) of an absolute bound is several times that.
 */
import { expect } from 'vitest';
import type { TypedArray } from '../../src/core/dtype.ts';
import { DTYPES, isFloat } from '../../src/core/dtype.ts';
import { decodeScalar } from '../../src/core/tensor.ts';
import { packedElements } from '../../src/engine/engine.ts';
import { evalKernel } from '../../src/loop/eval.ts';
import { sharedPlaces } from '../../src/loop/in-place.ts';
import type { Buffer, Kernel } from '../../src/loop/ir.ts';
import { packWeight } from '../../src/targets/cpu/pack-weight.ts';
import { unpackPanels } from '../../src/targets/cpu/packing.ts';
import type { CpuTemplate } from '../../src/targets/cpu/template.ts';
import { CPU_TEMPLATES } from '../../src/targets/cpu/templates.ts';
import type { Params } from '../../src/targets/target.ts';
import { random, randomArray } from '../random-kernel.ts';
import { KERNEL_MACHINES, type KernelMachine, loadKernel } from './kernel-runner.ts';

export const ABSENT = KERNEL_MACHINES.filter(({ absent }) => absent !== undefined);
export const PRESENT = KERNEL_MACHINES.filter(({ absent }) => absent === undefined);

function uniform(seed: number, elements: number): Float32Array {
  const rnd = random(seed);
  return Float32Array.from({ length: elements }, () => rnd.next() * 2 - 1);
}

function summedElements(kernel: Kernel): number {
  const { form } = kernel;
  return form.kind === 'contract' ? form.axes.reduce((n, a) => (a.role === 'k' ? n * a.extent : n), 1) : 64;
}

/** Floats within `bound` plus a relative error of the dtype's precision, NaN where NaN; everything else equal. */
export function compare(label: string, b: Buffer, want: TypedArray, got: TypedArray, bound: number): void {
  const relative = b.dtype === 'f16' ? 2 ** -10 : b.dtype === 'bf16' ? 2 ** -7 : 1e-6;
  for (let i = 0; i < b.elements; i++) {
    const [x, y] = [decodeScalar(b.dtype, want[i]), decodeScalar(b.dtype, got[i])];
    if (Object.is(x, y) || x === y) continue;
    if (isFloat(b.dtype) && Math.abs(Number(x) - Number(y)) <= bound + relative * Math.abs(Number(x))) continue;
    expect.fail(`${label}: ${b.name}[${i}] is ${y}, expected ${x}`);
  }
}

/** Runs every legal tactic on every machine and compares all outputs with eval. Returns how many ran. */
export function checkKernel(
  kernel: Kernel,
  seed: number,
  inputs: ReadonlyMap<string, TypedArray>,
  machines: readonly KernelMachine[] = PRESENT,
): number {
  const expected = new Map(inputs);
  for (const b of kernel.buffers) if (b.role === 'out') expected.set(b.name, new DTYPES[b.dtype].array(b.elements));
  evalKernel(kernel, expected);
  let ran = 0;
  for (const machine of machines) {
    for (const template of CPU_TEMPLATES) {
      if (template.form !== 'any' && template.form !== kernel.form.kind) continue;
      const known = [new Set(['w']), new Set<string>()].map((constant) =>
        template.candidates(kernel, { constant }, machine.features),
      );
      const rows = new Map(known.flat().map((params) => [JSON.stringify(params), params]));
      for (const params of rows.values()) {
        checkTactic(machine, kernel, template, params, seed, inputs, expected);
        ran++;
      }
    }
  }
  return ran;
}

function checkTactic(
  machine: KernelMachine,
  kernel: Kernel,
  template: CpuTemplate,
  params: Params,
  seed: number,
  inputs: ReadonlyMap<string, TypedArray>,
  expected: ReadonlyMap<string, TypedArray>,
): void {
  const packed = new Map(inputs);
  for (const [name, packing] of template.packing?.(kernel, params) ?? []) {
    const data = inputs.get(name) as Float32Array;
    const weights = packWeight(data, kernel, packing) as Float32Array;
    expect(weights.length).toBe(packedElements(packing));
    if (packing.kind === 'panels') expect(unpackPanels(weights, kernel, packing, data.length)).toEqual(data);
    packed.set(name, weights);
  }
  const tactic = { template: template.name, params };
  const tiles = template.tiles(kernel, params);
  for (const shared of [undefined, ...sharedPlaces(kernel)]) {
    const loaded = loadKernel(kernel, tactic, packed, machine, shared);
    const rnd = random(seed);
    for (let from = 0; from < tiles; ) {
      const to = Math.min(tiles, from + 1 + rnd.below(Math.max(1, tiles)));
      loaded.run(from, to);
      from = to;
    }
    loaded.run(tiles, tiles);
    const place = shared ? `, ${shared.to} in place of ${shared.from}` : '';
    const label = `${kernel.name} by ${template.name} ${JSON.stringify(params)} on ${machine.name}, seed ${seed}${place}`;
    for (const b of kernel.buffers) {
      if (b.role !== 'out') continue;
      const bound = 1e-6 * (summedElements(kernel) + 1);
      compare(label, b, expected.get(b.name)!, loaded.data.get(b.name)!, bound);
    }
    expect(loaded.damagedGaps(), label).toEqual([]);
  }
}

export const inputsOf = (kernel: Kernel, seed: number): Map<string, TypedArray> =>
  new Map(
    kernel.buffers
      .filter((b) => b.role === 'in')
      .map((b, i) => [
        b.name,
        b.dtype === 'f32' ? uniform(seed + i, b.elements) : randomArray(random(seed + i), b.dtype, b.elements),
      ]),
  );
