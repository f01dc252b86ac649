/**
 * Choose: one tensor or another of the same rank and element type, as a scalar says. It is what an If becomes whose condition only running
 * tells and whose branches differ in shape; no model holds it, so it has a domain of its own.
 *
 *     out = cond ? a : b          dims in `open` are those of the one that is taken
 *
 * Both are there when it runs. The kernel goes over as many elements as either may have, and counts (counted.ts).
 */
import { dimsEqual, elements, maxDims, printShape, type StaticShape } from '../core/shape.ts';
import { fromNumbers, type Tensor } from '../core/tensor.ts';
import { axis, binary, index, like, select } from '../loop/expr.ts';
import type { Expr, Stmt } from '../loop/ir.ts';
import { storeCount } from './counted.ts';
import { type AttrsOf, defineOp, ints, type KernelContext, type KernelSpec, type Op, type OpCase } from './op.ts';

export const CHOOSE_DOMAIN = 'ai.hotrod';
const ATTRS = { open: ints.required } as const;

const taken = (cond: Tensor): 1 | 2 => (cond.data[0] ? 1 : 2);

function buildChoose(ctx: KernelContext<AttrsOf<typeof ATTRS>>): KernelSpec {
  const [a, b] = [ctx.input(1).shape, ctx.input(2).shape];
  const cond = ctx.load(0, []);
  const names = a.map(() => ctx.fresh('i'));
  const coords = names.map((name) => axis(name));
  const { dtype } = ctx.input(1);
  const nothing = like({ kind: 'local', dtype, name: '' }, 0);
  const element = (input: 1 | 2, shape: StaticShape): Expr => {
    if (elements(shape) === 0) return nothing;
    const at = coords.map((c, d) => (shape[d] === 1 && !ctx.attrs.open.includes(d) ? index(0) : c));
    const inside = ctx.attrs.open.map((d) => binary('lt', coords[d], index(shape[d])));
    return inside.reduceRight((x, isThere) => select(isThere, x, nothing), ctx.load(input, at));
  };
  const store = ctx.store(0, coords, select(cond, element(1, a), element(2, b)));
  const nest = names.reduceRight<Stmt>(
    (inner, name, d) => ({ kind: 'for', axis: { name, extent: Math.max(a[d], b[d]) }, body: [inner] }),
    store,
  );
  const counts = ctx.attrs.open.flatMap((d, k) => storeCount(ctx, k, select(cond, index(a[d]), index(b[d]))));
  return { form: { kind: 'routine', name: 'choose' }, axes: [], body: [nest, ...counts] };
}

const chooseCase = (name: string, cond: number, a: readonly number[], b: readonly number[]): OpCase => ({
  name,
  attrs: { open: a.flatMap((size, d) => (size === b[d] ? [] : [d])) },
  inputs: [{ constant: fromNumbers('bool', [], [cond]) }, { dtype: 'f32', shape: a }, { dtype: 'f32', shape: b }],
});

const choose = defineOp({
  name: 'Choose',
  onnx: { domain: CHOOSE_DOMAIN, since: 1 },
  attrs: ATTRS,
  inputs: [3, 3],
  infer(ctx) {
    const [cond, a, b] = [ctx.input(0), ctx.input(1), ctx.input(2)];
    if (cond.dtype !== 'bool' || cond.shape.length !== 0) ctx.fail('the condition must be one bool');
    const { open } = ctx.attrs;
    const fits = a.shape.length === b.shape.length && open.every((d) => d >= 0 && d < a.shape.length);
    const isSame = fits && a.shape.every((dim, d) => open.includes(d) || dimsEqual(dim, b.shape[d]));
    if (a.dtype !== b.dtype || !isSame)
      ctx.fail(`${printShape(a.shape)} and ${printShape(b.shape)} differ in more than dims [${open}]`);
    const known = ctx.constant(0);
    if (known) return [ctx.input(taken(known))];
    const shape = a.shape.map((dim, d) => {
      if (!open.includes(d)) return dim;
      return ctx.freshDim('chosen', maxDims(dim, b.shape[d]));
    });
    return [{ dtype: a.dtype, shape }];
  },
  eval: ([cond, a, b]) => [(taken(cond!) === 1 ? a : b) as Tensor],
  expand(b, node) {
    const known = b.constantValue(node.inputs[0]);
    return known && b.node('Identity', [node.inputs[taken(known)]], { loc: node.loc });
  },
  lower: { kind: 'kernel', layout: 'row-major', streams: [], counts: true, build: buildChoose },
  cases: [
    chooseCase('the first', 1, [2, 5], [2, 3]),
    chooseCase('the second', 0, [7], [0]),
    chooseCase('nothing', 1, [0, 4], [3, 4]),
    chooseCase('equal shapes', 0, [3, 2], [3, 2]),
  ],
});

export const CHOOSE_OPS: readonly Op[] = [choose];
