/**
 * Views, joins, choices by index, and tensors made from sizes.
 */
import type { DType } from '../../core/dtype.ts';
import { fromNumbers } from '../../core/tensor.ts';
import type { Translation, TranslationTable } from './aten.ts';
import type { Call, Size } from './call.ts';

const same: Translation = (c) => c.cast(c.tensor(c.has('self') ? 'self' : 'input'), c.outputType().dtype);

/** `self` in the order of `perm`. */
const permuted = (c: Call, perm: readonly number[]): string => c.node('Transpose', [c.tensor('self')], { perm });

function swapped(c: Call, a: number, b: number): string {
  const perm = Array.from({ length: c.rank(c.tensor('self')) }, (_, i) => i);
  [perm[a], perm[b]] = [perm[b], perm[a]];
  return permuted(c, perm);
}

/** Sizes with at most one -1: Reshape says so too, but a 0 would mean "as before" there. */
function reshape(c: Call, sizes: readonly Size[]): string {
  const hasZero = sizes.some((size) => size === 0);
  return c.node('Reshape', [c.tensor('self'), c.vector(sizes)], hasZero ? { allowzero: true } : {});
}

function flatten(c: Call): string {
  const x = c.tensor('self');
  const rank = c.rank(x);
  if (rank === 0) return c.node('Reshape', [x, c.ints([1])]);
  const start = c.axis('start_dim', rank, 0);
  const end = c.axis('end_dim', rank, -1);
  const sizes = c.sizesOf(x);
  return reshape(c, [...sizes.slice(0, start), -1, ...sizes.slice(end + 1)]);
}

function unflatten(c: Call): string {
  const x = c.tensor('self');
  const axis = c.axis('dim', c.rank(x));
  const sizes = c.sizesOf(x);
  return reshape(c, [...sizes.slice(0, axis), ...c.sizes('sizes'), ...sizes.slice(axis + 1)]);
}

/** -1 keeps a dim; new dims come first. */
function expand(c: Call): string {
  const x = c.tensor('self');
  const sizes = c.sizes('size');
  const missing = sizes.length - c.rank(x);
  return c.node('Expand', [x, c.vector(sizes.map((size, i) => (size === -1 && i >= missing ? 1 : size)))]);
}

function squeeze(c: Call): string {
  const x = c.tensor('self');
  const { shape } = c.type(x);
  const asked = c.has('dim') ? c.axes('dim', shape.length) : shape.map((_, i) => i);
  const axes = asked.filter((axis) => shape[axis] === 1);
  return axes.length === 0 ? x : c.node('Squeeze', [x, c.ints(axes)]);
}

const unsqueeze: Translation = (c) => {
  const x = c.tensor('self');
  return c.node('Unsqueeze', [x, c.ints([c.axis('dim', c.rank(x) + 1)])]);
};

/** Dims `source` go to the places `destination`; the others keep their order. */
const movedim: Translation = (c) => {
  const rank = c.rank(c.tensor('self'));
  const source = c.axes('source', rank);
  const destination = c.axes('destination', rank);
  const others = Array.from({ length: rank }, (_, i) => i).filter((axis) => !source.includes(axis));
  return permuted(
    c,
    Array.from({ length: rank }, (_, i) => {
      const moved = destination.indexOf(i);
      return moved < 0 ? (others.shift() ?? 0) : source[moved];
    }),
  );
};

/** Each vector along its own axis of the grid, repeated along the others; `xy` has the first two axes the other way round. */
const meshgrid: Translation = (c) => {
  const vectors = c.tensors('tensors');
  const rank = vectors.length;
  const places = vectors.map((_, i) => i);
  if (c.text('indexing', 'ij') === 'xy') [places[0], places[1]] = [1, 0];
  const sizes = places.map((place) => c.sizesOf(vectors[place])[0] ?? 1);
  return vectors.map((vector, i) => {
    const shape = Array.from({ length: rank }, (_, axis) => (places[axis] === i ? -1 : 1));
    return c.node('Expand', [c.node('Reshape', [vector, c.ints(shape)]), c.vector(sizes)]);
  });
};

const select: Translation = (c) => {
  const x = c.tensor('self');
  const index = c.size('index');
  const at = typeof index === 'number' ? c.scalar(index, 'i64') : c.node('Squeeze', [index.value]);
  return c.node('Gather', [x, at], { axis: c.axis('dim', c.rank(x)) });
};

/** As far as ONNX goes: beyond every size. */
const TO_THE_END = 2 ** 53 - 1;

