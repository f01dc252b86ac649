/**
 * LinearAttention: attention whose keys and values are kept as one matrix a head, S, that each token updates and each query reads.
 *
 *     linear        S ← S + k ⊗ v                              o = scale · qᵀS
 *     gated         S ← e^g · S + k ⊗ v
 *     delta         S ← S + β · k ⊗ (v − Sᵀk)
 *     gated_delta   S ← e^g · S + β · k ⊗ (v − (e^g · S)ᵀk)
 *
 * Queries may have more heads than keys: consecutive ones share an S. Columns of S, one an element of the values, are independent of
 * each other: a kernel has a point a column, which goes through the tokens in order. https://arxiv.org/abs/2412.06464 (gated delta)
 */
import type { DType } from '../core/dtype.ts';
import { type Dim, floorDivDims, mulDims, printShape, type Shape } from '../core/shape.ts';
import { fromNumbers, type Tensor, type TensorType } from '../core/tensor.ts';
import type { InferContext } from '../graph/semantics.ts';
import { add, axis, cast, constant, index, local, mul, sub, unary } from '../loop/expr.ts';
import type { Expr, Stmt } from '../loop/ir.ts';
import { checkFloats, mayBeEqual } from './dims.ts';
import {
  type AttrsOf,
  defineOp,
  float,
  int,
  type KernelContext,
  type KernelSpec,
  type Op,
  type OpCase,
  oneOf,
} from './op.ts';
import { toFloat64 } from './product.ts';
import { assign } from './rows.ts';

const ATTRS = {
  q_num_heads: int.required,
  kv_num_heads: int.required,
  update_rule: oneOf('gated_delta', 'linear', 'gated', 'delta'),
  /** 0: 1 / √(size of a key). */
  scale: float(0),
  /** A hint for tuning; the result does not depend on it. */
  chunk_size: int(64),
} as const;
type LinearAttrs = AttrsOf<typeof ATTRS>;

const isGated = ({ update_rule }: LinearAttrs): boolean => update_rule.startsWith('gated');
const isDelta = ({ update_rule }: LinearAttrs): boolean => update_rule.endsWith('delta');

/** Sizes with all shapes known. */
interface Sizes {
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  /** Heads of queries that share one of keys. */
  readonly group: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly scale: number;
  /** Whether the gate has a number an element of the key, or one a head. */
  readonly gateOfKey: boolean;
  readonly rateOfHead: boolean;
}

function sizesOf(types: readonly (TensorType | undefined)[], attrs: LinearAttrs): Sizes {
  const [batch, length, width] = types[0]!.shape;
  const heads = attrs.kv_num_heads;
  const keySize = width / attrs.q_num_heads;
  return {
    ...{ batch, length, heads, keySize },
    group: attrs.q_num_heads / heads,
    valueSize: types[2]!.shape[2] / heads,
    scale: attrs.scale || 1 / Math.sqrt(keySize),
    gateOfKey: types[4] !== undefined && types[4].shape[2] !== heads,
    rateOfHead: types[5] !== undefined && types[5].shape[2] !== 1,
  };
}

function inferLinear(ctx: InferContext<LinearAttrs>) {
  checkFloats(ctx);
  const { attrs } = ctx;
  const { q_num_heads: heads, kv_num_heads: kvHeads } = attrs;
  if (heads < 1 || kvHeads < 1 || heads % kvHeads !== 0)
    ctx.fail(`${heads} heads of queries are no multiple of ${kvHeads} heads of keys`);
  const [q, k, v] = [0, 1, 2].map((i) => {
    const type = ctx.input(i);
    if (type.shape.length !== 3) ctx.fail(`input ${i} has rank ${type.shape.length}, expected 3`);
    return type;
  });
  for (const [what, type, count] of [
    ['queries', q, heads],
    ['keys', k, kvHeads],
    ['values', v, kvHeads],
  ] as const) {
    const width = type.shape[2];
    if (typeof width === 'number' && width % count !== 0)
      ctx.fail(`${width} elements of ${what} do not split into ${count} heads`);
  }
  if (isGated(attrs) && !ctx.inputs[4]) ctx.fail(`rule ${attrs.update_rule} needs decay, input 4`);
  if (isDelta(attrs) && !ctx.inputs[5]) ctx.fail(`rule ${attrs.update_rule} needs beta, input 5`);
  const valueSize: Dim = floorDivDims(v.shape[2], kvHeads);
  const state = [q.shape[0], kvHeads, floorDivDims(q.shape[2], heads), valueSize];
  const past = ctx.inputs[3];
  checkShape(ctx, 'state', past?.shape, [state]);
  const [batch, length] = q.shape;
  const perHead = [batch, length, kvHeads];
  checkShape(ctx, 'decay', ctx.inputs[4]?.shape, [perHead, [batch, length, k.shape[2]]]);
  checkShape(ctx, 'beta', ctx.inputs[5]?.shape, [perHead, [batch, length, 1]]);
  return [
    { dtype: q.dtype, shape: [q.shape[0], q.shape[1], mulDims(valueSize, heads)] },
    { dtype: past?.dtype ?? q.dtype, shape: state },
  ].slice(0, ctx.outputCount);
}

