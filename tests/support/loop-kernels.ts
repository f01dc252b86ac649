/**
 * Kernels that are no contracts, over a tensor of h × w × c: what elementwise work, pooling, softmax, norms, transposes and gathers
 * are lowered to.
 */
import type { DType } from '../../src/core/dtype.ts';
import * as e from '../../src/loop/expr.ts';
import type { Axis, Buffer, Expr, Kernel, Stmt } from '../../src/loop/ir.ts';

export type Extents = readonly [number, number, number];

const buffer = (name: string, dtype: DType, elements: number, role: Buffer['role'] = 'in'): Buffer => ({
  name,
  dtype,
  elements,
  role,
});
const axes = ([h, w, c]: Extents): Axis[] => [
  { name: 'h', extent: h },
  { name: 'w', extent: w },
  { name: 'c', extent: c },
];
const at = (...terms: (readonly [Expr, number])[]): Expr =>
  terms.reduce<Expr>((sum, [x, stride]) => e.add(sum, e.mul(x, e.index(stride))), e.index(0));
const f32 = (value: number) => e.constant('f32', value);
const [h, w, c] = ['h', 'w', 'c'].map(e.axis);
const place = ([, W, C]: Extents): Expr => at([h, W * C], [w, C], [c, 1]);
const size = ([H, W, C]: Extents): number => H * W * C;

/** y = max(x·x + b[c], 0.5), optionally into every second element or with channels outermost. */
function map(s: Extents): Kernel {
  const x = e.load('x', 'f32', place(s));
  const value = e.max(e.add(e.mul(x, x), e.load('b', 'f32', c)), f32(0.5));
  return {
    name: 'map',
    form: { kind: 'map' },
    buffers: [buffer('x', 'f32', size(s)), buffer('b', 'f32', s[2]), buffer('y', 'f32', size(s), 'out')],
    axes: axes(s),
    body: [{ kind: 'store', buffer: 'y', index: place(s), value }],
  };
}

/** x into its place among the channels of a wider tensor, as concat does. */
function intoPart(s: Extents): Kernel {
  const [, W, C] = s;
  const wide = 2 * C + 3;
  const index = e.add(at([h, W * wide], [w, wide], [c, 1]), e.index(C + 1));
  // The rest of y is another kernel's; here every element must be written for the test to compare it.
  const others = { name: 'q', extent: wide };
  const clear: Stmt = {
    kind: 'if',
    cond: e.binary('eq', c, e.index(0)),
    body: [
      {
        kind: 'for',
        axis: others,
        body: [
          {
            kind: 'if',
            cond: e.binary(
              'or',
              e.binary('lt', e.axis('q'), e.index(C + 1)),
              e.binary('ge', e.axis('q'), e.index(2 * C + 1)),
            ),
            body: [
              { kind: 'store', buffer: 'y', index: at([h, W * wide], [w, wide], [e.axis('q'), 1]), value: f32(1) },
            ],
          },
        ],
      },
    ],
  };
  return {
    name: 'into part',
    form: { kind: 'move' },
    buffers: [buffer('x', 'f32', size(s)), buffer('y', 'f32', s[0] * W * wide, 'out')],
    axes: axes(s),
    body: [clear, { kind: 'store', buffer: 'y', index, value: e.load('x', 'f32', place(s)) }],
  };
}

/** y = x + z with channels outermost, in the order in which it is written: no axis is contiguous in most of its accesses. */
function transposedSum(s: Extents): Kernel {
  const [H, W, C] = s;
  return {
    name: 'transposed_sum',
    form: { kind: 'map' },
    buffers: [buffer('x', 'f32', size(s)), buffer('z', 'f32', size(s)), buffer('y', 'f32', size(s), 'out')],
    axes: [
      { name: 'c', extent: C },
      { name: 'h', extent: H },
      { name: 'w', extent: W },
    ],
    body: [
      {
        kind: 'store',
        buffer: 'y',
        index: at([c, H * W], [h, W], [w, 1]),
        value: e.add(e.load('x', 'f32', place(s)), e.load('z', 'f32', place(s))),
      },
    ],
  };
}

function transpose(s: Extents): Kernel {
  const [H, W] = s;
  return {
    name: 'transpose',
    form: { kind: 'move' },
    buffers: [buffer('x', 'f32', size(s)), buffer('y', 'f32', size(s), 'out')],
    axes: [axes(s)[2], axes(s)[0], axes(s)[1]],
    body: [{ kind: 'store', buffer: 'y', index: at([c, H * W], [h, W], [w, 1]), value: e.load('x', 'f32', place(s)) }],
  };
}

