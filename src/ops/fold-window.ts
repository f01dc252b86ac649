/**
 * Folds over sliding windows: eval and kernel of every pooling operator.
 *
 *     y[n, c, o…] = finish(fold over tap… of value(x[n, c, o·stride + tap·dilation − pad]), taps counted)
 *
 * Taps outside the input are skipped. A kernel has one point an output element and folds the taps, guarded only along dims where
 * the window can leave the input; layouts put channels innermost, so neighbouring points read neighbouring elements.
 */
import type { StaticShape } from '../core/shape.ts';
import { fromNumbers, type Tensor, type TensorType } from '../core/tensor.ts';
import { identity } from '../loop/arithmetic.ts';
import { add, axis, binary, cast, constant, index, inRange, local, max, min, mul, select, sub } from '../loop/expr.ts';
import type { Axis, Expr, Stmt } from '../loop/ir.ts';
import type { KernelContext, KernelSpec } from './op.ts';
import { toFloat64 } from './product.ts';
import { assign, reduceRow } from './rows.ts';
import { asThreeDims, leavesInput, type WindowDim, windowCoord } from './window.ts';

/** What one pooling operator folds, as numbers for eval and as Exprs for its kernel. */
export interface WindowFold {
  readonly op: 'add' | 'max';
  value(x: number): number;
  finish(fold: number, count: number): number;
  valueExpr(x: Expr): Expr;
  /** `count` is an Expr of the element's dtype. A window with no tap inside counts 1, so that its mean is 0. */
  finishExpr(fold: Expr, count: Expr): Expr;
  /** True where taps in the padding count as taps. */
  readonly countPadding: boolean;
}

/** The fold on tensors [n, c, space…]. */
export function evalWindowFold(x: Tensor, window: readonly WindowDim[], fold: WindowFold, out: TensorType): Tensor {
  const source = toFloat64(x);
  const [d, h, w] = asThreeDims(window);
  const planes = out.shape[0] * out.shape[1];
  const y = new Float64Array(planes * d.output * h.output * w.output);
  const combine = fold.op === 'max' ? Math.max : (a: number, b: number) => a + b;
  const start = fold.op === 'max' ? Number.NEGATIVE_INFINITY : 0;
  let at = 0;
  for (let plane = 0; plane < planes; plane++) {
    for (let od = 0; od < d.output; od++) {
      for (let oh = 0; oh < h.output; oh++) {
        for (let ow = 0; ow < w.output; ow++) {
          let sum = start;
          let count = 0;
          for (const z of taps(d, od)) {
            for (const i of taps(h, oh)) {
              const line = ((plane * d.input + z) * h.input + i) * w.input;
              for (const j of taps(w, ow)) {
                sum = combine(sum, fold.value(source[line + j]));
                count++;
              }
            }
          }
          if (fold.countPadding) count = paddedTaps(d, od) * paddedTaps(h, oh) * paddedTaps(w, ow);
          y[at++] = fold.finish(sum, Math.max(count, 1));
        }
      }
    }
  }
  return fromNumbers(out.dtype, out.shape, y);
}

/** Input coordinates of the taps of output o that lie inside the input, in order. */
export function taps(w: WindowDim, o: number): number[] {
  const out: number[] = [];
  for (let t = 0; t < w.kernel; t++) {
    const at = o * w.stride + t * w.dilation - w.padBegin;
    if (at >= 0 && at < w.input) out.push(at);
  }
  return out;
}

/** How many taps of output o lie inside the padded input; fewer than the kernel where ceil_mode lets a window stick out. */
function paddedTaps(w: WindowDim, o: number): number {
  const room = w.padBegin + w.input + w.padEnd - o * w.stride;
  return Math.min(w.kernel, Math.ceil(room / w.dilation));
}

/** The taps of the window at an output point: axes, the input coordinates, and whether those lie inside (absent: always). */
export interface Taps {
  readonly axes: readonly Axis[];
  readonly coords: readonly Expr[];
  readonly inside: Expr | undefined;
}

export function windowTaps(ctx: KernelContext<unknown>, window: readonly WindowDim[], coords: readonly Expr[]): Taps {
  const axes: Axis[] = [];
  const guards: Expr[] = [];
  const space = window.map((dim, d) => {
    const name = ctx.fresh(`k${'dhw'.at(d - window.length)}`);
    if (dim.kernel > 1) axes.push({ name, extent: dim.kernel });
    const at = windowCoord(dim, coords[2 + d], dim.kernel > 1 ? axis(name) : index(0));
    if (leavesInput(dim)) guards.push(inRange(at, dim.input));
    return at;
  });
  const inside = guards.length === 0 ? undefined : guards.reduce((a, b) => binary('and', a, b));
  return { axes, coords: [coords[0], coords[1], ...space], inside };
}