function slice(c: Call, start: Size, end: Size, step: number): string {
  const x = c.tensor('self');
  const axis = c.axis('dim', c.rank(x), 0);
  const bounded = (size: Size): Size => (typeof size === 'number' ? Math.min(size, TO_THE_END) : size);
  if (start === 0 && step === 1 && typeof end === 'number' && end >= TO_THE_END) return x;
  return c.node('Slice', [x, c.vector([bounded(start)]), c.vector([bounded(end)]), c.ints([axis]), c.ints([step])]);
}

const sliced: Translation = (c) =>
  slice(c, c.has('start') ? c.size('start') : 0, c.has('end') ? c.size('end') : TO_THE_END, c.number('step', 1));

const narrow: Translation = (c) => {
  const start = c.number('start');
  return slice(c, start, start + c.number('length'), 1);
};

/** Pieces of `size`, the last one smaller; as many as the program names. */
function pieces(c: Call, total: number, size: number): number[] {
  const count = Math.max(1, Math.ceil(total / size));
  if (count !== c.outputCount) return c.fail(`${total} elements in pieces of ${size} are not ${c.outputCount} pieces`);
  return Array.from({ length: count }, (_, i) => Math.min(size, total - i * size));
}

function splitInto(c: Call, sizes: (total: number) => readonly number[], name = 'self'): readonly string[] {
  const x = c.tensor(name);
  const axis = c.axis('dim', c.rank(x), 0);
  const parts = sizes(c.staticDim(x, axis));
  return c.nodes('Split', [x, c.ints(parts)], parts.length, { axis });
}

const unbind: Translation = (c) => {
  const x = c.tensor('self');
  const axis = c.axis('dim', c.rank(x), 0);
  const count = c.staticDim(x, axis);
  if (count !== c.outputCount) return c.fail(`${count} elements are not ${c.outputCount} pieces`);
  return Array.from({ length: count }, (_, i) => c.node('Gather', [x, c.scalar(i, 'i64')], { axis }));
};

const concat: Translation = (c) => {
  const { dtype } = c.outputType();
  const all = c.tensors('tensors');
  // An empty vector joins with anything.
  const parts = all.filter((part) => c.type(part).shape.join() !== '0' || all.length === 1);
  return c.node(
    'Concat',
    parts.map((part) => c.cast(part, dtype)),
    { axis: c.axis('dim', c.rank(parts[0]), 0) },
  );
};

const stack: Translation = (c) => {
  const { dtype } = c.outputType();
  const parts = c.tensors('tensors');
  const axis = c.axis('dim', c.rank(parts[0]) + 1, 0);
  const lifted = parts.map((part) => c.node('Unsqueeze', [c.cast(part, dtype), c.ints([axis])]));
  return c.node('Concat', lifted, { axis });
};

/** `x` from its end to its start along each axis. */
const flip: Translation = (c) => {
  const x = c.tensor('self');
  const axes = c.axes('dims', c.rank(x));
  const all = (value: number): string => c.ints(axes.map(() => value));
  return c.node('Slice', [x, all(-1), all(-TO_THE_END), c.ints(axes), all(-1)]);
};

const roll: Translation = (c) => {
  let x = c.tensor('self');
  const axes = c.axes('dims', c.rank(x));
  if (axes.length === 0) return c.fail('a roll over all elements is not translated');
  for (const [i, shift] of c.numbers('shifts', []).entries()) {
    const axis = axes[i];
    const size = c.staticDim(x, axis);
    const cut = size === 0 ? 0 : ((-shift % size) + size) % size;
    if (cut === 0) continue;
    const [head, tail] = c.nodes('Split', [x, c.ints([cut, size - cut])], 2, { axis });
    x = c.node('Concat', [tail, head], { axis });
  }
  return x;
};

const repeat: Translation = (c) => {
  const x = c.tensor('self');
  const repeats = c.sizes('repeats');
  const missing = repeats.length - c.rank(x);
  const lifted = missing > 0 ? c.node('Unsqueeze', [x, c.ints(Array.from({ length: missing }, (_, i) => i))]) : x;
  return c.node('Tile', [lifted, c.vector(repeats)]);
};

const triangle =
  (upper: boolean): Translation =>
  (c) => {
    const diagonal = c.number('diagonal', 0);
    const x = c.tensor('self');
    return c.node('Trilu', diagonal === 0 ? [x] : [x, c.scalar(diagonal, 'i64')], { upper });
  };

