/**
 * TopK: the k largest or smallest elements along an axis, best first, and where they stand. Of equal ones the first comes first; NaN
 * counts as larger than any number.
 *
 * The kernel keeps the k best of a row so far in a heap with the worst of them at its root, so that most elements are told by one
 * comparison to be worse than all of them. In the end it takes the heap apart. Elements of up to 32 bits are compared by integers that are
 * made of them first, in lanes.
 */
import { DTYPES, type DType, isFloat } from '../core/dtype.ts';
import type { StaticShape } from '../core/shape.ts';
import { fromNumbers, type Tensor, zeros } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import {
  add,
  axis,
  binary,
  bitcast,
  cast,
  constant,
  index,
  like,
  local,
  max,
  min,
  mul,
  select,
  sub,
  unary,
} from '../loop/expr.ts';
import type { Expr, Stmt } from '../loop/ir.ts';
import { isCounted, storeCount } from './counted.ts';
import { attrToInput, checkAxis, dimsInput, i64Vector } from './dims.ts';
import { heapIn } from './heap.ts';
import {
  type AttrsOf,
  bool,
  defineOp,
  int,
  type KernelContext,
  type KernelSpec,
  type Op,
  type OpCase,
  type Scratch,
} from './op.ts';
import { toFloat64 } from './product.ts';
import { assign, dimOffsets, otherDims } from './rows.ts';

const ATTRS = { axis: int(-1), largest: bool(true), sorted: bool(true) } as const;
type TopKAttrs = AttrsOf<typeof ATTRS>;

const along = (attrs: TopKAttrs, shape: StaticShape): number =>
  attrs.axis < 0 ? attrs.axis + shape.length : attrs.axis;

function inferTopK(ctx: InferContext<TopKAttrs>) {
  const { dtype, shape } = ctx.input(0);
  const dim = checkAxis(ctx, ctx.attrs.axis, shape.length);
  const size = shape[dim];
  const known = dimsInput(ctx, 1)?.[0];
  if (typeof known === 'number' && known < 0) ctx.fail(`k is ${known}`);
  if (typeof known === 'number' && typeof size === 'number' && known > size)
    ctx.fail(`k is ${known}, axis ${dim} has ${size}`);
  const picked = shape.with(dim, known ?? ctx.freshDim('k', size));
  return [
    { dtype, shape: picked },
    { dtype: 'i64' as const, shape: picked },
  ].slice(0, ctx.outputCount);
}

/** Positions within a row, best first. */
function order(values: Float64Array, row: number, steps: Int32Array, largest: boolean): Int32Array {
  const positions = Int32Array.from(steps, (_, i) => i);
  const sign = largest ? -1 : 1;
  const at = (i: number) => values[row + steps[i]];
  const compare = (a: number, b: number): number => {
    if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
    return a < b ? -1 : a > b ? 1 : 0;
  };
  return positions.sort((i, j) => sign * compare(at(i), at(j)) || i - j);
}

function evalTopK(x: Tensor, attrs: TopKAttrs, shape: StaticShape): readonly [Tensor, Tensor] {
  const dim = along(attrs, x.shape);
  const values = toFloat64(x);
  const [steps, outSteps] = [dimOffsets(x.shape, [dim]), dimOffsets(shape, [dim])];
  const others = otherDims(x.shape.length, [dim]);
  const outRows = dimOffsets(shape, others);
  const [picked, positions] = [zeros(x.dtype, shape), zeros('i64', shape)];
  dimOffsets(x.shape, others).forEach((row, r) => {
    const best = order(values, row, steps, attrs.largest);
    outSteps.forEach((step, t) => {
      picked.data[outRows[r] + step] = x.data[row + steps[best[t]]] as never;
      positions.data[outRows[r] + step] = BigInt(best[t]) as never;
    });
  });
  return [picked, positions];
}

/** What elements are compared by: an order without regard to where they stand. */
interface Order {
  readonly dtype: DType;
  /** a stands before b. */
  beats(a: Expr, b: Expr): Expr;
}

/** By themselves; NaN is more than any number. */
function plainOrder(dtype: DType, largest: boolean): Order {
  const beats = (a: Expr, b: Expr): Expr => {
    const better = binary(largest ? 'gt' : 'lt', a, b);
    if (!isFloat(dtype)) return better;
    const [first, second] = largest ? [a, b] : [b, a];
    const nanFirst = binary('and', unary('isnan', first), unary('not', unary('isnan', second)));
    return binary('or', better, nanFirst);
  };
  return { dtype, beats };
}

