/**
 * Sliding windows: the geometry that convolutions and poolings share.
 *
 *     input coordinate = output · stride + tap · dilation − padBegin        (one such line a spatial dim)
 *
 * Output sizes are told before sizes are known (symbolic dims); the window itself, with its pads, only on static shapes.
 */
import { addDims, type Dim, floorDivDims, printDim, type StaticShape } from '../core/shape.ts';
import { add, index, mul } from '../loop/expr.ts';
import type { Expr } from '../loop/ir.ts';
import { type AttrsOf, ints, oneOf } from './op.ts';

export const WINDOW_ATTRS = {
  auto_pad: oneOf('NOTSET', 'SAME_UPPER', 'SAME_LOWER', 'VALID'),
  dilations: ints.optional,
  pads: ints.optional,
  strides: ints.optional,
} as const;
export type WindowAttrs = AttrsOf<typeof WINDOW_ATTRS>;

/** One spatial dim of a window on static shapes. */
export interface WindowDim {
  readonly input: number;
  readonly output: number;
  readonly kernel: number;
  readonly stride: number;
  readonly dilation: number;
  readonly padBegin: number;
  readonly padEnd: number;
}

interface WindowInput {
  readonly attrs: WindowAttrs;
  /** Spatial sizes of the input and of the kernel. */
  readonly input: readonly Dim[];
  readonly kernel: readonly number[];
  readonly ceilMode: boolean;
  freshDim(hint: string): Dim;
  fail(message: string, hint?: string): never;
}

/** Spatial sizes of the output; fails where an attribute does not fit the rank or the kernel the padded input. */
export function windowOutput(w: WindowInput): Dim[] {
  checkWindowAttrs(w);
  return w.input.map((size, d) => {
    const { stride, dilation } = steps(w.attrs, d);
    if (w.attrs.auto_pad.startsWith('SAME')) return floorDivDims(addDims(size, stride - 1), stride);
    const [padBegin, padEnd] = explicitPads(w.attrs, d, w.input.length);
    const extent = (w.kernel[d] - 1) * dilation + 1;
    const room = addDims(size, padBegin + padEnd - extent);
    if (typeof room === 'number' && room < 0) {
      w.fail(
        `the window spans ${extent} along spatial dim ${d}, the input has ${printDim(size)} with pads ${padBegin} and ${padEnd}`,
      );
    }
    if (!w.ceilMode) return addDims(floorDivDims(room, stride), 1);
    // With ceil_mode, a last window that would start in the end padding does not count.
    const out = addDims(floorDivDims(addDims(room, stride - 1), stride), 1);
    if (typeof out === 'number') return (out - 1) * stride >= (size as number) + padBegin ? out - 1 : out;
    return padEnd + stride > extent ? w.freshDim('pooled') : out;
  });
}

function checkWindowAttrs(w: WindowInput): void {
  const rank = w.input.length;
  if (w.kernel.length !== rank) w.fail(`the kernel has ${w.kernel.length} spatial dims, the input ${rank}`);
  if (w.kernel.some((k) => k < 1)) w.fail(`kernel shape [${w.kernel}] has a size below 1`);
  for (const name of ['strides', 'dilations'] as const) {
    const values = w.attrs[name];
    if (!values) continue;
    if (values.length !== rank) w.fail(`${name} has ${values.length} values, expected ${rank}`);
    if (values.some((v) => v < 1)) w.fail(`${name} is [${values}], expected values of at least 1`);
  }
  const pads = w.attrs.pads;
  if (pads && pads.length !== 2 * rank) w.fail(`pads has ${pads.length} values, expected ${2 * rank}`);
  if (pads?.some((p) => p < 0)) w.fail(`pads is [${pads}], expected no negative value`);
}

const steps = (attrs: WindowAttrs, d: number): { stride: number; dilation: number } => ({
  stride: attrs.strides?.[d] ?? 1,
  dilation: attrs.dilations?.[d] ?? 1,
});

const explicitPads = (attrs: WindowAttrs, d: number, rank: number): readonly [number, number] =>
  attrs.auto_pad === 'VALID' ? [0, 0] : [attrs.pads?.[d] ?? 0, attrs.pads?.[rank + d] ?? 0];

/** The window on static spatial sizes, auto_pad turned into pads. SAME puts the odd pad at the end (UPPER) or start (LOWER). */
export function staticWindow(
  attrs: WindowAttrs,
  input: StaticShape,
  kernel: StaticShape,
  output: StaticShape,
): WindowDim[] {
  return input.map((size, d) => {
    const { stride, dilation } = steps(attrs, d);
    let [padBegin, padEnd] = explicitPads(attrs, d, input.length);
    if (attrs.auto_pad.startsWith('SAME')) {
      const total = Math.max((output[d] - 1) * stride + (kernel[d] - 1) * dilation + 1 - size, 0);
      padBegin = attrs.auto_pad === 'SAME_UPPER' ? Math.floor(total / 2) : Math.ceil(total / 2);
      padEnd = total - padBegin;
    }
    return { input: size, output: output[d], kernel: kernel[d], stride, dilation, padBegin, padEnd };
  });
}

/** True where some tap of some output lies outside the input. */
export const leavesInput = (w: WindowDim): boolean =>
  w.padBegin > 0 || (w.output - 1) * w.stride + (w.kernel - 1) * w.dilation - w.padBegin >= w.input;

/**
 * The same outputs from fewer taps: without those at the ends that lie in the padding for every output, as long as no pad becomes
 * negative and one tap is left. `first` is the tap that is first now. Windows of wide dilation on small images are mostly such taps.
 */
export function trimWindow(w: WindowDim): { readonly window: WindowDim; readonly first: number } {
  const reach = (w.output - 1) * w.stride;
  const span = (kernel: number): number => reach + (kernel - 1) * w.dilation + 1;
  let first = 0;
  while (first < w.kernel - 1 && first * w.dilation - w.padBegin + reach < 0 && (first + 1) * w.dilation <= w.padBegin)
    first++;
  const padBegin = w.padBegin - first * w.dilation;
  let kernel = w.kernel - first;
  while (kernel > 1 && (kernel - 1) * w.dilation - padBegin >= w.input && span(kernel - 1) - w.input - padBegin >= 0)
    kernel--;
  return { window: { ...w, kernel, padBegin, padEnd: Math.max(0, span(kernel) - w.input - padBegin) }, first };
}

/** The input coordinate of a tap, as an index Expr. */
export const windowCoord = (w: WindowDim, output: Expr, tap: Expr): Expr =>
  add(add(mul(output, index(w.stride)), mul(tap, index(w.dilation))), index(-w.padBegin));

/** Three window dims, outermost ones of size 1 put in front of fewer: so that 1-d, 2-d and 3-d share one loop nest. */
export function asThreeDims(window: readonly WindowDim[]): readonly [WindowDim, WindowDim, WindowDim] {
  const one: WindowDim = { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, padBegin: 0, padEnd: 0 };
  const [a = one, b = one, c = one] = [...new Array<WindowDim>(3 - window.length).fill(one), ...window];
  return [a, b, c];
}