const full =
  (value: (c: Call) => number): Translation =>
  (c) =>
    c.filled(c.sizes('size'), value(c), c.outputType().dtype);
const fullLike =
  (value: (c: Call) => number): Translation =>
  (c) =>
    c.filled(c.sizesOf(c.tensor('self')), value(c), c.outputType().dtype);
const fillValue = (c: Call): number => c.number('fill_value');
const zero = (): number => 0;
const one = (): number => 1;

const arange: Translation = (c) => {
  const { dtype } = c.outputType();
  const bound = (name: string, absent: number): string =>
    c.has(name) ? c.operand(name, dtype) : c.scalar(absent, dtype);
  return c.node('Range', [bound('start', 0), bound('end', 0), bound('step', 1)]);
};

/** Of a linspace: they are all written out. */
const MOST_STEPS = 1 << 20;

const toDType: Translation = (c) => {
  const to: DType = c.dtype('dtype') ?? c.outputType().dtype;
  return c.cast(c.tensor('self'), to);
};

export const SHAPES: TranslationTable = {
  alias: same,
  clone: same,
  contiguous: same,
  detach: same,
  lift_fresh_copy: same,
  dropout: (c) => (c.bool('train', false) ? c.fail('it is in training mode') : same(c)),
  feature_dropout: (c) => (c.bool('train', false) ? c.fail('it is in training mode') : same(c)),
  to: toDType,
  _to_copy: toDType,
  type_as: toDType,
  _assert_tensor_metadata: () => [],
  _assert_scalar: () => [],
  sym_constrain_range_for_size: () => [],
  sym_size: (c) => {
    const x = c.tensor('self');
    const axis = c.axis('dim', c.rank(x));
    const dim = c.dim(x, axis);
    return { size: typeof dim === 'number' ? dim : { value: c.node('Shape', [x], { start: axis, end: axis + 1 }) } };
  },

  view: (c) => reshape(c, c.sizes('size')),
  _unsafe_view: (c) => reshape(c, c.sizes('size')),
  reshape: (c) => reshape(c, c.sizes('shape')),
  flatten,
  unflatten,
  ravel: flatten,
  expand,
  expand_as: (c) => c.node('Expand', [c.tensor('self'), c.vector(c.sizesOf(c.tensor('other')))]),
  squeeze,
  unsqueeze,
  permute: (c) => permuted(c, c.axes('dims', c.rank(c.tensor('self')))),
  transpose: (c) => {
    const rank = c.rank(c.tensor('self'));
    return swapped(c, c.axis('dim0', rank), c.axis('dim1', rank));
  },
  swapaxes: (c) => {
    const rank = c.rank(c.tensor('self'));
    return swapped(c, c.axis('axis0', rank), c.axis('axis1', rank));
  },
  movedim,
  meshgrid,
  t: (c) => (c.rank(c.tensor('self')) < 2 ? c.tensor('self') : permuted(c, [1, 0])),
  numpy_T: (c) => permuted(c, Array.from({ length: c.rank(c.tensor('self')) }, (_, i) => i).reverse()),
  select,
  slice: sliced,
  narrow,
  split: (c) => splitInto(c, (total) => pieces(c, total, c.number('split_size'))),
  split_with_sizes: (c) => splitInto(c, () => c.numbers('split_sizes', [])),
  chunk: (c) => splitInto(c, (total) => pieces(c, total, Math.max(1, Math.ceil(total / c.number('chunks'))))),
  unbind,
  cat: concat,
  stack,
  flip,
  roll,
  repeat,
  tril: triangle(false),
  triu: triangle(true),

  full: full(fillValue),
  zeros: full(zero),
  ones: full(one),
  empty: full(zero),
  full_like: fullLike(fillValue),
  zeros_like: fullLike(zero),
  ones_like: fullLike(one),
  empty_like: fullLike(zero),
  new_zeros: full(zero),
  new_ones: full(one),
  new_full: full(fillValue),
  scalar_tensor: (c) => c.scalar(c.number('s'), c.outputType().dtype),
  arange,
  linspace: (c) => {
    const [start, end, steps] = ['start', 'end', 'steps'].map((name) => c.number(name));
    if (!(steps >= 0 && steps <= MOST_STEPS)) return c.fail(`${steps} steps`);
    const step = steps > 1 ? (end - start) / (steps - 1) : 0;
    return c.constant(
      fromNumbers(
        c.outputType().dtype,
        [steps],
        Array.from({ length: steps }, (_, i) => start + i * step),
      ),
    );
  },
};