const KEY_ORDER: Order = { dtype: 'i32', beats: (a, b) => binary('gt', a, b) };

/**
 * An i32 that is greater the earlier x stands, where one can be: of a float its bits, those behind the sign turned round where it is
 * negative, so that integers are in the order of the floats; zeros are equal, NaN is more than all.
 */
function keyOf(x: Expr, largest: boolean): Expr | undefined {
  const { bytes, kind } = DTYPES[x.dtype];
  if (bytes > 4 || x.dtype === 'u32') return undefined;
  const from = (key: Expr): Expr => (largest ? key : unary('bitnot', key));
  if (kind !== 'float') return from(cast('i32', x));
  const value = cast('f32', x);
  const bits = bitcast('i32', value);
  const turned = binary('bitxor', bits, binary('bitand', binary('shr', bits, index(31)), index(2 ** 31 - 1)));
  const number = select(binary('eq', value, constant('f32', 0)), index(0), turned);
  return from(select(unary('isnan', value), index(2 ** 31 - 1), number));
}

function buildTopK(ctx: KernelContext<TopKAttrs>): KernelSpec {
  const { dtype, shape } = ctx.input(0);
  const { largest } = ctx.attrs;
  const dim = along(ctx.attrs, shape);
  const wanted = ctx.outputs.findIndex((out) => out !== undefined);
  const others = otherDims(shape.length, [dim]);
  const { axes, coords } = ctx.outputAxes(wanted, others);
  const size = shape[dim];
  const isOpen = isCounted(ctx);
  const most = isOpen ? size : ctx.outputs[wanted].shape[dim];
  const given = isOpen ? ctx.load(1, [index(0)]) : index(0);

  const names = ['k', 'left', 'candidate'].map((hint) => ctx.fresh(hint));
  const [k, left, candidate] = names.map((name) => local(name, 'i32'));
  const [offer, worst] = ['offer', 'worst'].map((hint) => ctx.fresh(hint));
  const setK = assign(names[0], isOpen ? cast('i32', min(max(given, like(given, 0)), like(given, size))) : index(most));

  // Each row has a part of the arrays of its own.
  const row = others.reduce((at, d) => add(mul(at, index(shape[d])), coords[d]), index(0));
  const ofRow = (array: Scratch): Scratch => {
    const place = (at: Expr): Expr => add(mul(row, index(size)), at);
    return { load: (at) => array.load(place(at)), store: (at, x) => array.store(place(at), x) };
  };
  const positions = ofRow(ctx.scratch(0, 'heap'));
  const valueAt = (at: Expr): Expr => ctx.load(0, coords.with(dim, at));
  const element = ctx.fresh('i');
  const key = keyOf(valueAt(axis(element)), largest);
  const keys = key && ofRow(ctx.scratch(0, 'keys'));
  const order = keys ? KEY_ORDER : plainOrder(dtype, largest);
  const rankOf = (at: Expr): Expr => (keys ? keys.load(at) : valueAt(at));
  const setKeys: Stmt[] =
    keys && key ? [{ kind: 'for', axis: { name: element, extent: size }, body: [keys.store(axis(element), key)] }] : [];
  const heap = heapIn(ctx, positions, (a, b, into) => {
    const [p, q] = [ctx.fresh('p'), ctx.fresh('q')];
    const [ofA, ofB] = [local(p, order.dtype), local(q, order.dtype)];
    const [aBeats, bBeats] = [order.beats(ofA, ofB), order.beats(ofB, ofA)];
    const isTied = unary('not', binary('or', aBeats, bBeats));
    const isLater = binary('or', bBeats, binary('and', isTied, binary('gt', a, b)));
    return [assign(p, rankOf(a)), assign(q, rankOf(b)), assign(into, isLater)];
  });
  const scan = (hint: string, extent: number, end: Expr, body: (i: Expr) => readonly Stmt[]): Stmt => {
    const name = ctx.fresh(hint);
    const i = axis(name);
    return { kind: 'scan', axis: { name, extent }, while: binary('lt', i, end), body: body(i) };
  };
  const when = (cond: Expr, ...body: Stmt[]): Stmt => ({ kind: 'if', cond, body });
  const setWorst = assign(worst, rankOf(positions.load(index(0))));

  const fill = scan('i', most, k, (i) => [positions.store(i, i)]);
  const offers = scan('i', size, sub(index(size), k), (i) => [
    assign(names[2], add(i, k)),
    assign(offer, rankOf(candidate)),
    when(
      order.beats(local(offer, order.dtype), local(worst, order.dtype)),
      positions.store(index(0), candidate),
      ...heap.sink(k),
      setWorst,
    ),
  ]);
  // The worst goes behind the others, which get fewer by it.
  const sort = scan('i', most, k, (i) => [
    assign(names[1], sub(sub(k, index(1)), i)),
    assign(names[2], positions.load(index(0))),
    positions.store(index(0), positions.load(left)),
    positions.store(left, candidate),
    when(binary('gt', left, index(0)), ...heap.sink(left)),
  ]);
  const tell = scan('i', most, k, (i) => {
    const results = [valueAt(candidate), cast('i64', candidate)];
    const stores = results.flatMap((x, o) => (ctx.outputs[o] ? [ctx.store(o, coords.with(dim, i), x)] : []));
    return [assign(names[2], positions.load(i)), ...stores];
  });
  const pick = when(binary('gt', k, index(0)), ...setKeys, fill, ...heap.build(k, most), setWorst, offers, sort, tell);
  const form = { kind: 'routine', name: 'top-k' } as const;
  if (!isOpen) return { form, axes, body: [setK, pick] };
  // One point says how many there are, so it does all rows.
  const rows = axes.reduceRight<readonly Stmt[]>((body, axis) => [{ kind: 'for', axis, body }], [pick]);
  return { form, axes: [], body: [setK, ...rows, ...storeCount(ctx, 0, k)] };
}

