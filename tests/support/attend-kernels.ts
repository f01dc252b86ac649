/**
 * Attends as recognition makes them, in the layouts and with the masks that networks have, and what they must give: softmax row by row
 * in float64, written down apart from the loop IR.
 */
import type { DType, TypedArray } from '../../src/core/dtype.ts';
import { attendKernel } from '../../src/loop/attend.ts';
import * as e from '../../src/loop/expr.ts';
import type { Access, Attend, Buffer, Expr, Kernel, Stmt } from '../../src/loop/ir.ts';

export interface AttendShape {
  readonly batch: number;
  /** Heads of keys and values, and heads of queries that share one. */
  readonly heads: number;
  readonly group: number;
  readonly queries: number;
  readonly keys: number;
  readonly inner: number;
  readonly value: number;
  /** Where heads lie: outside of positions, or inside; `turned`: as heads, keys contiguous. */
  readonly layout: 'heads' | 'tokens' | 'turned';
  /** none; an addend by key, by query and key, by head, query and key; a bool by query and key that hides with -inf. */
  readonly mask: 'none' | 'key' | 'full' | 'head' | 'bool';
  readonly scale: number;
  readonly empty: Attend['empty'];
  /** What follows: nothing, or an addend by value and a rectifier. */
  readonly epilogue: 'none' | 'bias-relu';
  /** Of all buffers but bool ones; f32 where absent. What is computed in is f32. */
  readonly dtype?: 'f32' | 'f16' | 'bf16';
}

const DIMS = ['b', 'h', 'g', 's', 't', 'd', 'e'] as const;
type Dim = (typeof DIMS)[number];

const extentsOf = (x: AttendShape): Readonly<Record<Dim, number>> => ({
  b: x.batch,
  h: x.heads,
  g: x.group,
  s: x.queries,
  t: x.keys,
  d: x.inner,
  e: x.value,
});

/** Dims of each buffer, outermost first. */
function layoutsOf({ layout, mask }: AttendShape): Readonly<Record<string, readonly Dim[]>> {
  const masks = { none: [], key: ['b', 't'], full: ['s', 't'], head: ['h', 'g', 's', 't'], bool: ['s', 't'] } as const;
  const rest = { mask: masks[mask], bias: ['e'] } as const;
  return layout === 'tokens'
    ? {
        q: ['b', 's', 'h', 'g', 'd'],
        k: ['b', 't', 'h', 'd'],
        v: ['b', 't', 'h', 'e'],
        y: ['b', 's', 'h', 'g', 'e'],
        ...rest,
      }
    : {
        q: ['b', 'h', 'g', 's', 'd'],
        k: layout === 'turned' ? ['b', 'h', 'd', 't'] : ['b', 'h', 't', 'd'],
        v: ['b', 'h', 't', 'e'],
        y: ['b', 'h', 'g', 's', 'e'],
        ...rest,
      };
}

const stridesOf = (dims: readonly Dim[], extents: Readonly<Record<Dim, number>>): readonly number[] =>
  dims.map((_, i) => dims.slice(i + 1).reduce((n, d) => n * extents[d], 1));