/** 3×3 pooling with padding 1: guards that do not depend on the lanes, or (channels outermost) do. */
function pool(s: Extents, layout: 'last' | 'first'): Kernel {
  const [H, W, C] = s;
  const y = e.add(e.add(h, e.axis('i')), e.index(-1));
  const x = e.add(e.add(w, e.axis('j')), e.index(-1));
  const inside = e.binary('and', e.inRange(y, H), e.inRange(x, W));
  const from = layout === 'last' ? at([y, W * C], [x, C], [c, 1]) : at([c, H * W], [y, W], [x, 1]);
  const to = layout === 'last' ? place(s) : at([c, H * W], [h, W], [w, 1]);
  const value = e.select(inside, e.load('x', 'f32', from), f32(Number.NEGATIVE_INFINITY));
  return {
    name: `pool channels ${layout}`,
    form: { kind: 'reduce' },
    buffers: [buffer('x', 'f32', size(s)), buffer('y', 'f32', size(s), 'out')],
    axes: layout === 'last' ? axes(s) : [axes(s)[2], axes(s)[0], axes(s)[1]],
    body: [
      {
        kind: 'reduce',
        local: 'm',
        dtype: 'f32',
        op: 'max',
        axes: [
          { name: 'i', extent: 3 },
          { name: 'j', extent: 3 },
        ],
        value,
      },
      { kind: 'store', buffer: 'y', index: to, value: e.local('m', 'f32') },
    ],
  };
}

function softmax(s: Extents): Kernel {
  const [, W, C] = s;
  const element = (j: string) => e.load('x', 'f32', at([h, W * C], [w, C], [e.axis(j), 1]));
  const shifted = (j: string) => e.unary('exp', e.sub(element(j), e.local('m', 'f32')));
  const last = { name: 'c2', extent: C };
  return {
    name: 'softmax',
    form: { kind: 'reduce' },
    buffers: [buffer('x', 'f32', size(s)), buffer('y', 'f32', size(s), 'out')],
    axes: axes(s).slice(0, 2),
    body: [
      { kind: 'reduce', local: 'm', dtype: 'f32', op: 'max', axes: [{ name: 'c0', extent: C }], value: element('c0') },
      { kind: 'reduce', local: 's', dtype: 'f32', op: 'add', axes: [{ name: 'c1', extent: C }], value: shifted('c1') },
      {
        kind: 'for',
        axis: last,
        body: [
          {
            kind: 'store',
            buffer: 'y',
            index: at([h, W * C], [w, C], [e.axis('c2'), 1]),
            value: e.div(shifted('c2'), e.local('s', 'f32')),
          },
        ],
      },
    ],
  };
}

/** Mean over h and w for each channel; the reduced axes merge into one. */
function globalMean(s: Extents): Kernel {
  return {
    name: 'global mean',
    form: { kind: 'reduce' },
    buffers: [buffer('x', 'f32', size(s)), buffer('y', 'f32', s[2], 'out')],
    axes: [axes(s)[2]],
    body: [
      {
        kind: 'reduce',
        local: 's',
        dtype: 'f32',
        op: 'add',
        axes: axes(s).slice(0, 2),
        value: e.load('x', 'f32', place(s)),
      },
      { kind: 'store', buffer: 'y', index: c, value: e.div(e.local('s', 'f32'), f32(Math.max(1, s[0] * s[1]))) },
    ],
  };
}

/** Rows of a table picked by i64 indices. */
function gather(s: Extents): Kernel {
  const row = e.cast('i32', e.binary('mod', e.load('i', 'i64', h), e.constant('i64', 5)));
  return {
    name: 'gather',
    form: { kind: 'move' },
    buffers: [buffer('i', 'i64', s[0]), buffer('x', 'f32', 5 * s[1] * s[2]), buffer('y', 'f32', size(s), 'out')],
    axes: axes(s),
    body: [
      {
        kind: 'store',
        buffer: 'y',
        index: place(s),
        value: e.load('x', 'f32', at([row, s[1] * s[2]], [w, s[2]], [c, 1])),
      },
    ],
  };
}

