/** Kernels whose axes end at sizes known at run time only, and what eval stores of them. */
import { DTYPES, type TypedArray } from '../../src/core/dtype.ts';
import { attendKernel } from '../../src/loop/attend.ts';
import { contractKernel } from '../../src/loop/contract.ts';
import { evalKernel } from '../../src/loop/eval.ts';
import * as e from '../../src/loop/expr.ts';
import type { Access, Attend, Axis, Buffer, Kernel, Stmt } from '../../src/loop/ir.ts';
import type { Random } from '../random-kernel.ts';
import { convKernel, gemmKernel } from './contract-kernels.ts';
import { loopKernels } from './loop-kernels.ts';

export interface Limited {
  readonly kernel: Kernel;
  readonly sizes: Int32Array;
}

/**
 * Limits on about half of the axes, of a contract only those of these roles, from a table of sizes; 0 and more than the extent among
 * them.
 */
export function withLimits(kernel: Kernel, rnd: Random, roles?: ReadonlySet<string>): Limited {
  const sizes: number[] = [];
  const at = (value: number) => e.load('sizes', 'i32', e.index(sizes.push(value) - 1));
  const draw = (extent: number) => rnd.pick([0, 1, extent, extent + 3, rnd.below(extent + 1), rnd.below(extent + 1)]);
  const limited = <A extends Axis>(axis: A): A =>
    rnd.below(2) === 0
      ? axis
      : { ...axis, limit: at(rnd.below(8) === 0 ? draw(axis.extent) : 1 + rnd.below(axis.extent || 1)) };
  const access = (a: Access): Access => ({
    ...a,
    dims: a.dims.map((d) => (d.padded && rnd.below(2) === 0 ? { ...d, limit: at(rnd.below(d.extent + 2)) } : d)),
  });
  const body = (stmts: readonly Stmt[]): Stmt[] =>
    stmts.map((s): Stmt => {
      if (s.kind === 'for' || s.kind === 'scan') return { ...s, axis: limited(s.axis), body: body(s.body) };
      if (s.kind === 'reduce') return { ...s, axes: s.axes.map(limited) };
      return s.kind === 'if' ? { ...s, body: body(s.body) } : s;
    });
  const { form } = kernel;
  if (form.kind === 'attend') {
    const isOpen = ({ role }: Attend['axes'][number]): boolean => role !== 'inner' && role !== 'value';
    const axes = form.axes.map((a) => (isOpen(a) ? limited(a) : a));
    const sizeTable: Buffer = { name: 'sizes', dtype: 'i32', elements: Math.max(1, sizes.length), role: 'in' };
    return {
      kernel: attendKernel(kernel.name, [...kernel.buffers, sizeTable], { ...form, axes }),
      sizes: Int32Array.from({ length: sizeTable.elements }, (_, i) => sizes[i] ?? 0),
    };
  }
  const limits =
    form.kind === 'contract'
      ? {
          ...form,
          axes: form.axes.map((axis) => (roles && !roles.has(axis.role) ? axis : limited(axis))),
          a: access(form.a),
          b: access(form.b),
        }
      : { axes: kernel.axes.map(limited), body: body(kernel.body) };
  const table: Buffer = { name: 'sizes', dtype: 'i32', elements: Math.max(1, sizes.length), role: 'in' };
  const buffers = [...kernel.buffers, table];
  const made = 'a' in limits ? contractKernel(kernel.name, buffers, limits) : { ...kernel, ...limits, buffers };
  return { kernel: made, sizes: Int32Array.from({ length: table.elements }, (_, i) => sizes[i] ?? 0) };
}

/** The outputs by eval, and which of their elements it stored: two runs over different memory agree there. */
export function evalTwice(kernel: Kernel, inputs: ReadonlyMap<string, TypedArray>) {
  const run = (poison: number) => {
    const buffers = new Map(inputs);
    for (const b of kernel.buffers) {
      const data = new DTYPES[b.dtype].array(b.elements);
      if (b.role === 'out')
        buffers.set(b.name, data.fill((data instanceof BigInt64Array ? BigInt(poison) : poison) as never));
    }
    evalKernel(kernel, buffers);
    return buffers;
  };
  return [run(1), run(2)] as const;
}

/** What differs between machines in the kernels that they are tried on. */
export interface Draw {
  /** Pictures are by less than so much larger than the window. */
  readonly larger: number;
  /** Channels of the result, a group. */
  readonly columns: readonly number[];
  /** Extents of loop nests. */
  readonly nests: readonly (readonly [number, number, number])[];
}

/** A product, a convolution or a loop nest, by turns. */
export function drawKernel(rnd: Random, turn: number, { larger, columns, nests }: Draw): Kernel {
  const group = rnd.pick([1, 1, 2, 12]);
  const window = rnd.pick([1, 3, 3]);
  switch (turn % 3) {
    case 0:
      return gemmKernel({
        batch: rnd.pick([1, 1, 3]),
        m: rnd.pick([1, 5, 13, 24, 40]),
        n: rnd.pick([1, 7, 16, 33, 64]),
        k: rnd.pick([1, 5, 16, 37]),
        transA: rnd.below(4) === 0,
        transB: rnd.below(2) === 0,
        epilogue: rnd.pick(['none', 'bias', 'bias-residual-relu'] as const),
      });
    case 1:
      return convKernel({
        batch: rnd.pick([1, 2, 3]),
        size: [window + rnd.below(larger), window + rnd.below(larger)],
        ic: group * rnd.pick([1, 3, 8, 16]),
        oc: group * (group === 12 ? 1 : rnd.pick(columns)),
        kernel: [window, window],
        stride: rnd.pick([1, 1, 2]),
        pad: rnd.pick([0, 1]),
        group,
        layout: rnd.pick(['nhwc', 'nhwc', 'nchw'] as const),
        epilogue: rnd.pick(['none', 'bias-relu'] as const),
      });
    default:
      return rnd.pick(loopKernels(rnd.pick(nests)));
  }
}
