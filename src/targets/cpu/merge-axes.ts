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
  const table = new ExprTable();
  let indices = indicesOf(body);
  for (let i = 0; i + 1 < axes.length; ) {
    const [x, y] = [axes[i], axes[i + 1]];
    if (mayBeOne(x, y) && indices.every((index) => isJoined(table, index, x, y)) && !standsOutsideIndices(body, x, y)) {
      body = replaceAxis(body, x.name, e.index(0));
      indices = indicesOf(body);
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

const mayBeOne = (x: Axis, y: Axis): boolean => !y.limit && x.extent * y.extent < 2 ** 31;

/** Whether x, then y move the index as one axis of both would. */
function isJoined(table: ExprTable, index: Expr, x: Axis, y: Axis): boolean {
  const outer = table.strideAlong(index, x.name);
  const inner = table.strideAlong(index, y.name);
  return outer !== undefined && inner !== undefined && outer === inner * y.extent;
}

/** Of all loads and stores, each once. */
function indicesOf(body: readonly Stmt[]): readonly Expr[] {
  const indices = new Set<Expr>();
  eachStmt(body, (s) => {
    if (s.kind === 'store') indices.add(s.index);
  });
  eachExpr(body, (ex) => {
    if (ex.kind === 'load') indices.add(ex.index);
  });
  return [...indices];
}

/** The axes may stand in indices, whose linear form says all about them, and nowhere else. */
function standsOutsideIndices(body: readonly Stmt[], x: Axis, y: Axis): boolean {
  const seen = new Set<Expr>();
  const stands = (part: Expr): boolean => {
    if (part.kind === 'axis') return part.name === x.name || part.name === y.name;
    if (part.kind === 'load' || seen.has(part)) return false;
    seen.add(part);
    return e.children(part).some(stands);
  };
  let found = false;
  eachStmt(body, (s) => {
    found ||= (s.kind === 'store' ? [s.value] : exprsOf(s)).some(stands);
  });
  return found;
}

function replaceAxis(body: readonly Stmt[], name: string, by: Expr): readonly Stmt[] {
  return mapStmts(
    body,
    exprMapper((x) => (x.kind === 'axis' && x.name === name ? by : x)),
  );
}
