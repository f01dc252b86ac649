/**
 * Runs one operator's own lowering, with nothing of the compiler between: its kernel is built over plain buffers and evaluated.
 *
 * So a wrong result is the operator's fault alone, not fusion's or layout's. `layout` says how all tensors lie in memory; a lowering
 * must not care. Inputs come from the operator's generated cases, drawn from a seed.
 */
import { DTYPES, type DType, isFloat, type TypedArray } from '../src/core/dtype.ts';
import { elements, rowMajorStrides, type StaticShape, staticShape } from '../src/core/shape.ts';
import { fromNumbers, type Tensor, type TensorType, toNumbers } from '../src/core/tensor.ts';
import { addConstant, inferNode, noFacts } from '../src/graph/infer.ts';
import type { Attrs, Node } from '../src/graph/ir.ts';
import { affineExpr, contractKernel } from '../src/loop/contract.ts';
import { evalKernel } from '../src/loop/eval.ts';
import * as e from '../src/loop/expr.ts';
import type { Access, Axis, Buffer, Contract, Expr, Kernel, Stmt } from '../src/loop/ir.ts';
import { verifyKernel } from '../src/loop/verify.ts';
import type { ContractSpec, KernelContext, KernelSpec, LowerContext, Op, OpCase } from '../src/ops/op.ts';

/** A node on drawn inputs, with the types that inference gave. */
export interface DrawnCase {
  readonly op: Op;
  readonly attrs: Attrs;
  readonly inputs: readonly (Tensor | undefined)[];
  readonly outputs: readonly TensorType[];
}

export type Layout = 'row-major' | 'channels-last' | 'reversed';