/** A running sum along c: carried from one iteration to the next. */
function cumulativeSum(s: Extents): Kernel {
  const index = at([h, s[1] * s[2]], [w, s[2]], [c, 1]);
  const sum = e.local('s', 'f32');
  return {
    name: 'cumulative sum',
    form: { kind: 'routine', name: 'cumsum' },
    buffers: [buffer('x', 'f32', size(s)), buffer('y', 'f32', size(s), 'out')],
    axes: axes(s).slice(0, 2),
    body: [
      { kind: 'let', local: 's', dtype: 'f32', value: f32(0) },
      {
        kind: 'scan',
        axis: axes(s)[2],
        body: [
          { kind: 'let', local: 's', dtype: 'f32', value: e.add(sum, e.load('x', 'f32', index)) },
          { kind: 'store', buffer: 'y', index, value: sum },
        ],
      },
    ],
  };
}

/** As many of a row's elements as come before the running sum passes 2, and then one more if it is there; asked by a local and an element. */
function untilFull(s: Extents): Kernel {
  const index = at([h, s[1] * s[2]], [w, s[2]], [c, 1]);
  const [sum, count] = [e.local('s', 'f32'), e.local('n', 'i32')];
  const isMore = e.binary('and', e.binary('lt', sum, f32(2)), e.binary('lt', e.load('x', 'f32', index), f32(0.9)));
  return {
    name: 'until full',
    form: { kind: 'routine', name: 'until-full' },
    buffers: [
      buffer('x', 'f32', size(s)),
      buffer('y', 'f32', s[0] * s[1], 'out'),
      buffer('z', 'i32', s[0] * s[1], 'out'),
    ],
    axes: axes(s).slice(0, 2),
    body: [
      { kind: 'let', local: 's', dtype: 'f32', value: f32(0) },
      { kind: 'let', local: 'n', dtype: 'i32', value: e.index(0) },
      {
        kind: 'scan',
        axis: axes(s)[2],
        while: isMore,
        body: [
          { kind: 'let', local: 's', dtype: 'f32', value: e.add(sum, e.unary('abs', e.load('x', 'f32', index))) },
          {
            kind: 'scan',
            axis: { name: 'twice', extent: 1 },
            while: e.binary('gt', count, e.index(-1)),
            body: [{ kind: 'let', local: 'n', dtype: 'i32', value: e.add(count, e.index(1)) }],
          },
        ],
      },
      { kind: 'store', buffer: 'y', index: at([h, s[1]], [w, 1]), value: sum },
      { kind: 'store', buffer: 'z', index: at([h, s[1]], [w, 1]), value: count },
    ],
  };
}

/** f16 and u8 in, f16 and bool out. */
function mixed(s: Extents): Kernel {
  const x = e.cast('f32', e.load('x', 'f16', place(s)));
  const u = e.cast('f32', e.load('u', 'u8', place(s)));
  const sum = e.add(x, u);
  return {
    name: 'mixed dtypes',
    form: { kind: 'map' },
    buffers: [
      buffer('x', 'f16', size(s)),
      buffer('u', 'u8', size(s)),
      buffer('y', 'f16', size(s), 'out'),
      buffer('z', 'bool', size(s), 'out'),
    ],
    axes: axes(s),
    body: [
      { kind: 'store', buffer: 'y', index: place(s), value: e.cast('f16', sum) },
      { kind: 'store', buffer: 'z', index: place(s), value: e.binary('gt', sum, f32(3)) },
    ],
  };
}

/** A condition that differs by lane, and behind it work on one element that all lanes share. */
function maskedScalar(s: Extents): Kernel {
  const clamp = (x: Expr) => e.binary('max', e.binary('min', x, f32(2)), f32(-2));
  const condition = e.load('mask', 'bool', place(s));
  const shared = clamp(e.load('one', 'f32', e.index(0)));
  return {
    name: 'masked scalar',
    form: { kind: 'map' },
    buffers: [
      buffer('mask', 'bool', size(s)),
      buffer('x', 'f32', size(s)),
      buffer('one', 'f32', 1),
      buffer('y', 'f32', size(s), 'out'),
    ],
    axes: axes(s),
    body: [
      {
        kind: 'store',
        buffer: 'y',
        index: place(s),
        value: e.select(condition, clamp(e.load('x', 'f32', place(s))), shared),
      },
    ],
  };
}

export const loopKernels = (s: Extents): Kernel[] => [
  map(s),
  intoPart(s),
  transpose(s),
  transposedSum(s),
  pool(s, 'last'),
  pool(s, 'first'),
  softmax(s),
  globalMean(s),
  gather(s),
  cumulativeSum(s),
  untilFull(s),
  mixed(s),
  maskedScalar(s),
];
