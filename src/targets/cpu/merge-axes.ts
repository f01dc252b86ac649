/**
 * Index spaces made simple before they become loops: axes of extent 1 go, neighbours that memory cannot tell apart become one.
 *
 * Two neighbours x (outer) and y merge where every index has coef(x) = coef(y)·extent(y) and neither stands anywhere else: then
 * coef(x)·x + coef(y)·y = coef(y)·(x·extent(y) + y). Elementwise work over tensors of one layout becomes a single flat loop.
 */
import * as e from '../../loop/expr.ts';
import type { Axis, Expr, Kernel, Stmt } from '../../loop/ir.ts';
import { ExprTable } from './linear.ts';
import { eachExpr, eachStmt, exprMapper, exprsOf, mapStmts } from './walk.ts';

interface Nest {
  readonly axes: readonly Axis[];
  readonly body: readonly Stmt[];
}

/** The kernel with its parallel axes, and the axes of each reduce, simplified. Its form no longer describes it. */
export function mergeAxes(kernel: Kernel): Kernel {
  const body = kernel.body.map((s) => mergeInside(s));
  return { ...kernel, ...mergeNest({ axes: kernel.axes, body }) };
}

function mergeInside(s: Stmt): Stmt {
  if (s.kind === 'reduce') return { ...s, ...mergeReduce(s.axes, s.value) };
  return s.kind === 'for' || s.kind === 'scan' || s.kind === 'if' ? { ...s, body: s.body.map(mergeInside) } : s;
}

/** The axes of a reduction over `value`, simplified. */
export function mergeReduce(over: readonly Axis[], value: Expr): { axes: readonly Axis[]; value: Expr } {
  const { axes, body } = mergeNest({ axes: over, body: [{ kind: 'let', local: '', dtype: value.dtype, value }] });
  const [inner] = body;
  return inner.kind === 'let' ? { axes, value: inner.value } : { axes: over, value };
}

function mergeNest(nest: Nest): Nest {
  let { axes, body } = nest;
  for (const axis of axes.filter(isPoint)) body = replaceAxis(body, axis.name, e.index(0));
  axes = axes.filter((a) => !isPoint(a));
  for (let i = 0; i + 1 < axes.length; ) {
    const [x, y] = [axes[i], axes[i + 1]];
    if (canMerge(body, x, y)) {
      body = replaceAxis(body, x.name, e.index(0));
      axes = axes.toSpliced(i, 2, joined(x, y));
      i = Math.max(0, i - 1);
    } else i++;
  }
  return { axes, body };
}

const isPoint = (axis: Axis): boolean => axis.extent === 1 && !axis.limit;

/** Where x has a limit, so many times y's extent of the points are. */
const joined = (x: Axis, y: Axis): Axis => ({
  name: y.name,
  extent: x.extent * y.extent,
  ...(x.limit && { limit: e.mul(x.limit, e.index(y.extent)) }),
});

function canMerge(body: readonly Stmt[], x: Axis, y: Axis): boolean {
  if (y.limit || x.extent * y.extent >= 2 ** 31) return false;
  const table = new ExprTable();
  const names = new Set([x.name, y.name]);
  const indices = new Set<Expr>();
  eachStmt(body, (s) => {
    if (s.kind === 'store') indices.add(s.index);
  });
  eachExpr(body, (ex) => {
    if (ex.kind === 'load') indices.add(ex.index);
  });
  for (const index of indices) {
    const strides = [x, y].map((axis) => table.strideAlong(index, axis.name));
    if (strides[0] === undefined || strides[1] === undefined || strides[0] !== strides[1] * y.extent) return false;
  }
  return !standsOutsideIndices(body, names);
}

/** The axes may stand in indices, whose linear form says all about them, and nowhere else. */
function standsOutsideIndices(body: readonly Stmt[], names: ReadonlySet<string>): boolean {
  const dropIndices = exprMapper((x) => (x.kind === 'load' ? { ...x, index: e.index(0) } : x));
  let found = false;
  eachStmt(body, (s) => {
    for (const x of s.kind === 'store' ? [s.value] : exprsOf(s)) {
      eachExpr([{ kind: 'let', local: '', dtype: x.dtype, value: dropIndices(x) }], (part) => {
        if (part.kind === 'axis' && names.has(part.name)) found = true;
      });
    }
  });
  return found;
}

function replaceAxis(body: readonly Stmt[], name: string, by: Expr): readonly Stmt[] {
  return mapStmts(
    body,
    exprMapper((x) => (x.kind === 'axis' && x.name === name ? by : x)),
  );
}