/** Throws through ctx.fail unless an optional input may have one of the shapes. */
function checkShape(
  ctx: InferContext<unknown>,
  what: string,
  given: Shape | undefined,
  wanted: readonly Shape[],
): void {
  const fits = (shape: Shape): boolean =>
    given?.length === shape.length && given.every((d, i) => mayBeEqual(d, shape[i]));
  if (given && !wanted.some(fits))
    ctx.fail(`${what} is ${printShape(given)}, expected ${wanted.map(printShape).join(' or ')}`);
}

function evalLinear(inputs: readonly (Tensor | undefined)[], attrs: LinearAttrs, outputs: readonly TensorType[]) {
  const s = sizesOf(inputs, attrs);
  const [q, k, v, past, decay, beta] = inputs.map((t) => t && toFloat64(t));
  const y = new Float64Array(s.batch * s.length * s.heads * s.group * s.valueSize);
  const state = past ? past.slice() : new Float64Array(s.batch * s.heads * s.keySize * s.valueSize);
  for (let b = 0; b < s.batch; b++) {
    for (let h = 0; h < s.heads; h++) {
      const head = b * s.heads + h;
      for (let t = 0; t < s.length; t++) {
        const token = b * s.length + t;
        const keyAt = (token * s.heads + h) * s.keySize;
        const gate = (i: number): number => {
          if (!decay || !isGated(attrs)) return 1;
          return Math.exp(decay[s.gateOfKey ? keyAt + i : token * s.heads + h]);
        };
        const rate = !beta || !isDelta(attrs) ? 1 : beta[s.rateOfHead ? token * s.heads + h : token];
        for (let j = 0; j < s.valueSize; j++) {
          const at = (i: number): number => (head * s.keySize + i) * s.valueSize + j;
          let recalled = 0;
          for (let i = 0; i < s.keySize; i++) {
            state[at(i)] *= gate(i);
            recalled += state[at(i)] * k![keyAt + i];
          }
          const value = v![(token * s.heads + h) * s.valueSize + j];
          const change = isDelta(attrs) ? rate * (value - recalled) : value;
          for (let i = 0; i < s.keySize; i++) state[at(i)] += k![keyAt + i] * change;
          for (let g = 0; g < s.group; g++) {
            const queryHead = (token * s.heads + h) * s.group + g;
            let sum = 0;
            for (let i = 0; i < s.keySize; i++) sum += q![queryHead * s.keySize + i] * state[at(i)];
            y[queryHead * s.valueSize + j] = s.scale * sum;
          }
        }
      }
    }
  }
  return outputs.map(({ dtype, shape }, i) => fromNumbers(dtype, shape, i === 0 ? y : state));
}