const topKCase = (name: string, shape: number[], k: number, attrs: OpCase['attrs'] = {}): OpCase => ({
  name,
  attrs,
  inputs: [{ dtype: 'f32', shape }, { constant: i64Vector([k]) }],
  outputs: 2,
});

const topK = defineOp({
  name: 'TopK',
  onnx: {
    since: 1,
    // Opset 1 has k as an attribute, opset 10 as an input; opset 11 can ask for the smallest.
    upgrade: (node, ctx) => attrToInput(node, ctx, 'k', 1),
  },
  attrs: ATTRS,
  inputs: [2, 2],
  outputs: 2,
  infer: inferTopK,
  eval: ([x], attrs, outputs) => evalTopK(x!, attrs, outputs[0].shape).slice(0, outputs.length),
  lower: { kind: 'kernel', layout: 'row-major', streams: [], rereads: true, counts: true, build: buildTopK },
  cases: [
    topKCase('last axis', [3, 11], 4),
    topKCase('all of them', [2, 7], 7),
    topKCase('first axis, smallest', [9, 2], 3, { axis: 0, largest: false }),
    topKCase('middle axis', [2, 5, 3], 1, { axis: 1 }),
    topKCase('none', [2, 5], 0),
    topKCase('a long axis', [2, 301], 40),
    topKCase('half of a long axis, smallest', [131, 3], 65, { axis: 0, largest: false }),
    {
      name: 'many ties',
      inputs: [{ dtype: 'i32', shape: [3, 200], range: [0, 4] }, { constant: i64Vector([90]) }],
      outputs: 2,
    },
    ...[true, false].map(
      (largest): OpCase => ({
        name: `NaN, ${largest ? 'largest' : 'smallest'}`,
        attrs: { largest },
        inputs: [
          fromNumbers('f32', [11], [1, Number.NaN, -2, Infinity, 0, Number.NaN, -Infinity, -0, 7, 1, Number.NaN]),
          { constant: i64Vector([9]) },
        ],
        outputs: 2,
      }),
    ),
    {
      name: 'ties',
      inputs: [{ dtype: 'i64', shape: [4, 13], range: [0, 3] }, { constant: i64Vector([6]) }],
      outputs: 2,
    },
    {
      name: 'i32, smallest',
      attrs: { largest: false },
      inputs: [{ dtype: 'i32', shape: [17] }, { constant: i64Vector([5]) }],
      outputs: 2,
    },
    { name: 'f64', inputs: [{ dtype: 'f64', shape: [17] }, { constant: i64Vector([5]) }], outputs: 2 },
  ],
});

export const TOP_K_OPS: readonly Op[] = [topK];