export function windowFoldKernel(
  ctx: KernelContext<unknown>,
  window: readonly WindowDim[],
  fold: WindowFold,
): KernelSpec {
  const { dtype } = ctx.outputs[0];
  const { axes, coords } = ctx.outputAxes(0);
  const tap = windowTaps(ctx, window, coords);
  const element = fold.valueExpr(ctx.load(0, tap.coords));
  const value = tap.inside ? select(tap.inside, element, constant(dtype, identity(fold.op, dtype))) : element;
  const result = ctx.fresh('fold');
  const count = countExpr(window, coords, fold.countPadding);
  return {
    form: { kind: 'reduce' },
    axes,
    body: [
      reduceRow(result, fold.op, { axes: tap.axes, coords }, value),
      ctx.store(0, coords, fold.finishExpr(local(result, dtype), cast(dtype, max(count, index(1))))),
    ],
  };
}

/** How many taps count at the output point, as an i32 Expr; a constant where that is the same everywhere. */
function countExpr(window: readonly WindowDim[], coords: readonly Expr[], countPadding: boolean): Expr {
  return window.reduce<Expr>((product, dim, d) => {
    const low = countPadding ? 0 : dim.padBegin;
    const extent = countPadding ? dim.padBegin + dim.input + dim.padEnd : dim.input;
    return mul(product, tapsInside({ ...dim, padBegin: low, input: extent }, coords[2 + d]));
  }, index(1));
}

/** last − first + 1, for the first and last tap t with 0 <= start + t · dilation < input. */
function tapsInside(dim: WindowDim, output: Expr): Expr {
  if (!leavesInput(dim)) return index(dim.kernel);
  const start = windowCoord(dim, output, index(0));
  const over = (x: Expr) => binary('floordiv', x, index(dim.dilation));
  const first = max(index(0), over(sub(index(dim.dilation - 1), start)));
  const last = min(index(dim.kernel - 1), over(sub(index(dim.input - 1), start)));
  return add(sub(last, first), index(1));
}

/**
 * Position in the whole input of each window's first maximum, as MaxPool's second output tells it: row-major, or with the spatial
 * dims column-major.
 */
export function evalMaxPositions(
  x: Tensor,
  window: readonly WindowDim[],
  columnMajor: boolean,
  out: TensorType,
): Tensor {
  const source = toFloat64(x);
  const [d, h, w] = asThreeDims(window);
  const [sd, sh, sw] = spaceStrides([d.input, h.input, w.input], columnMajor);
  const image = d.input * h.input * w.input;
  const positions: number[] = [];
  for (let plane = 0; plane < out.shape[0] * out.shape[1]; plane++) {
    for (let od = 0; od < d.output; od++) {
      for (let oh = 0; oh < h.output; oh++) {
        for (let ow = 0; ow < w.output; ow++) {
          let best = Number.NEGATIVE_INFINITY;
          let position = -1;
          for (const z of taps(d, od)) {
            for (const i of taps(h, oh)) {
              for (const j of taps(w, ow)) {
                const value = source[((plane * d.input + z) * h.input + i) * w.input + j];
                if (position >= 0 && !(value > best)) continue;
                best = value;
                position = plane * image + z * sd + i * sh + j * sw;
              }
            }
          }
          positions.push(position);
        }
      }
    }
  }
  return fromNumbers('i64', out.shape, positions);
}

function spaceStrides(space: StaticShape, columnMajor: boolean): number[] {
  const strides = space.map(() => 1);
  let s = 1;
  for (const d of columnMajor ? space.keys() : [...space.keys()].reverse()) {
    strides[d] = s;
    s *= space[d];
  }
  return strides;
}

/** MaxPool with both outputs: the taps in order, so that the first of equal maxima is kept. */
export function maxPositionKernel(
  ctx: KernelContext<unknown>,
  window: readonly WindowDim[],
  columnMajor: boolean,
): KernelSpec {
  const { dtype } = ctx.outputs[0];
  const { axes, coords } = ctx.outputAxes(0);
  const tap = windowTaps(ctx, window, coords);
  const best = ctx.fresh('best');
  const position = ctx.fresh('position');
  const space = window.map((dim) => dim.input);
  const strides = spaceStrides(space, columnMajor);
  const image = space.reduce((n, d) => n * d, 1);
  const plane = add(mul(coords[0], index(ctx.input(0).shape[1])), coords[1]);
  const at = tap.coords.slice(2).reduce((sum, c, d) => add(sum, mul(c, index(strides[d]))), mul(plane, index(image)));
  const value = ctx.load(0, tap.coords);
  const first = binary('lt', local(position, 'i32'), index(0));
  const better = binary('or', first, binary('gt', value, local(best, dtype)));
  const keep: Stmt = { kind: 'if', cond: better, body: [assign(position, at), assign(best, value)] };
  const visit: readonly Stmt[] = [tap.inside ? { kind: 'if', cond: tap.inside, body: [keep] } : keep];
  const scan = tap.axes.reduceRight<readonly Stmt[]>((inner, a) => [{ kind: 'scan', axis: a, body: inner }], visit);
  return {
    form: { kind: 'reduce' },
    axes,
    body: [
      assign(best, constant(dtype, identity('max', dtype))),
      assign(position, index(-1)),
      ...scan,
      ctx.store(0, coords, local(best, dtype)),
      ctx.store(1, coords, cast('i64', local(position, 'i32'))),
    ],
  };
}