/** One point a column of S, which output 1 holds while the tokens go by. */
function buildLinear(ctx: KernelContext<LinearAttrs>): KernelSpec {
  const { attrs } = ctx;
  const s = sizesOf(ctx.inputs, attrs);
  const work: DType = ctx.outputs[0].dtype === 'f64' ? 'f64' : 'f32';
  const { axes, coords } = ctx.outputAxes(1, [0, 1, 3]);
  const [b, h, , j] = coords;
  const along = { name: ctx.fresh('t'), extent: s.length };
  const t = axis(along.name);
  const packed = (head: Expr, size: number, i: Expr): Expr => add(mul(head, index(size)), i);
  const key = (i: Expr): Expr => cast(work, ctx.load(1, [b, t, packed(h, s.keySize, i)]));
  const gated = (i: Expr): Expr => {
    const held = cast(work, ctx.loadOutput(1, coords.with(2, i)));
    if (!isGated(attrs)) return held;
    const gate = cast(work, ctx.load(4, [b, t, s.gateOfKey ? packed(h, s.keySize, i) : h]));
    return mul(unary('exp', gate), held);
  };
  const hold = (i: Expr, x: Expr): Stmt => ctx.store(1, coords.with(2, i), cast(ctx.outputs[1].dtype, x));
  const overKey = (hint: string) => ({ name: ctx.fresh(hint), extent: s.keySize });
  const sum = (hint: string, value: (i: Expr) => Expr): { readonly stmt: Stmt; readonly value: Expr } => {
    const [name, over] = [ctx.fresh(hint), overKey('i')];
    const stmt: Stmt = {
      kind: 'reduce',
      local: name,
      dtype: work,
      op: 'add',
      axes: [over],
      value: value(axis(over.name)),
    };
    return { stmt, value: local(name, work) };
  };
  const each = (body: (i: Expr) => Stmt): Stmt => {
    const over = overKey('i');
    return { kind: 'for', axis: over, body: [body(axis(over.name))] };
  };

  const change = ctx.fresh('change');
  const value = cast(work, ctx.load(2, [b, t, packed(h, s.valueSize, j)]));
  const recalled = sum('recalled', (i) => mul(gated(i), key(i)));
  const rate = (): Expr => cast(work, ctx.load(5, [b, t, s.rateOfHead ? h : index(0)]));
  const read = Array.from({ length: s.group }, (_, g): readonly Stmt[] => {
    const head = packed(h, s.group, index(g));
    const query = (i: Expr): Expr => cast(work, ctx.load(0, [b, t, packed(head, s.keySize, i)]));
    const found = sum('found', (i) => mul(query(i), cast(work, ctx.loadOutput(1, coords.with(2, i)))));
    const result = mul(found.value, constant(work, s.scale));
    return [found.stmt, ctx.store(0, [b, t, packed(head, s.valueSize, j)], cast(ctx.outputs[0].dtype, result))];
  });
  const step: readonly Stmt[] = [
    ...(isDelta(attrs)
      ? [recalled.stmt, assign(change, mul(rate(), sub(value, recalled.value)))]
      : [assign(change, value)]),
    each((i) => hold(i, add(gated(i), mul(key(i), local(change, work))))),
    ...read.flat(),
  ];
  const start = (i: Expr): Expr => (ctx.inputs[3] ? cast(work, ctx.load(3, coords.with(2, i))) : constant(work, 0));
  return {
    form: { kind: 'routine', name: 'linear-attention' },
    axes,
    body: [each((i) => hold(i, start(i))), { kind: 'scan', axis: along, body: step }],
  };
}

const linearAttention = defineOp({
  name: 'LinearAttention',
  onnx: { since: 27 },
  attrs: ATTRS,
  inputs: [3, 6],
  outputs: 2,
  infer: inferLinear,
  eval: evalLinear,
  // The kernel needs a place for S, wanted or not.
  expand(b, node) {
    if (node.outputs.length === 2) return undefined;
    const outputs = [b.fresh('attended'), b.fresh('state')];
    return [b.node('LinearAttention', node.inputs, { attrs: node.attrs, outputs })[0]];
  },
  lower: { kind: 'kernel', layout: 'row-major', streams: [], rereads: true, build: buildLinear },
  cases: cases(),
});

function cases(): readonly OpCase[] {
  const f32 = (shape: readonly number[], range?: readonly [number, number]) =>
    ({ dtype: 'f32', shape, ...(range && { range }) }) as const;
  const [q, k, v] = [f32([2, 5, 12]), f32([2, 5, 6]), f32([2, 5, 14])];
  const heads = { q_num_heads: 4, kv_num_heads: 2 };
  const past = f32([2, 2, 3, 7]);
  const decay = f32([2, 5, 2], [-1, 0]);
  const beta = f32([2, 5, 2], [0, 1]);
  return [
    { name: 'linear', inputs: [q, k, v], attrs: { ...heads, update_rule: 'linear' } },
    {
      name: 'gated, with state',
      inputs: [q, k, v, past, decay],
      attrs: { ...heads, update_rule: 'gated' },
      outputs: 2,
    },
    {
      name: 'gated by key',
      inputs: [q, k, v, undefined, f32([2, 5, 6], [-1, 0])],
      attrs: { ...heads, update_rule: 'gated', scale: 0.7 },
      outputs: 2,
    },
    {
      name: 'delta, one rate for all heads',
      inputs: [q, k, v, past, undefined, f32([2, 5, 1], [0, 1])],
      attrs: { ...heads, update_rule: 'delta' },
    },
    { name: 'gated delta', inputs: [q, k, v, past, decay, beta], attrs: heads, outputs: 2 },
    {
      name: 'one token',
      inputs: [f32([1, 1, 4]), f32([1, 1, 4]), f32([1, 1, 3]), undefined, f32([1, 1, 1]), f32([1, 1, 1])],
      attrs: { q_num_heads: 1, kv_num_heads: 1 },
      outputs: 2,
    },
  ];
}

export const LINEAR_ATTENTION_OPS: readonly Op[] = [linearAttention];