/** Dims from outermost to innermost. */
const ORDERS: { readonly [L in Layout]: (rank: number) => number[] } = {
  'row-major': (rank) => [...Array(rank).keys()],
  'channels-last': (rank) => (rank < 3 ? [...Array(rank).keys()] : [0, ...[...Array(rank).keys()].slice(2), 1]),
  reversed: (rank) => [...Array(rank).keys()].reverse(),
};

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
export function randomSource(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function drawTensor(dtype: DType, shape: StaticShape, range: readonly [number, number], random: () => number): Tensor {
  const [low, high] = range;
  const draw = () => {
    const x = low + random() * (high - low);
    return dtype === 'bool' ? Math.round(random()) : isFloat(dtype) ? x : Math.floor(x);
  };
  return fromNumbers(dtype, shape, Array.from({ length: elements(shape) }, draw));
}

const defaultRange = (dtype: DType): readonly [number, number] =>
  isFloat(dtype) ? [-2, 2] : DTYPES[dtype].kind === 'uint' ? [0, 9] : [-8, 9];

/** Draws a case's inputs and infers its outputs, all of whose sizes must then be known. */
export function drawCase(op: Op, testCase: OpCase, seed = 1): DrawnCase {
  const random = randomSource(seed);
  const facts = noFacts();
  const inputs = testCase.inputs.map((input, i) => {
    if (!input) return undefined;
    if ('constant' in input) {
      addConstant(facts, `in${i}`, input.constant);
      return input.constant;
    }
    const value =
      'data' in input ? input : drawTensor(input.dtype, input.shape, input.range ?? defaultRange(input.dtype), random);
    facts.types.set(`in${i}`, value);
    return value;
  });
  const attrs = op.completeAttrs(testCase.attrs ?? {}, (message) => {
    throw new Error(`${op.key}, case "${testCase.name}": ${message}`);
  });
  const node: Node = {
    op: op.key,
    inputs: inputs.map((x, i) => (x ? `in${i}` : '')),
    outputs: Array.from({ length: testCase.outputs ?? 1 }, (_, i) => `out${i}`),
    attrs,
    loc: [testCase.name],
  };
  const outputs = inferNode(node, op, facts).map(({ dtype, shape }) => ({ dtype, shape: staticShape(shape) }));
  return { op, attrs, inputs, outputs };
}

/** The outputs by the operator's definition. */
export const evalCase = ({ op, attrs, inputs, outputs }: DrawnCase): Tensor[] => op.eval(inputs, attrs, outputs);

interface Placed {
  readonly buffer: string;
  readonly type: TensorType;
  readonly order: readonly number[];
  readonly strides: readonly number[];
}

function place(buffer: string, type: TensorType, layout: Layout): Placed {
  const order = ORDERS[layout](type.shape.length);
  const ordered = rowMajorStrides(order.map((d) => type.shape[d]));
  return { buffer, type, order, strides: type.shape.map((_, d) => ordered[order.indexOf(d)]) };
}

const offsetAt = (p: Placed, coords: readonly Expr[]): Expr =>
  coords.reduce<Expr>((sum, c, d) => e.add(sum, e.mul(c, e.index(p.strides[d]))), e.index(0));

/** The outputs by evaluating the operator's lowered kernel; all inputs and outputs lie in `layout`. */
export function runLowering(drawn: DrawnCase, layout: Layout = 'row-major'): Tensor[] {
  const { inputs, outputs } = drawn;
  const sources = inputs.map((t, i) => t && place(`in${i}`, t, layout));
  const targets = outputs.map((t, i) => place(`out${i}`, t, layout));
  const placed = [...sources.flatMap((s) => s ?? []), ...targets];
  const buffers = placed.map(({ buffer, type }): Buffer => {
    const role = buffer.startsWith('in') ? 'in' : 'out';
    return { name: buffer, dtype: type.dtype, elements: elements(type.shape), role };
  });
  const memory = new Map<string, TypedArray>();
  for (const t of targets) memory.set(t.buffer, poisoned(t.type));
  for (const [i, s] of sources.entries()) if (s) memory.set(s.buffer, permute(inputs[i] as Tensor, s, 'to memory'));
  for (const kernel of kernelsOf(drawn, sources, targets, buffers)) {
    for (const { name, dtype, elements: count } of kernel.buffers)
      if (!memory.has(name)) memory.set(name, poisoned({ dtype, shape: [count] }));
    verifyKernel(kernel);
    evalKernel(kernel, memory);
  }
  return targets.map((t) => {
    const stored = { ...t.type, data: memory.get(t.buffer) as TypedArray };
    return { ...t.type, data: permute(stored, t, 'to rows') };
  });
}

/** What the operator's kernel lowering builds. */
export function buildSpec(
  { op, attrs, inputs, outputs }: DrawnCase,
  layout: Layout = 'row-major',
): KernelSpec | ContractSpec {
  if (op.lower?.kind !== 'kernel') throw new Error(`${op.key} does not lower to a kernel of its own`);
  const sources = inputs.map((t, i) => t && place(`in${i}`, t, layout));
  return op.lower.build(
    kernelContext(
      attrs,
      sources,
      outputs.map((t, i) => place(`out${i}`, t, layout)),
    ),
  );
}

/** Elements that a kernel must overwrite. */
function poisoned(type: TensorType): TypedArray {
  const data = new DTYPES[type.dtype].array(elements(type.shape));
  new Uint8Array(data.buffer).fill(0xa5);
  return data;
}

function permute(t: Tensor, p: Placed, direction: 'to memory' | 'to rows'): TypedArray {
  const data = new DTYPES[t.dtype].array(t.data.length);
  const rows = rowMajorStrides(t.shape);
  for (let i = 0; i < data.length; i++) {
    const at = t.shape.reduce((sum, d, k) => sum + (Math.floor(i / rows[k]) % d) * p.strides[k], 0);
    if (direction === 'to memory') data[at] = t.data[i] as never;
    else data[i] = t.data[at] as never;
  }
  return data;
}

function kernelsOf(
  { op, attrs, outputs }: DrawnCase,
  sources: readonly (Placed | undefined)[],
  targets: readonly Placed[],
  buffers: readonly Buffer[],
): Kernel[] {
  const scratch: Buffer[] = [];
  const ctx = kernelContext(attrs, sources, targets, scratch);
  const { lower } = op;
  if (!lower) throw new Error(`${op.key} has no lowering`);
  const map = (i: number, element: (coords: readonly Expr[]) => Expr): Kernel => {
    const { axes, coords } = ctx.outputAxes(i);
    const body = [ctx.store(i, coords, element(coords))];
    return { name: 'map', form: { kind: 'map' }, buffers, axes, body };
  };
  switch (lower.kind) {
    case 'kernel':
      return [kernelOf(lower.build(ctx), ctx, sources, targets, buffers, scratch)];
    case 'elementwise':
      return [map(0, (coords) => lower.expr(broadcastLoads(ctx, coords), attrs, outputs[0].dtype))];
    case 'index':
      return outputs.map((_, i) => map(i, (coords) => lower.read(ctx, i, coords)));
    case 'alias':
    case 'concat':
      throw new Error(`${op.key} lowers as ${lower.kind}: it has no kernel of its own`);
    default:
      return lower satisfies never;
  }
}

const broadcastLoads = (ctx: LowerContext<Attrs>, coords: readonly Expr[]): Expr[] =>
  ctx.inputs.map((type, i) => {
    if (!type) return undefined as never;
    const lead = coords.length - type.shape.length;
    return ctx.load(
      i,
      type.shape.map((extent, d) => (extent === 1 ? e.index(0) : coords[d + lead])),
    );
  });

/** Buffers for scratch memory are added to `scratch`. */
function kernelContext(
  attrs: Attrs,
  sources: readonly (Placed | undefined)[],
  targets: readonly Placed[],
  scratch: Buffer[] = [],
): KernelContext<Attrs> {
  let count = 0;
  const fresh = (hint: string) => `${hint}_${count++}`;
  const source = (i: number): Placed => {
    const s = sources[i];
    if (!s) throw new Error(`input ${i} is absent`);
    return s;
  };
  return {
    attrs,
    inputs: sources.map((s) => s?.type),
    outputs: targets.map((t) => t.type),
    input: (i) => source(i).type,
    constant: (i) => {
      const { type } = source(i);
      return 'data' in type ? (type as Tensor) : undefined;
    },
    load: (i, coords) => e.load(source(i).buffer, source(i).type.dtype, offsetAt(source(i), coords)),
    store: (i, coords, value): Stmt => {
      if (value.dtype !== targets[i].type.dtype) throw new Error(`stores ${value.dtype} in ${targets[i].type.dtype}`);
      return { kind: 'store', buffer: targets[i].buffer, index: offsetAt(targets[i], coords), value };
    },
    loadOutput: (i, coords) => e.load(targets[i].buffer, targets[i].type.dtype, offsetAt(targets[i], coords)),
    outputAxes(i, only) {
      const { shape } = targets[i].type;
      const axes: Axis[] = [];
      const coords: Expr[] = shape.map(() => e.index(0));
      for (const d of targets[i].order) {
        if (shape[d] === 1 || (only && !only.includes(d))) continue;
        const name = fresh('i');
        axes.push({ name, extent: shape[d] });
        coords[d] = e.axis(name);
      }
      return { axes, coords };
    },
    scratch(i, hint) {
      const buffer = fresh(hint);
      scratch.push({ name: buffer, dtype: 'i32', elements: elements(source(i).type.shape), role: 'out' });
      return {
        load: (at) => e.load(buffer, 'i32', at),
        store: (at, value): Stmt => ({ kind: 'store', buffer, index: at, value }),
      };
    },
    fresh,
  };
}

function kernelOf(
  spec: KernelSpec | ContractSpec,
  ctx: KernelContext<Attrs>,
  sources: readonly (Placed | undefined)[],
  targets: readonly Placed[],
  buffers: readonly Buffer[],
  scratch: readonly Buffer[],
): Kernel {
  if ('body' in spec) {
    const { form, axes, body } = spec;
    return { name: 'kernel', form, buffers: [...buffers, ...scratch], axes, body };
  }
  const access = ({ input, at, padded }: ContractSpec['a']): Access => {
    const s = sources[input] as Placed;
    const dims = at.map((a, d) => ({ at: a, extent: s.type.shape[d], stride: s.strides[d], padded }));
    return { buffer: s.buffer, dims };
  };
  const { dtype } = targets[0].type;
  const coords = spec.out.map(affineExpr);
  const acc: DType = isFloat(dtype) && dtype !== 'f64' ? 'f32' : dtype;
  const epilogue = [ctx.store(0, coords, spec.finish(e.cast(dtype, e.local('acc', acc)), coords))];
  const form: Contract = {
    kind: 'contract',
    axes: spec.axes,
    a: access(spec.a),
    b: access(spec.b),
    acc,
    epilogue,
  };
  return contractKernel('contract', buffers, form);
}

/** Largest |a − b| over the largest |b|; Infinity where one is NaN or infinite and the other is not the same. */
export function relativeError(actual: Tensor, expected: Tensor): number {
  const numbers = (t: Tensor) => Array.from(toNumbers(t));
  const [a, b] = [numbers(actual), numbers(expected)];
  const scale = b.reduce((m, x) => (Number.isFinite(x) ? Math.max(m, Math.abs(x)) : m), 1e-30);
  return a.reduce((worst, x, i) => {
    if (Object.is(x, b[i]) || x === b[i]) return worst;
    const error = Math.abs(x - b[i]) / scale;
    return Math.max(worst, Number.isNaN(error) ? Number.POSITIVE_INFINITY : error);
  }, 0);
}