export function attendOf(x: AttendShape): Kernel {
  const extents = extentsOf(x);
  const layouts = layoutsOf(x);
  const access = (buffer: string): Access => ({
    buffer,
    dims: layouts[buffer].map((d, i, dims) => ({
      at: { terms: [{ axis: d, coef: 1 }], constant: 0 },
      extent: extents[d],
      stride: stridesOf(dims, extents)[i],
      padded: false,
    })),
  });
  const at = (buffer: string): Expr =>
    layouts[buffer].reduce<Expr>(
      (sum, d, i, dims) => e.add(sum, e.mul(e.axis(d), e.index(stridesOf(dims, extents)[i]))),
      e.index(0),
    );
  const elements = (buffer: string): number => layouts[buffer].reduce((n, d) => n * extents[d], 1);
  const scaled = e.mul(e.local('dot', 'f32'), e.constant('f32', x.scale));
  const { dtype = 'f32' } = x;
  const mask = (of: DType): Expr => e.load('mask', of, at('mask'));
  const score =
    x.mask === 'none'
      ? scaled
      : x.mask === 'bool'
        ? e.select(mask('bool'), scaled, e.constant('f32', Number.NEGATIVE_INFINITY))
        : e.add(scaled, e.cast('f32', mask(dtype)));
  const acc = e.local('acc', 'f32');
  const value =
    x.epilogue === 'none'
      ? acc
      : e.max(e.add(acc, e.cast('f32', e.load('bias', dtype, at('bias')))), e.constant('f32', 0));
  const store: Stmt = { kind: 'store', buffer: 'y', index: at('y'), value: e.cast(dtype, value) };
  const roles = { b: 'batch', h: 'batch', g: 'query', s: 'query', t: 'key', d: 'inner', e: 'value' } as const;
  const names = [
    'q',
    'k',
    'v',
    ...(x.mask === 'none' ? [] : ['mask']),
    ...(x.epilogue === 'none' ? [] : ['bias']),
    'y',
  ];
  const buffers = names.map(
    (name): Buffer => ({
      name,
      dtype: name === 'mask' && x.mask === 'bool' ? 'bool' : dtype,
      elements: elements(name),
      role: name === 'y' ? 'out' : 'in',
    }),
  );
  const outer = layouts.y.map((d) => ({ name: d, extent: extents[d], role: roles[d] }));
  const inner = (['t', 'd'] as const).map((d) => ({ name: d, extent: extents[d], role: roles[d] }));
  const form: Attend = {
    kind: 'attend',
    axes: [...outer, ...inner],
    q: access('q'),
    k: access('k'),
    v: access('v'),
    acc: 'f32',
    score: [{ kind: 'let', local: 'score', dtype: 'f32', value: score }],
    empty: x.empty,
    epilogue: [store],
  };
  return attendKernel(`attend_${dtype}_${outer.map((a) => a.extent).join('x')}`, buffers, form);
}

/** Row by row in float64: scores, softmax, weighted sum; a row whose weights are NaN has weights 0 where `empty` is zero. */
export function expectedAttend(x: AttendShape, buffers: ReadonlyMap<string, TypedArray>): Float64Array {
  const extents = extentsOf(x);
  const layouts = layoutsOf(x);
  const read = (buffer: string, at: Readonly<Partial<Record<Dim, number>>>): number => {
    const dims = layouts[buffer];
    const strides = stridesOf(dims, extents);
    const data = buffers.get(buffer) as TypedArray;
    return Number(data[dims.reduce((n, d, i) => n + (at[d] ?? 0) * strides[i], 0)]);
  };
  const out = new Float64Array(layouts.y.reduce((n, d) => n * extents[d], 1));
  const strides = stridesOf(layouts.y, extents);
  const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
  for (const b of range(x.batch))
    for (const h of range(x.heads))
      for (const g of range(x.group))
        for (const s of range(x.queries)) {
          const scores = range(x.keys).map((t) => {
            let dot = 0;
            for (const d of range(x.inner)) dot += read('q', { b, h, g, s, d }) * read('k', { b, h, t, d });
            const scaled = dot * Math.fround(x.scale);
            if (x.mask === 'none') return scaled;
            const mask = read('mask', { b, h, g, s, t });
            return x.mask === 'bool' ? (mask ? scaled : Number.NEGATIVE_INFINITY) : scaled + mask;
          });
          const most = scores.reduce((p, q) => Math.max(p, q), Number.NEGATIVE_INFINITY);
          const exps = scores.map((score) => Math.exp(score - most));
          const sum = exps.reduce((p, q) => p + q, 0);
          const weights = exps.map((p) => (Number.isNaN(p / sum) && x.empty === 'zero' ? 0 : p / sum));
          for (const e of range(x.value)) {
            let acc = 0;
            for (const t of range(x.keys)) acc += weights[t] * read('v', { b, h, t, e });
            const y = x.epilogue === 'none' ? acc : Math.max(acc + read('bias', { e }), 0);
            const at = { b, h, g, s, e } as Partial<Record<Dim, number>>;
            out[layouts.y.reduce((n, d, i) => n + (at[d] as number) * strides[i], 0)] = y;
          }
        }
  return out;
}
